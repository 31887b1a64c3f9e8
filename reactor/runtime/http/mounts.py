"""Whose HTTP routes a request is for: those of the application, or of a component mounted under a prefix.

Owns the order at each level: an exact route of its own first, then the longest prefix, where a mount goes before a
route of its own. Promises that a component's routes see paths as if it were mounted nowhere. Used by `http_actions`.
"""

from typing import NamedTuple

from reactor.runtime.components.definitions import Instance
from reactor.runtime.http.router import HttpRouter


class HttpPlace(NamedTuple):
    """Where a request goes: to the routes of which instance, None if it has none, and as which path."""

    component: str
    router: HttpRouter | None
    path: str


def locate(instance: Instance, method: str, path: str, prefix: str | None = None) -> HttpPlace:
    """Return where a request goes that has come to `instance`, whose own routes begin behind `prefix`."""
    own_path = path if prefix is None else _behind(prefix, path)
    router = None if own_path is None else instance.http
    route = None if router is None or own_path is None else router.find(method, own_path)
    if route is None or route.is_prefix:
        length = 0 if route is None else len(route.path) + len(path) - len(own_path or path)
        mounted = [
            (mount.http_prefix, child)
            for child in instance.children.values()
            if (mount := child.mount) is not None
            and mount.http_prefix is not None
            and path.startswith(mount.http_prefix)
            and len(mount.http_prefix) >= length
        ]
        if mounted:
            longest, child = max(mounted, key=lambda found: len(found[0]))
            return locate(child, method, path[len(longest) - 1 :])
    return HttpPlace(instance.path, router, path if own_path is None else own_path)


def _behind(prefix: str, path: str) -> str | None:
    """Return the part of a path behind a prefix, with its slash, or None when it does not begin so."""
    return path[len(prefix) - 1 :] if path.startswith(prefix) else None
