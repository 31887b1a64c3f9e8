"""The keys of issuers, fetched when they are needed and kept while they are fresh.

Owns what is known of each issuer's keys. Promises that an issuer is asked by one fetch at a time and not more often
than `auth_retry_seconds`; that a key nobody has heard of makes the keys be fetched once more, so that a rotation needs
no waiting; that keys which get old are replaced in the background, and used no more when that fails for too long; and
that only who needs an issuer's keys waits for it. Belongs to the event loop. Used by the authenticator.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Final

import msgspec

from reactor.auth.config import Provider, data_of, is_http_url, normal_issuer
from reactor.auth.fetching import Fetch, FetchFailed, in_thread
from reactor.auth.keys import KeySet, read_keys
from reactor.auth.token import INVALID
from reactor.errors import AuthProviderFailed, AuthProviderUnavailable, Error, Unauthenticated
from reactor.limits import Limits

logger = logging.getLogger("reactor.auth")

Sleep = Callable[[float], Awaitable[object]]

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"


class Issuers:
    """What is known of the keys of all providers."""

    def __init__(
        self, fetch: Fetch, monotonic: Callable[[], float], limits: Limits, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._limits = limits
        self._sleep = sleep
        self._sources: dict[tuple[str, str | None], KeySource] = {}

    def source(self, provider: Provider) -> "KeySource":
        """Return where the keys of `provider` come from, the same one each time."""
        at = (provider.issuer, provider.jwks)
        source = self._sources.get(at)
        if source is None:
            source = self._sources[at] = KeySource(provider, self._fetch, self._monotonic, self._limits, self._sleep)
        return source

    def keep(self, providers: Sequence[Provider]) -> None:
        """Forget the keys of providers that are not among these."""
        wanted = {(provider.issuer, provider.jwks) for provider in providers}
        for at in [at for at in self._sources if at not in wanted]:
            self._sources.pop(at).close()

    def close(self) -> None:
        """Give up every fetch; who waits for one is told."""
        self.keep(())


class KeySource:
    """The keys of one provider."""

    def __init__(
        self, provider: Provider, fetch: Fetch, monotonic: Callable[[], float], limits: Limits, sleep: Sleep
    ) -> None:
        self._sleep = sleep
        self._provider = provider
        self._fetch = fetch
        self._monotonic = monotonic
        self._limits = limits
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._begun = 0  # fetches so far
        self._begun_at = float("-inf")
        self._error: Error | None = None  # of the last fetch
        self._flight: asyncio.Task[None] | None = None
        self._is_closed = False

    def current(self) -> KeySet | None:
        """Return the keys if they may still be used. Ones that are no longer fresh are fetched again meanwhile."""
        keys = self._keys
        if keys is None:
            return None
        age = self._monotonic() - self._fetched_at
        if age >= self._limits.auth_keys_max_seconds:
            return None
        if age >= self._limits.auth_keys_seconds and self._flight is None and self._wait_seconds() <= 0:
            self._begin()
        return keys

    async def fetched(self, is_enough: Callable[[KeySet], bool]) -> KeySet:
        """Return keys that were fetched after this was asked, or before if those have come since and are enough.

        Raises:
            AuthProviderUnavailable: the issuer does not answer.
            AuthProviderFailed: an OIDC provider answers with something that can't be used.
            Unauthenticated: `InvalidAuthHeader`, the same for another provider.
        """
        asked = self._begun
        while self._flight is not None or self._begun == asked:
            if self._flight is None:
                wait = self._wait_seconds()
                if self._is_closed or (wait > 0 and self._error is not None):
                    break  # asking again so soon would give the same
                if wait > 0:
                    await self._sleep(wait)
                    continue
                self._begin()
            assert self._flight is not None
            await asyncio.wait([self._flight])
            if self._error is None and self._keys is not None and is_enough(self._keys):
                break
        if self._error is not None:
            raise self._error.with_traceback(None)
        assert self._keys is not None, "a fetch gives keys or an error"
        return self._keys

    def close(self) -> None:
        """Give up the fetch under way."""
        self._is_closed = True
        self._error = AuthProviderUnavailable("The deployment no longer asks this issuer.")
        if self._flight is not None:
            self._flight.cancel()

    def _wait_seconds(self) -> float:
        return self._begun_at + self._limits.auth_retry_seconds - self._monotonic()

    def _begin(self) -> None:
        self._begun += 1
        self._begun_at = self._monotonic()
        # A context of its own: it is nobody's request.
        flight = asyncio.get_running_loop().create_task(self._update(), name="reactor auth keys", context=Context())
        flight.add_done_callback(self._landed)
        self._flight = flight

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if not flight.cancelled() and flight.exception() is not None:
            logger.error("The keys of %s could not be read", self._provider.issuer, exc_info=flight.exception())
            self._error = self._failure("internal error", is_passing=True)

    async def _update(self) -> None:
        seconds = self._limits.auth_fetch_seconds
        try:
            async with asyncio.timeout(seconds):
                keys = await self._load()
        except TimeoutError:
            self._error = self._failure(f"no answer within {seconds:g} s", is_passing=True)
        except FetchFailed as error:
            self._error = self._failure(str(error), is_passing=error.is_passing)
        except ValueError as error:
            self._error = self._failure(str(error), is_passing=False)
        else:
            self._keys, self._error, self._fetched_at = keys, None, self._monotonic()

    async def _load(self) -> KeySet:
        provider = self._provider
        address = provider.jwks
        if address is None:
            address = jwks_address(provider.issuer, await self._fetch(provider.issuer + DISCOVERY_PATH))
        text = data_of(address) if address.startswith("data:") else await self._fetch(address)
        # The first time this loads the cryptography, which takes longer than others should wait.
        return await in_thread(partial(read_keys, text))

    def _failure(self, text: str, *, is_passing: bool) -> Error:
        provider = self._provider
        if provider.kind == "oidc":
            summary = f"Auth provider discovery of {provider.issuer} failed"
        else:
            summary = f"Could not fetch JWKS of {provider.issuer}"
        detail = f": {text}"
        if is_passing:
            return AuthProviderUnavailable(summary, detail)
        if provider.kind == "oidc":
            return AuthProviderFailed(summary, detail)
        return Unauthenticated(INVALID, summary, detail)


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


def jwks_address(issuer: str, text: bytes) -> str:
    """Return where the keys are, by the discovery document of an issuer.

    Raises:
        ValueError: it is no such document, of another issuer, or its address can't be trusted.
    """
    try:
        document = msgspec.json.decode(text, type=_Discovery)
    except RecursionError:
        raise ValueError("the discovery document is nested too deeply") from None
    if normal_issuer(document.issuer) != issuer:
        raise ValueError(f"the discovery document is that of {document.issuer!r}")
    address = document.jwks_uri
    if not is_http_url(address, query=True) or (issuer.startswith("https:") and not address.startswith("https:")):
        raise ValueError(f"jwks_uri {address[:200]!r} is no address that is as safe as the issuer's")
    return address
