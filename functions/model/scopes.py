"""Scopes: what a key or a user's token is good for, such as `analytics:write` or `embeddings:*`.

Segments between colons, each of which may end with `*`. Used by `functions/access` and by whatever verifies keys.
"""

from collections.abc import Sequence
from typing import Any, Final

from reactor import ReactorError

MAX_SCOPES: Final = 32
MAX_SCOPE_LENGTH: Final = 100


def allows(granted: Sequence[str], wanted: str) -> bool:
    """Tell whether one of the scopes granted is `wanted`, or covers it: `embeddings:*` covers `embeddings:read`.

    A `*` stands for the rest of one segment, and so never for several.
    """
    return any(_covers(scope.split(":"), wanted.split(":")) for scope in granted)


def scopes_of(identity: dict[str, Any]) -> list[str]:
    """Return the scopes that a token names: in its claim `scope`, separated by spaces as in OAuth, or as a list.

    A `*` in them has no meaning: an issuer may grant whatever scope is asked for that it does not know.
    """
    claim = identity.get("scope")
    if isinstance(claim, str):
        return claim.split(" ")
    return [scope for scope in claim if isinstance(scope, str)] if isinstance(claim, list) else []


def require_scopes(scopes: Sequence[str]) -> None:
    """Refuse scopes that can't be ones: a `*` ends a segment, and a space would end a scope in a token's claim.

    Raises:
        ReactorError: code `INVALID_SCOPE`.
    """
    if len(scopes) > MAX_SCOPES:
        message = f"There are {len(scopes)} scopes, and {MAX_SCOPES} are allowed: use * for the end of a segment."
        raise ReactorError({"code": "INVALID_SCOPE", "message": message})
    for scope in scopes:
        segments = scope.split(":")
        if len(scope) > MAX_SCOPE_LENGTH or any(
            not segment or "*" in segment[:-1] or any(map(str.isspace, segment)) for segment in segments
        ):
            message = f"{scope[:MAX_SCOPE_LENGTH]!r} is no scope: segments between colons, each may end with *"
            raise ReactorError({"code": "INVALID_SCOPE", "message": message})


def _covers(scope: list[str], wanted: list[str]) -> bool:
    return len(scope) == len(wanted) and all(
        asked.startswith(part[:-1]) if part.endswith("*") else asked == part
        for part, asked in zip(scope, wanted, strict=True)
    )
