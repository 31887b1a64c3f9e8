"""What request headers say: which client asks, and on whose behalf.

Promises that anything a client may send gives a value or an `Error` with an HTTP status. Used by the API and the sync
endpoint.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from reactor.auth.admin_key import split_impersonation
from reactor.errors import Error, InvalidArgument
from reactor.runtime.calls import ANONYMOUS, Identity
from reactor.server.http.errors import HttpError

_CLIENT: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z-]{0,40})-(?P<version>\d.{0,60})")
_SEMVER: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:[-+][0-9A-Za-z.+-]{1,60})?")

# The oldest clients whose HTTP calls expect plain JSON when they name no format.
_PLAIN_SINCE: Final = {"npm": (1, 4, 1), "npm-cli": (1, 4, 1), "actions": (1, 4, 1), "python": (0, 5, 0)}
# The newest clients that speak a protocol we do not.
_UNSUPPORTED: Final = {"npm": (0, 19, 1), "python": (0, 0, 2)}
# The newest clients that still work, but should be replaced.
_UPGRADE_REQUIRED: Final = {"python": (0, 2, 0)}
_CHUNKS_SINCE: Final = (1, 28, 0)

CheckAdmin = Callable[[str, Mapping[str, Any] | None], Identity]
Identify = Callable[[str], Awaitable[Identity]]


class ClientVersion(NamedTuple):
    """A client's name (`npm`, `python`, …) and version; both empty when it did not say."""

    name: str = ""
    version: tuple[int, ...] = ()

    @property
    def takes_chunks(self) -> bool:
        """Whether it understands `TransitionChunk`; others would reconnect forever."""
        return self.name == "npm" and self.version >= _CHUNKS_SINCE

    @property
    def default_format(self) -> str:
        """The format of results when a request names none."""
        since = _PLAIN_SINCE.get(self.name)
        return "convex_encoded_json" if since is not None and self.version < since else "json"

    @property
    def deprecation_headers(self) -> list[tuple[bytes, bytes]]:
        """Response headers that make an old client warn its developer; empty for most."""
        newest = _UPGRADE_REQUIRED.get(self.name)
        if newest is None or self.version > newest:
            return []
        shown = ".".join(map(str, self.version))
        text = f"The {self.name} client {shown} is too old for this server. Update it to a newer version."
        return [(b"x-convex-deprecation-state", b"UpgradeRequired"), (b"x-convex-deprecation-message", text.encode())]


def client_version(header: str | None, segment: str | None = None) -> ClientVersion:
    """Return who asks, from the `Convex-Client` header, else from the version in the path of a socket.

    Raises:
        HttpError: 400 `InvalidClientVersion` or `ClientVersionUnsupported`.
    """
    if header is not None:
        match = _CLIENT.fullmatch(header)
        name, text = (match["name"], match["version"]) if match else ("", header)
    elif segment is not None:
        name, text = "npm", segment
    else:
        return ClientVersion()
    parts = _SEMVER.fullmatch(text)
    if parts is None or not name:
        raise HttpError(400, "InvalidClientVersion", f"Couldn't parse the client version {text[:100]!r}.")
    version = tuple(int(part) for part in parts.groups())
    if name in _UNSUPPORTED and version <= _UNSUPPORTED[name]:
        raise HttpError(
            400, "ClientVersionUnsupported", f"The {name} client {text} is no longer supported. Update to a newer one."
        )
    return ClientVersion(name, version)


async def identity(
    authorization: str | None, admin_key: str | None, check_admin: CheckAdmin, identify: Identify
) -> Identity:
    """Return on whose behalf a request is made.

    Args:
        authorization: the header, if there is one.
        admin_key: `?adminKey=`, which counts only without that header.
        check_admin: as for a session.
        identify: gives the user of a token.

    Raises:
        HttpError: 400 for a malformed header.
        Unauthenticated: a user's token was refused.
        AuthProviderFailed, AuthProviderUnavailable, Overloaded: it can't be checked.
        Forbidden: `BadDeployKey`.
        ProtocolError: `InvalidHeaderFailure`, a garbled identity after the key.
    """
    if authorization is None:
        return ANONYMOUS if admin_key is None else _admin(admin_key, check_admin)
    if len(authorization) < 7:
        raise HttpError(400, "InvalidHeaderFailure", "The Authorization header is too short.")
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return await identify(credentials.strip())
    if scheme.lower() == "convex":
        return _admin(credentials.strip(), check_admin)
    raise HttpError(
        400, "InvalidAdminKey", "The Authorization header must be 'Bearer <token>' or 'Convex <admin key>'."
    )


async def identity_or_anonymous(authorization: str | None, check_admin: CheckAdmin, identify: Identify) -> Identity:
    """Return on whose behalf a request is made that may have a header meant for somebody else: nobody, if it is bad.

    Raises:
        AuthProviderUnavailable, Overloaded: it may be good, but can't be checked now.
    """
    try:
        return await identity(authorization, None, check_admin, identify)
    except Error as error:
        if error.retryable:
            raise
        return ANONYMOUS


def _admin(text: str, check_admin: CheckAdmin) -> Identity:
    key, attributes = split_impersonation(text)
    try:
        return check_admin(key, attributes)
    except InvalidArgument as error:
        raise HttpError(400, "InvalidHeaderFailure", str(error)) from None
