"""Request paths as seen from the mount point."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Return the path of a request below where the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and (len(path) == len(root) or path[len(root)] == "/"):
        return path[len(root) :]
    return path


def collapsed(scope: Scope) -> str:
    """Return the full path without doubled slashes after the mount point, as JS clients make them of some URLs."""
    path, full = route_path(scope), scope["path"]
    assert isinstance(full, str)
    if not path.startswith("//"):
        return full
    return full[: len(full) - len(path)] + "/" + path.lstrip("/")


def below(scope: Scope, prefix: str) -> Scope:
    """Return the scope of a request as an application sees it that knows nothing of `prefix` and the mount point."""
    path = route_path(scope)
    hidden = scope["path"][: len(scope["path"]) - len(path)] + prefix
    raw = scope.get("raw_path")
    if isinstance(raw, bytes):
        # As many segments less, since the client may have spelled them with escapes.
        rest = raw.split(b"/", hidden.count("/") + 1)[hidden.count("/") + 1 :]
        raw = b"/" + b"".join(rest)
    return {**scope, "path": path[len(prefix) :] or "/", "raw_path": raw, "root_path": ""}
