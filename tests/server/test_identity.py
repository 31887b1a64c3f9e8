"""On whose behalf a request is made, and that no header can do harm."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.auth.identity import ANONYMOUS, Identity, user_identity
from reactor.errors import AuthProviderUnavailable, Error, Unauthenticated
from reactor.server.http.errors import error_body, status_of
from reactor.server.http.identity import identity, identity_or_anonymous
from tests.server.fakes import ADMIN_KEY, check_admin, refuse_every_token

T = TypeVar("T")


def outcome(act: Callable[..., T], *args: object) -> T | Error:
    try:
        return act(*args)
    except Error as error:
        return error


AUTHORIZATION = st.one_of(
    st.text(),
    st.text().map("Bearer ".__add__),
    st.text().map("Convex ".__add__),
    st.text().map(f"convex {ADMIN_KEY}:".__add__),
    st.binary().map(lambda data: f"Convex {ADMIN_KEY}:{data.hex()}"),
    st.text(max_size=80).map(lambda text: f"Convex prod:{text}|00"),
)


@given(st.none() | AUTHORIZATION, st.none() | st.text() | st.just(ADMIN_KEY))
def test_any_authorization_gives_an_identity_or_an_http_error(authorization: str | None, key: str | None) -> None:
    found = outcome(asyncio.run, identity(authorization, key, check_admin, refuse_every_token))
    if isinstance(found, Error):
        assert status_of(found) in (400, 401, 403)
        assert error_body(found)
    else:
        assert found.kind in ("none", "admin")
        assert found.kind == "none" or ADMIN_KEY in f"{authorization} {key}"


ANN = user_identity({"subject": "ann"})


async def identify(token: str) -> Identity:
    if token == "ann":
        return ANN
    if token == "later":
        raise AuthProviderUnavailable("Auth provider discovery of https://i failed")
    raise Unauthenticated("InvalidAuthHeader", "Could not parse JWT payload.")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_is_that_of_its_user(scheme: str) -> None:
    for found in (identity(f"{scheme} ann", None, check_admin, identify), anonymous_or(f"{scheme} ann")):
        assert asyncio.run(found) is ANN


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_an_admin_key_is_no_token(scheme: str) -> None:
    with pytest.raises(Unauthenticated):
        asyncio.run(identity(f"{scheme} {ADMIN_KEY}", None, check_admin, identify))


def anonymous_or(authorization: str | None) -> Coroutine[Any, Any, Identity]:
    return identity_or_anonymous(authorization, check_admin, identify)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer x.y.z", "Basic YTpi", "Convex bad|key", f"Convex {ADMIN_KEY}:%%"]
)
def test_a_header_for_somebody_else_is_nobodys(authorization: str | None) -> None:
    assert asyncio.run(anonymous_or(authorization)) is ANONYMOUS


def test_a_header_that_may_be_good_is_not_taken_for_nobodys() -> None:
    assert asyncio.run(anonymous_or(f"Convex {ADMIN_KEY}")).kind == "admin"
    with pytest.raises(AuthProviderUnavailable):
        asyncio.run(anonymous_or("Bearer later"))
