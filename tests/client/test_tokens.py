"""Tokens, addresses and waiting times: the small rules of the client."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.client.tokens import MAX_REFRESH_SECONDS, Tokens, refresh_delay


def jwt(claims: Any) -> str:
    return "h." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".s"


@pytest.mark.parametrize(
    ("claims", "delay"),
    [
        ({"iat": 1000, "exp": 1060}, 50.0),
        ({"iat": 1000, "exp": 1005}, 2.0),
        ({"iat": 1000, "exp": 1002}, None),
        ({"iat": 0, "exp": 10**12}, MAX_REFRESH_SECONDS),
        ({"exp": 1060}, None),
        ({"iat": "x", "exp": 1060}, None),
        ([], None),
    ],
)
def test_a_token_is_replaced_before_it_expires(claims: Any, delay: float | None) -> None:
    assert refresh_delay(jwt(claims)) == delay


@given(st.text())
def test_any_text_may_be_a_token(text: str) -> None:
    assert refresh_delay(text) is None


async def fetch(*, force_refresh: bool) -> str | None:
    return None


def test_a_callable_is_asked_a_few_times_and_again_after_a_success() -> None:
    tokens = Tokens(fetch)
    assert [tokens.refused() for _ in range(4)] == [True, True, True, False]
    tokens.accepted()
    assert tokens.refused()


def test_a_fixed_token_is_given_up_at_once() -> None:
    assert Tokens("jwt").current == "jwt"
    assert not Tokens("jwt").refused()
