"""Who a client is to the server: getting tokens, replacing them before they expire and when they are refused.

Owns the choice made with `set_auth` and the task that gets a token. Promises that a choice replaces the one before it
at once, that a token callable is never called twice at a time, and that a refused token which can't be replaced is
given up. Used by the client; how often to try is in `client/tokens`, what may overtake a token in `client/session`.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from reactor.client.session import Session
from reactor.client.tokens import Token, TokenFetcher, Tokens, refresh_delay
from reactor.errors import AuthError, InvalidArgument


class Authentication:
    """The identity of one client. `give_up` is called with the reason when it has none any more."""

    def __init__(
        self,
        session: Session,
        sleep: Callable[[float], Awaitable[object]],
        wake: Callable[[], object],
        give_up: Callable[[AuthError], object],
    ) -> None:
        self._session = session
        self._sleep = sleep
        self._wake = wake
        self._give_up = give_up
        self._tokens = Tokens(None)
        self._is_started = False
        self._fetching: asyncio.Task[None] | None = None

    def choose(self, source: Token | TokenFetcher | None) -> None:
        """Be whoever `source` stands for, from now on."""
        self._stop_fetching()
        self._tokens = Tokens(source)
        if self._tokens.fetcher is None:
            self._session.set_token(self._tokens.fixed)
        else:
            self._session.hold()
            if self._is_started:
                self._fetch(force_refresh=False)
        self._wake()

    def start(self) -> None:
        """The client has an event loop now."""
        self._is_started = True
        if self._tokens.fetcher is not None:
            self._fetch(force_refresh=False)

    async def close(self) -> None:
        """Stop what runs."""
        fetching = self._fetching
        if fetching is not None:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    def accepted(self) -> None:
        """The server confirmed the identity."""
        self._tokens.accepted()
        tokens = self._tokens
        if tokens.fetcher is None or not isinstance(tokens.current, str):
            return
        if self._fetching and not self._fetching.done():
            return
        delay = refresh_delay(tokens.current)
        if delay is not None:
            self._fetch(force_refresh=True, after=delay)

    def refused(self, message: str) -> None:
        """The server refused the identity; the connection is down and nothing is sent before there is another."""
        if self._tokens.refused():
            self._fetch(force_refresh=True, refusal=message)
        else:
            self._be_nobody(AuthError(message))

    def _be_nobody(self, error: AuthError) -> None:
        self._stop_fetching()
        self._tokens = Tokens(None)
        self._give_up(error)
        self._session.set_token(None)
        self._wake()

    def _fetch(self, *, force_refresh: bool, refusal: str | None = None, after: float = 0.0) -> None:
        self._stop_fetching()
        self._fetching = asyncio.get_running_loop().create_task(
            self._fetch_token(self._tokens, force_refresh, refusal, after), name="reactor client token"
        )

    async def _fetch_token(self, tokens: Tokens, force_refresh: bool, refusal: str | None, after: float) -> None:
        assert tokens.fetcher is not None
        if after:
            await self._sleep(after)
        try:
            token = tokens.fetcher(force_refresh=force_refresh)
            if inspect.isawaitable(token):
                token = await token
            if token is not None and not isinstance(token, str):
                raise InvalidArgument(f"expected a JWT or None, got {type(token).__name__}")
        except Exception as cause:
            error = AuthError(f"the token callable failed: {cause!r}")
            error.__cause__ = cause
            if self._tokens is tokens:
                self._be_nobody(error)
            return
        if self._tokens is not tokens:
            return  # `set_auth` was called meanwhile
        if refusal is not None and (token is None or token == tokens.current):
            self._be_nobody(AuthError(refusal))
        elif force_refresh and refusal is None and token == tokens.current:
            return  # nothing newer to announce
        else:
            tokens.current = token
            self._session.set_token(token)
            self._wake()

    def _stop_fetching(self) -> None:
        if self._fetching is not None and self._fetching is not asyncio.current_task():
            self._fetching.cancel()
        self._fetching = None
