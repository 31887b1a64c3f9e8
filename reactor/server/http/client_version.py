"""Which client asks, of which version, and what follows from that.

Promises that anything a client may send gives a value or an `HttpError`. Used by the API and the sync endpoint.
"""

import re
from typing import Final, NamedTuple

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
