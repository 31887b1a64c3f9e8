"""What a client calls and where: the sync URL of a deployment, the client's name, the path of a function.

Pure text. Promises that a function path which would make a server end the session for good is refused before it is
sent. Used by the shells.
"""

import re
from importlib import metadata
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from reactor.errors import InvalidArgument

_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_PATH: Final = re.compile(r"(?:[A-Za-z0-9_.]{1,64}/)*[A-Za-z0-9_.]{1,64}(?::[A-Za-z_][A-Za-z0-9_]{0,63})?")
_SEMVER: Final = re.compile(r"\d+\.\d+\.\d+")


def client_version() -> str:
    """Return the installed version of reactor as plain `major.minor.patch`, which every server can parse."""
    try:
        found = _SEMVER.match(metadata.version("reactor-db"))
    except metadata.PackageNotFoundError:
        found = None
    return found.group() if found else "0.0.0"


def client_name() -> str:
    """Return the `Convex-Client` header: a name and a version, which servers split at the last hyphen."""
    return f"python-reactor-{client_version()}"


def sync_url(deployment_url: str) -> str:
    """Return the WebSocket URL of a deployment, below the URL's own path.

    Raises:
        InvalidArgument: it is no http, https, ws or wss URL with a host.
    """
    parts = urlsplit(deployment_url.strip())
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname:
        raise InvalidArgument(
            f"{deployment_url!r} is no deployment URL: expected something like 'http://127.0.0.1:3210'"
        )
    return urlunsplit((scheme, parts.netloc, f"{parts.path.rstrip('/')}/api/{client_version()}/sync", "", ""))


def is_loopback(url: str) -> bool:
    """Whether the URL names this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def path_of(function: Any) -> str:
    """Return the path to send for `function`: a string such as "messages:send", or what names its `__reactor_path__`.

    References (`api.messages.send`) and decorated functions do. The client knows no more of them, since it can be used
    without the server's code.

    Raises:
        InvalidArgument: it is neither, names no function, or the string can't be a path.
        NotSupported: it names a component's function.
    """
    path = function if isinstance(function, str) else getattr(function, "__reactor_path__", None)
    if not isinstance(path, str):
        raise InvalidArgument(
            f"{function!r} names no function: give a string such as 'messages:send', api.messages.send, or a decorated "
            "function"
        )
    # Servers parse the path while they decode the message; a bad one is a FatalError that ends the whole session.
    if _PATH.fullmatch(path) is None or ".." in path:
        raise InvalidArgument(f"{path!r} is not a valid path to a function: expected something like 'messages:send'")
    return path


def canonical_path(path: str) -> str:
    """Return one spelling for all that name the same function: `m`, `m.js` and `m.js:default` are `m:default`."""
    module, colon, function = path.rpartition(":")
    if not colon:
        module, function = path, "default"
    return f"{module.removesuffix('.js')}:{function}"
