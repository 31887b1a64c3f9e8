"""Keys of issuers: fetched once for all who wait, again when a key is unknown or old, and never too often."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from reactor.auth.config import Provider
from reactor.auth.fetching import FetchFailed
from reactor.auth.jwks import Issuers, KeySource, jwks_address
from reactor.auth.keys import KeySet, read_keys
from reactor.errors import AuthProviderFailed, AuthProviderUnavailable, Error, Unauthenticated
from reactor.limits import MAX_AUTH_KEYS, Limits
from tests.auth.issuer import DISCOVERY, jwks, public_jwk

ISSUER = "https://issuer.example"
OIDC = Provider("oidc", ISSUER, ("RS256",), "app")
CUSTOM = Provider("customJwt", ISSUER, ("RS256",), None, "https://keys.example/jwks")
LIMITS = Limits(auth_keys_seconds=300, auth_keys_max_seconds=3600, auth_retry_seconds=2, auth_fetch_seconds=10)

pytestmark = pytest.mark.asyncio


class World:
    """A network that answers when the test says so, and time that passes only in sleeps and when told."""

    def __init__(self, provider: Provider = CUSTOM, **limits: Any) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self.kids = ["a"]
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.slept: list[float] = []
        self.issuers = Issuers(self.fetch, lambda: self.now, LIMITS, self.sleep)
        self.source: KeySource = self.issuers.source(provider)

    async def fetch(self, address: str, /) -> bytes:
        self.asked.append(address)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if address.endswith(DISCOVERY):
            return json.dumps({"issuer": ISSUER, "jwks_uri": "https://keys.example/jwks"}).encode()
        return jwks(*(public_jwk("RS256", kid=kid) for kid in self.kids))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self.now + seconds
        await turns()
        self.now = max(self.now, until)

    async def has(self, kid: str) -> bool:
        """Whether a token signed with this key would be taken."""

        def knows(keys: KeySet) -> bool:
            return keys.find(kid, ("RS256",)) is not None

        keys = self.source.current()
        if keys is not None and knows(keys):
            return True
        return knows(await self.source.fetched(knows))


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("provider", "fetches"), [(OIDC, 2), (CUSTOM, 1)])
async def test_all_who_wait_share_one_fetch(provider: Provider, fetches: int) -> None:
    world = World(provider)
    world.gate.clear()
    waiting = [asyncio.ensure_future(world.has("a")) for _ in range(50)]
    await turns()
    world.gate.set()
    assert await asyncio.gather(*waiting) == [True] * 50
    assert len(world.asked) == fetches
    assert await world.has("a")
    assert len(world.asked) == fetches


async def test_an_unknown_key_is_fetched_once_more_and_not_too_soon() -> None:
    world = World()
    assert await world.has("a")
    world.kids = ["b"]
    assert await world.has("b")
    assert world.slept == [LIMITS.auth_retry_seconds]
    assert not await world.has("c")
    assert not await world.has("a"), "a key that was taken back is good no more"
    assert len(world.asked) == 4


async def test_many_unknown_keys_share_the_next_fetch() -> None:
    world = World()
    assert await world.has("a")
    assert not any(await asyncio.gather(*(world.has(f"x{number}") for number in range(100))))
    assert len(world.asked) == 2


async def test_keys_fetched_meanwhile_are_enough() -> None:
    """Who comes while a fetch is under way needs no second one, if that brings its key."""
    world = World()
    assert await world.has("a")
    world.now += 10
    world.kids = ["b"]
    world.gate.clear()
    first = asyncio.ensure_future(world.has("b"))
    await turns()
    second = asyncio.ensure_future(world.has("b"))
    third = asyncio.ensure_future(world.has("c"))
    await turns()
    world.gate.set()
    assert await asyncio.gather(first, second, third) == [True, True, False]
    assert len(world.asked) == 3


async def test_old_keys_are_replaced_in_the_background() -> None:
    world = World()
    assert await world.has("a")
    world.now += LIMITS.auth_keys_seconds
    world.kids = ["b"]
    world.gate.clear()
    assert await world.has("a")
    await turns()
    assert len(world.asked) == 2
    assert await world.has("a")
    world.gate.set()
    await turns()
    assert await world.has("b")
    assert len(world.asked) == 2


async def test_an_issuer_that_is_down_is_missed_only_when_its_keys_are_too_old() -> None:
    world = World()
    assert await world.has("a")
    world.failure = FetchFailed("refused", is_passing=True)
    for _ in range(12):
        world.now += LIMITS.auth_keys_seconds - 1
        assert await world.has("a")
        await turns()
    world.now += LIMITS.auth_keys_seconds
    with pytest.raises(AuthProviderUnavailable, match="refused"):
        await world.has("a")
    world.failure = None
    world.now += LIMITS.auth_retry_seconds
    assert await world.has("a")


async def test_a_failure_is_told_to_all_and_not_repeated_too_soon() -> None:
    world = World(OIDC)
    world.failure = FetchFailed("503 Service Unavailable", is_passing=True)
    answers = await asyncio.gather(*(world.has("a") for _ in range(20)), return_exceptions=True)
    text = "Auth provider discovery of https://issuer.example failed: 503 Service Unavailable"
    assert {(type(answer), str(answer)) for answer in answers} == {(AuthProviderUnavailable, text)}
    with pytest.raises(AuthProviderUnavailable):
        await world.has("a")
    assert len(world.asked) == 1
    world.now += LIMITS.auth_retry_seconds
    world.failure = None
    assert await world.has("a")


async def test_an_unknown_key_while_the_issuer_is_down_is_no_refusal() -> None:
    """It may be its new one: nothing is known about the token."""
    world = World()
    assert await world.has("a")
    world.now += 10
    world.failure = FetchFailed("refused", is_passing=True)
    with pytest.raises(AuthProviderUnavailable):
        await world.has("b")
    assert await world.has("a")


@pytest.mark.parametrize(
    ("provider", "kind", "rule", "text"),
    [
        (OIDC, AuthProviderFailed, None, "Auth provider discovery of https://issuer.example failed: 404 no"),
        (CUSTOM, Unauthenticated, "InvalidAuthHeader", "Could not fetch JWKS of https://issuer.example: 404 no"),
    ],
)
async def test_an_answer_that_can_not_be_used(
    provider: Provider, kind: type[Error], rule: str | None, text: str
) -> None:
    world = World(provider)
    world.failure = FetchFailed("404 no", is_passing=False)
    with pytest.raises(kind) as failed:
        await world.has("a")
    assert str(failed.value) == text
    assert getattr(failed.value, "rule", None) == rule


async def test_a_bug_is_a_failure_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.failure = RuntimeError("oops")
    with pytest.raises(AuthProviderUnavailable, match="internal error"):
        await world.has("a")
    assert "could not be read" in caplog.text


async def test_an_issuer_has_so_much_time_in_all() -> None:
    limits = Limits(auth_fetch_seconds=0.05)
    gate = asyncio.Event()

    async def fetch(address: str, /) -> bytes:
        await gate.wait()
        raise AssertionError

    source = Issuers(fetch, asyncio.get_running_loop().time, limits).source(OIDC)
    with pytest.raises(AuthProviderUnavailable, match=r"no answer within 0\.05 s"):
        await source.fetched(lambda keys: True)


async def test_who_waits_is_told_when_everything_ends() -> None:
    world = World()
    world.gate.clear()
    waiting = asyncio.ensure_future(world.has("a"))
    await turns()
    world.issuers.close()
    with pytest.raises(AuthProviderUnavailable):
        await waiting
    assert world.issuers.source(CUSTOM) is not world.source


async def test_keys_in_the_configuration_need_no_network() -> None:
    world = World(
        Provider("customJwt", ISSUER, ("RS256",), None, "data:," + jwks(public_jwk("RS256", kid="d")).decode())
    )
    assert await world.has("d")
    assert world.asked == []


DOCUMENTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: jwks_address(ISSUER, b"[]"), "Expected"),
    (lambda: jwks_address(ISSUER, b"{"), ""),
    (lambda: jwks_address(ISSUER, b'{"a":' * 5000), ""),
    (lambda: jwks_address(ISSUER, b'{"issuer":"https://other","jwks_uri":"https://x"}'), "that of 'https://other'"),
    *(
        (
            lambda uri=uri: jwks_address(ISSUER, json.dumps({"issuer": ISSUER, "jwks_uri": uri}).encode()),
            "no address that is as safe",
        )
        for uri in ("http://x/keys", "file:///etc/passwd", "data:,{}", "https://", "//x/keys", "https://a@x/keys")
    ),
    (lambda: read_keys(b"[]"), "list of `keys`"),
    (lambda: read_keys(b'{"keys":{}}'), "list of `keys`"),
    (lambda: read_keys(b"nope"), ""),
    (lambda: read_keys(b"[" * 100_000), ""),
]


@pytest.mark.parametrize(("read", "text"), DOCUMENTS)
async def test_a_document_that_is_none(read: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError) as wrong:  # noqa: PT011
        read()
    assert text in str(wrong.value)


async def test_over_plain_http_the_keys_may_be_too() -> None:
    text = b'{"issuer":"http://127.0.0.1:1/","jwks_uri":"http://127.0.0.1:1/k?x=y","more":1}'
    assert jwks_address("http://127.0.0.1:1", text) == "http://127.0.0.1:1/k?x=y"


async def test_keys_that_can_not_be_used_are_left_out() -> None:
    good = public_jwk("RS256")
    entries: list[Any] = [
        7,
        {},
        {"kty": ["RSA"]},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"},
        {**good, "use": "enc"},
        {**good, "alg": "HS256"},
        {**good, "alg": "PS256"},
        {**good, "key_ops": ["encrypt"]},
        {**good, "n": "AQAB"},  # a key of 17 bits
        {**good, "n": 7},
        {name: value for name, value in good.items() if name != "e"},
        {**public_jwk("ES256"), "crv": "P-384"},
        {**public_jwk("EdDSA"), "x": "AA"},
        good,
    ]
    keys = read_keys(jwks(*entries))
    assert [(key.id, key.algorithm) for key in keys.keys] == [("RS256-0", "RS256")]
    assert len(read_keys(jwks(*[public_jwk("EdDSA")] * (MAX_AUTH_KEYS + 1))).keys) == MAX_AUTH_KEYS


async def test_the_private_half_of_a_published_key_is_not_used() -> None:
    entry = {**public_jwk("ES256"), "d": "AAAA"}
    assert not hasattr(read_keys(jwks(entry)).keys[0].public, "private_numbers")
