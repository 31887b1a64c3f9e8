"""Upload tokens: good for one instance and component, for an hour, and impossible to make up."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.auth.upload_token import VALID_SECONDS, UploadTokens
from reactor.engine.sealing import Sealer
from reactor.errors import InvalidUploadToken
from tests.values.strategies import law

SECRET = b"s" * 32
HERE = UploadTokens("my-app", SECRET)
NOW = 1_800_000_000_000_000_000
HOUR = VALID_SECONDS * 10**9


def refusal(token: str, now_ns: int = NOW, tokens: UploadTokens = HERE) -> str:
    with pytest.raises(InvalidUploadToken) as refused:
        tokens.check(token, now_ns)
    assert refused.value.status == 401
    return refused.value.rule


@law
@given(component=st.text(), age=st.integers(0, HOUR - 1))
def test_a_token_is_good_for_its_component_for_an_hour(component: str, age: int) -> None:
    token = HERE.issue(NOW, component)
    assert UploadTokens("my-app", SECRET).check(token, NOW + age) == component
    assert refusal(token, NOW + HOUR + age) == "StorageTokenExpired"


def test_the_text_of_an_expired_one() -> None:
    with pytest.raises(InvalidUploadToken, match=r"^Store File Authorization expired$"):
        HERE.check(HERE.issue(NOW, ""), NOW + HOUR)


def test_a_token_of_another_deployment() -> None:
    token = HERE.issue(NOW, "")
    assert refusal(token, tokens=UploadTokens("other-app", SECRET)) == "InvalidStorageToken"
    assert refusal(token, tokens=UploadTokens("my-app", b"t" * 32)) == "StorageTokenInvalid"


@law
@given(data=st.data())
def test_no_character_of_a_token_can_be_changed(data: Any) -> None:
    token = HERE.issue(NOW, "a/b")
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda char: char != token[at]))
    assert refusal(token[:at] + other + token[at + 1 :]) == "StorageTokenInvalid"
    assert refusal(token[:at]) == "StorageTokenInvalid"


@law
@given(text=st.text(max_size=100))
def test_any_other_text_is_no_token(text: str) -> None:
    assert refusal(text) == "StorageTokenInvalid"


def test_what_was_sealed_for_another_purpose_is_no_token() -> None:
    token = HERE.issue(NOW, "")
    content = Sealer(SECRET, b"reactor uploads").unseal(token)
    assert content is not None
    assert refusal(Sealer(SECRET, b"reactor cursor").seal(content)) == "StorageTokenInvalid"
    assert refusal(Sealer(SECRET, b"reactor uploads").seal(content, b"context")) == "StorageTokenInvalid"
