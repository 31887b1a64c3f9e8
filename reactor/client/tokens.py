"""Where tokens come from, and when to give up on them.

Owns the count of refusals and the reading of a token's lifetime. A token that a server refuses is asked for again a
few times, always fresh; one that cannot be refreshed is given up at once. No I/O: the shells call the callable.
"""

from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec

MAX_REFUSALS: Final = 3  # fresh tokens refused in a row
REFRESH_EARLY_SECONDS: Final = 10.0
MIN_LIFETIME_SECONDS: Final = 2.0
MAX_REFRESH_SECONDS: Final = 20 * 24 * 3600.0


class TokenFetcher(Protocol):
    """A callable, async or plain, that returns a JWT, or None when nobody is logged in."""

    def __call__(self, *, force_refresh: bool) -> Awaitable[str | None] | str | None:
        """Return a token; with `force_refresh` not one that it returned before."""


class AdminKey(msgspec.Struct, frozen=True):
    """The right to do everything, as nobody or as the user with some claims."""

    key: str
    acting_as: dict[str, Any] | None = None


Token = str | AdminKey


class Tokens:
    """One choice of identity, as given to `set_auth`: a fixed token, a callable, or nobody."""

    def __init__(self, source: "Token | TokenFetcher | None") -> None:
        self.fixed: Token | None = None
        self.fetcher: Callable[..., Awaitable[str | None] | str | None] | None = None
        if isinstance(source, str | AdminKey):
            self.fixed = source
        else:
            self.fetcher = source
        self.current: Token | None = self.fixed
        self._refusals = 0

    def accepted(self) -> None:
        """The server confirmed the current token."""
        self._refusals = 0

    def refused(self) -> bool:
        """Count a refusal; return whether asking the callable again makes sense."""
        self._refusals += 1
        return self.fetcher is not None and self._refusals <= MAX_REFUSALS


class _Claims(msgspec.Struct):
    exp: float | None = None
    iat: float | None = None


def refresh_delay(token: str) -> float | None:
    """Return the seconds after which a new JWT should replace this just confirmed one, or None when it doesn't tell.

    Counted from `iat` to `exp`, not against this machine's clock, which may be wrong.
    """
    _, _, rest = token.partition(".")
    body = rest.partition(".")[0]
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Claims)
    except ValueError:
        return None
    if claims.exp is None or claims.iat is None:
        return None
    lifetime = claims.exp - claims.iat
    if not MIN_LIFETIME_SECONDS < lifetime:
        return None
    return min(max(lifetime - REFRESH_EARLY_SECONDS, MIN_LIFETIME_SECONDS), MAX_REFRESH_SECONDS)
