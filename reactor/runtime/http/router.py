"""Which HTTP action answers which path: `http = http_router()` in functions/http.py.

Promises that a wrong route is an error at the line that declares it; that an exact path goes before every prefix, and a
longer prefix before a shorter one, for each method by itself; and that nothing about CORS happens unasked. Used by user
code, `loader` (which checks the handlers) and `server/http/actions` (which asks for the route of a request).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

import msgspec

from reactor.runtime.decorators import Function

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RESERVED: Final = "/.files"


class Cors(TypedDict, total=False):
    """What browsers may do from pages of other origins. The names and defaults are those of Starlette's and FastAPI's.

    Methods are not named: allowed are those that the path has routes for.
    """

    allow_origins: Sequence[str]
    allow_origin_regex: str
    allow_headers: Sequence[str]
    allow_credentials: bool
    expose_headers: Sequence[str]
    max_age: int


_CORS_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "allow_origins": (list, tuple, set, frozenset),
    "allow_origin_regex": (str,),
    "allow_headers": (list, tuple, set, frozenset),
    "allow_credentials": (bool,),
    "expose_headers": (list, tuple, set, frozenset),
    "max_age": (int,),
}
_ANYWHERE: Final[Cors] = {"allow_origins": ("*",), "allow_headers": ("*",)}


class Route(msgspec.Struct, frozen=True):
    """One way in. `path` is the whole path, or the prefix of all it matches."""

    method: str
    path: str
    is_prefix: bool
    handler: Function[..., Any]
    cors: Cors | None


class HttpRouter:
    """The routes of one application or component. Made by `http_router`."""

    def __init__(self, cors: Cors | None = None) -> None:
        self.routes: list[Route] = []
        self._cors = cors
        self._exact: dict[tuple[str, str], Route] = {}  # by path and method
        self._prefixes: list[Route] = []  # the longest first

    def route(
        self,
        *,
        method: str,
        handler: Function[..., Any],
        path: str | None = None,
        path_prefix: str | None = None,
        cors: Cors | bool | None = None,
    ) -> None:
        """Let `handler`, an HTTP action, answer requests for `path`, or for every path that begins with `path_prefix`.

        Args:
            method: GET (which answers HEAD, too), POST, PUT, PATCH, DELETE or OPTIONS.
            handler: a function decorated with `@http_action`.
            path: begins with "/", such as "/stripe/webhook".
            path_prefix: begins and ends with "/", such as "/files/".
            cors: which other origins may call this from browsers; True for all, False for none; by default what the
                router says.

        Raises:
            TypeError, ValueError: an argument is of the wrong kind, or the route is taken.
        """
        shown = f"path={path!r}" if path is not None else f"path_prefix={path_prefix!r}"
        if not isinstance(handler, Function) or handler.kind != "http_action":
            raise TypeError(f"http.route({shown}): the handler must be decorated with @http_action, not {handler!r}")
        place = _checked_place(path, path_prefix)
        if method not in METHODS:
            reason = "GET routes answer HEAD" if method == "HEAD" else f"it must be one of {', '.join(METHODS)}"
            raise ValueError(f"http.route({shown}): {method!r} is not a method for a route; {reason}")
        allowed = self._cors if cors is None else _checked_cors(cors, f"http.route({shown})")
        route = Route(method, place, path is None, handler, allowed)
        self._add(route, shown)
        self.routes.append(route)

    def _add(self, route: Route, shown: str) -> None:
        rivals = self._prefixes if route.is_prefix else self._exact.values()
        if any(rival.path == route.path and rival.method == route.method for rival in rivals):
            raise ValueError(f"http.route({shown}): there is a route for {route.method} already")
        if route.is_prefix:
            self._prefixes.append(route)
            self._prefixes.sort(key=lambda prefix: -len(prefix.path))
        else:
            self._exact[route.path, route.method] = route

    def find(self, method: str, path: str) -> Route | None:
        """Return the route of a request, or None if there is none."""
        if method == "HEAD":
            method = "GET"
        exact = self._exact.get((path, method))
        if exact is not None:
            return exact
        for route in self._prefixes:
            if route.method == method and path.startswith(route.path):
                return route
        return None

    def methods(self, path: str) -> tuple[str, ...]:
        """Return the methods that have a route for `path`."""
        return tuple(method for method in METHODS if self.find(method, path) is not None)

    def cors(self, method: str, path: str) -> Cors | None:
        """Return what pages of other origins may do with `path`, as declared for `method` or else for another one."""
        routes = (self.find(one, path) for one in (method, *METHODS))
        return next((route.cors for route in routes if route is not None and route.cors is not None), None)

    def spec(self) -> list[dict[str, Any]]:
        """Return the official `function-spec` entries, in the order of declaration."""
        return [
            {
                "functionType": "HttpAction",
                "method": route.method,
                "path": f"{route.path}*" if route.is_prefix else route.path,
            }
            for route in self.routes
        ]


def http_router(*, cors: Cors | bool = False) -> HttpRouter:
    """Return a router without routes; functions/http.py exports it as `http`.

    Args:
        cors: which other origins may call its routes from browsers: options as of Starlette's `CORSMiddleware`
            (`{"allow_origins": ["https://app.example.com"]}`), or True for all of them. By default none, and the
            application answers OPTIONS itself.

    Raises:
        TypeError, ValueError: an option is unknown or of the wrong kind.
    """
    return HttpRouter(_checked_cors(cors, "http_router()"))


def _checked_place(path: str | None, path_prefix: str | None) -> str:
    if (path is None) == (path_prefix is None):
        raise ValueError("http.route() takes either path= or path_prefix=")
    name, place = ("path_prefix", path_prefix) if path is None else ("path", path)
    if not isinstance(place, str):
        raise TypeError(f"http.route({name}={place!r}): it must be a string")
    problem = None
    if not place.startswith("/"):
        problem = 'it must begin with "/"'
    elif path is None and not place.endswith("/"):
        problem = 'it must end with "/"'
    elif "?" in place or "#" in place:
        problem = "it must be a path without a query"
    elif place == RESERVED or place.startswith(f"{RESERVED}/"):
        problem = f"{RESERVED} and everything below it is reserved"
    if problem is not None:
        raise ValueError(f"http.route({name}={place!r}): {problem}")
    return place


def _checked_cors(cors: Cors | bool, where: str) -> Cors | None:
    if isinstance(cors, bool):
        return _ANYWHERE if cors else None
    if not isinstance(cors, Mapping):
        raise TypeError(f"{where}: cors= takes a dict of options, True or False, not {cors!r}")
    for name, value in cors.items():
        kinds = _CORS_KINDS.get(name)
        if kinds is None:
            raise ValueError(f"{where}: cors= has no option {name!r}; it has {', '.join(_CORS_KINDS)}")
        if not isinstance(value, kinds):
            raise TypeError(f"{where}: the option {name!r} of cors= must be of type {kinds[0].__name__}, not {value!r}")
    return cors
