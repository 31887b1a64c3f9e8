"""Tokens to identities: at once where that is possible, and by the configuration as it is now."""

import asyncio
import base64
from typing import Any

import pytest

from reactor.auth.authenticator import Authenticator
from reactor.auth.config import AuthConfig, auth_config, custom_jwt
from reactor.auth.identity import Identity
from reactor.errors import AuthConfigInvalid, AuthProviderUnavailable, Error, Unauthenticated
from reactor.limits import Limits
from reactor.testing.clock import VirtualClock
from tests.auth.issuer import jwks, public_jwk, sign
from tests.auth.test_config import Variable

pytestmark = pytest.mark.asyncio
KEYS = "data:;base64," + base64.b64encode(jwks(public_jwk("EdDSA"))).decode()


class World:
    """An authenticator whose issuers never answer; keys in the configuration are there at once."""

    def __init__(self, config: AuthConfig | None, *, redact: bool = False) -> None:
        self.clock = VirtualClock()
        self.config = config
        self.environment: dict[str, str] = {}
        self.answers: list[Identity | Error] = []
        self.authenticator = Authenticator(
            lambda: self.config, lambda: self.environment, self.fetch, self.clock, Limits(), redact=redact
        )

    async def fetch(self, address: str, /) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    def token(self, issuer: str = "https://a", subject: str = "ann") -> str:
        return sign({"iss": issuer, "sub": subject, "exp": self.clock.now_ns() // 10**9 + 60}, "EdDSA")

    async def subject(self, token: str) -> Any:
        claims = (await self.authenticator.identify(token)).claims
        assert claims is not None
        return claims["subject"]


def provider(issuer: Any, keys: Any = KEYS) -> AuthConfig:
    return auth_config([custom_jwt(issuer=issuer, jwks=keys, algorithm="EdDSA")])


async def test_what_is_known_is_answered_from_inside_the_call() -> None:
    world = World(provider("https://a"))
    world.authenticator.submit("x", world.answers.append)
    assert isinstance(world.answers.pop(), Unauthenticated)
    await world.subject(world.token())
    world.authenticator.submit(world.token(subject="bob"), world.answers.append)()
    (answer,) = world.answers
    assert isinstance(answer, Identity)
    assert answer.claims == {"subject": "bob", "issuer": "https://a", "tokenIdentifier": "https://a|bob"}
    assert answer.expires_ns == world.clock.now_ns() + 65 * 10**9


async def test_who_does_not_wait_any_more_is_not_called() -> None:
    world = World(provider("https://a", "https://a/keys"))
    cancel = world.authenticator.submit(world.token(), world.answers.append)
    world.authenticator.submit(world.token(), world.answers.append)
    waiting = asyncio.ensure_future(world.authenticator.identify(world.token()))
    await asyncio.sleep(0)
    cancel()
    await world.authenticator.close()
    with pytest.raises(AuthProviderUnavailable):
        await waiting
    assert world.answers == []


async def test_the_environment_may_change() -> None:
    world = World(provider(Variable("ISSUER"), Variable("KEYS")))
    world.environment = {"ISSUER": "https://a", "KEYS": KEYS}
    assert await world.subject(world.token()) == "ann"
    world.environment = {"ISSUER": "https://b", "KEYS": KEYS}
    with pytest.raises(Unauthenticated, match="No auth provider found"):
        await world.subject(world.token())
    assert await world.subject(world.token("https://b")) == "ann"
    world.environment = {"ISSUER": "https://b"}
    with pytest.raises(AuthConfigInvalid, match="KEYS, which is not set"):
        await world.subject(world.token("https://b"))


async def test_names_of_variables_are_not_for_everybody() -> None:
    world = World(provider(Variable("ISSUER")), redact=True)
    with pytest.raises(AuthConfigInvalid) as refused:
        await world.authenticator.identify(world.token())
    assert refused.value.rule == "AuthConfigMissingEnvironmentVariable"
    assert "ISSUER" not in str(refused.value)


async def test_the_configuration_may_change() -> None:
    world = World(None)
    for config, issuer in [(provider("https://a"), "https://a"), (provider("https://b"), "https://b")]:
        with pytest.raises(Unauthenticated, match="No auth provider found"):
            await world.subject(world.token(issuer))
        world.config = config
        assert await world.subject(world.token(issuer)) == "ann"
    world.config = None
    with pytest.raises(Unauthenticated, match="no providers configured"):
        await world.subject(world.token("https://b"))


async def test_claims_may_be_nested() -> None:
    world = World(provider("https://a"))
    claims: Any = []
    for _ in range(400):
        claims = [claims]
    now = world.clock.now_ns() // 10**9
    token = sign({"iss": "https://a", "sub": "ann", "exp": now + 60, "deep": claims}, "EdDSA")
    assert await world.subject(token) == "ann"
