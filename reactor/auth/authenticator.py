"""Tokens to identities, for one deployment.

Joins the rules (`token`, `verification`, `claims`) with the keys of issuers (`jwks`). Promises that only configured
issuers are ever asked, that who brings a token whose key is known gets the answer at once, without a task, and that
who has to wait for an issuer holds up nobody else. Belongs to the event loop. Used by the server.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial

from reactor.auth.config import AuthConfig, Provider
from reactor.auth.fetching import Fetch
from reactor.auth.identity import Identity, token_identity
from reactor.auth.jwks import Issuers, KeySource
from reactor.auth.keys import Key
from reactor.auth.token import INVALID, Token, read_token
from reactor.auth.verification import (
    attributes_of,
    check_header,
    expires,
    find_key,
    missing_key,
    select_provider,
    verify,
)
from reactor.errors import (
    AuthConfigInvalid,
    AuthProviderFailed,
    AuthProviderUnavailable,
    Error,
    InvalidArgument,
    Overloaded,
    Unauthenticated,
)
from reactor.limits import Limits
from reactor.ports import Clock

Done = Callable[[Identity | Error], None]
Cancel = Callable[[], None]


class Authenticator:
    """Checks tokens."""

    def __init__(
        self,
        config: Callable[[], AuthConfig | None],
        environment: Callable[[], Mapping[str, str]],
        fetch: Fetch,
        clock: Clock,
        limits: Limits,
        *,
        redact: bool = False,
    ) -> None:
        """
        Args:
            config: gives what the deployed project declares.
            environment: gives the environment variables that its values may come from.
            redact: leave out of errors what only the developers should know.
        """
        self._config = config
        self._environment = environment
        self._clock = clock
        # Never all that may run: the issuer may be this deployment, which needs a place to answer.
        self._most_requests = min(limits.auth_waiting, max(1, limits.http_requests // 2))
        self._redact = redact
        self._issuers = Issuers(fetch, clock.monotonic, limits)
        self._providers: tuple[Provider, ...] = ()
        self._resolved: AuthConfig | None = None  # what they were made from
        self._waiting: set[asyncio.Task[None]] = set()  # of sockets
        self._requests = 0  # that wait

    def submit(self, text: str, done: Done) -> Cancel:
        """Call `done` with whose token this is, or with why that can't be said; from in here if it is known now.

        Returns what makes `done` not be called any more.
        """
        try:
            found = self._begin(text)
        except Error as error:
            done(error)
            return _nothing
        if isinstance(found, Identity):
            done(found)
            return _nothing
        task = asyncio.get_running_loop().create_task(
            self._answer(found, done), name="reactor authenticate", context=Context()
        )
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return partial(_cancel, task)

    async def identify(self, text: str) -> Identity:
        """Return whose token this is.

        Raises:
            Unauthenticated: it is refused.
            AuthConfigInvalid, AuthProviderFailed: the providers are not as they must be.
            AuthProviderUnavailable: its issuer does not answer.
            Overloaded: too many requests wait for issuers.
        """
        found = self._begin(text)
        if isinstance(found, Identity):
            return found
        if self._requests >= self._most_requests:
            raise Overloaded(
                "TooManyConcurrentRequests",
                f"{self._requests} requests wait for the keys of their issuers, the limit. "
                "Try again later, or raise REACTOR_AUTH_WAITING (half of REACTOR_HTTP_REQUESTS at most).",
            )
        self._requests += 1
        try:
            return await self._finish(*found)
        finally:
            self._requests -= 1

    async def close(self) -> None:
        """Forget who waits, and give up every fetch."""
        for task in self._waiting:
            task.cancel()
        self._issuers.close()
        if self._waiting:
            await asyncio.wait(self._waiting)

    # Inside.

    def _begin(self, text: str) -> "Identity | tuple[Token, Provider, KeySource]":
        """Go as far as that goes without asking an issuer."""
        try:
            token = read_token(text)
            provider = select_provider(token, self._current_providers())
            check_header(token, provider)
            source = self._issuers.source(provider)
            keys = source.current()
            key = None if keys is None else find_key(token, provider, keys)
            return (token, provider, source) if key is None else self._identity(token, provider, key)
        except Error as error:
            raise self._told(error) from None

    async def _finish(self, token: Token, provider: Provider, source: KeySource) -> Identity:
        try:
            keys = await source.fetched(lambda keys: find_key(token, provider, keys) is not None)
            key = find_key(token, provider, keys)
            if key is None:
                raise missing_key(token, provider)
            return self._identity(token, provider, key)
        except Error as error:
            raise self._told(error) from None

    async def _answer(self, found: tuple[Token, Provider, KeySource], done: Done) -> None:
        try:
            answer: Identity | Error = await self._finish(*found)
        except Error as error:
            answer = error
        done(answer)

    def _identity(self, token: Token, provider: Provider, key: Key) -> Identity:
        verify(token, provider, key, self._clock.now_ns())
        expires_ns = expires(token, provider)
        assert expires_ns is not None, "verify has seen to it"
        try:
            return token_identity(attributes_of(token, provider), expires_ns)
        except InvalidArgument as error:
            raise Unauthenticated(INVALID, "Could not read the claims of the token", f": {error}") from None

    def _current_providers(self) -> tuple[Provider, ...]:
        config = self._config()
        if config is self._resolved and not (config is not None and config.is_deferred):
            return self._providers
        providers = () if config is None else config.resolve(self._environment())
        self._resolved = config
        if providers != self._providers:
            self._issuers.keep(providers)
            self._providers = providers
        return providers

    def _told(self, error: Error) -> Error:
        if self._redact:
            match error:
                case Unauthenticated():
                    return Unauthenticated(error.rule, error.summary)
                case AuthConfigInvalid():
                    return AuthConfigInvalid(error.rule, "The providers of this deployment can't be used")
                case AuthProviderFailed():
                    return AuthProviderFailed(error.summary)
                case AuthProviderUnavailable():
                    return AuthProviderUnavailable(error.summary)
        return error


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _nothing() -> None:
    """There is nothing to take back."""
