"""Routes of HTTP actions: which one answers, and what is refused when a project is pushed."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import PushError
from reactor.runtime.decorators import Function, http_action
from reactor.runtime.http.router import METHODS, HttpRouter, http_router
from reactor.runtime.loader import ProjectLoader
from tests.runtime.projects import loaded, write


def make_handler() -> Function[..., Any]:
    async def answer(ctx: Any, request: Any) -> Any: ...

    return http_action(answer)


def router(*places: tuple[str, str]) -> HttpRouter:
    """Return a router with a route for each method and place; one that ends with `*` is a prefix."""
    http = http_router()
    for method, place in places:
        if place.endswith("*"):
            http.route(path_prefix=place[:-1], method=method, handler=make_handler())
        else:
            http.route(path=place, method=method, handler=make_handler())
    return http


def found(http: HttpRouter, method: str, path: str) -> str | None:
    route = http.find(method, path)
    return None if route is None else f"{route.path}*" if route.is_prefix else route.path


def test_an_exact_path_goes_before_every_prefix() -> None:
    http = router(("GET", "/a/*"), ("GET", "/a/b/*"), ("GET", "/a/b/"))
    assert found(http, "GET", "/a/b/") == "/a/b/"
    assert found(http, "GET", "/a/b/c") == "/a/b/*"


def test_a_prefix_does_not_match_the_path_above_it() -> None:
    assert found(router(("GET", "/a/*")), "GET", "/a") is None


def test_methods_match_each_by_itself() -> None:
    """A longer prefix for GET leaves POST to a shorter one, and an exact path for GET leaves POST to a prefix."""
    http = router(("POST", "/*"), ("GET", "/a/*"), ("GET", "/a/b"))
    assert found(http, "POST", "/a/b") == "/*"
    assert found(http, "POST", "/a/c") == "/*"
    assert found(http, "PUT", "/a/b") is None
    assert http.methods("/a/b") == ("GET", "POST")


def test_head_asks_the_route_for_get() -> None:
    http = router(("GET", "/a"), ("POST", "/b"))
    assert found(http, "HEAD", "/a") == "/a"
    assert found(http, "HEAD", "/b") is None


parts = st.lists(st.sampled_from(["a", "b"]), max_size=3).map("/".join)
places = st.one_of(parts.map(lambda path: f"/{path}"), parts.map(lambda path: f"/{path}/*".replace("//", "/")))


@given(
    declared=st.lists(st.tuples(st.sampled_from(METHODS[:2]), places), unique=True),
    method=st.sampled_from(METHODS[:2]),
    path=parts.map(lambda path: f"/{path}"),
)
def test_the_route_is_the_most_specific_one(declared: list[tuple[str, str]], method: str, path: str) -> None:
    """Whatever the order of declaration: the law, written as a search over all routes."""
    exact = [place for one, place in declared if one == method and place == path]
    prefixes = [place for one, place in declared if one == method and place[-1] == "*" and path.startswith(place[:-1])]
    wanted = exact[0] if exact else max(prefixes, key=len, default=None)
    assert found(router(*declared), method, path) == wanted


def test_the_specification_lists_routes_as_declared() -> None:
    assert router(("POST", "/b"), ("GET", "/a/*")).spec() == [
        {"functionType": "HttpAction", "method": "POST", "path": "/b"},
        {"functionType": "HttpAction", "method": "GET", "path": "/a/*"},
    ]


def test_a_route_says_itself_who_may_call_it() -> None:
    http = http_router(cors={"allow_origins": ["https://app.example.com"]})
    http.route(path="/a", method="GET", handler=make_handler())
    http.route(path="/a", method="POST", handler=make_handler(), cors=False)
    http.route(path="/b", method="POST", handler=make_handler(), cors=False)
    http.route(path="/c", method="POST", handler=make_handler(), cors=True)
    assert http.cors("GET", "/a") == {"allow_origins": ["https://app.example.com"]}
    assert http.cors("PUT", "/a") == {"allow_origins": ["https://app.example.com"]}
    assert http.cors("POST", "/b") is None
    assert http.cors("POST", "/c") == {"allow_origins": ("*",), "allow_headers": ("*",)}


WRONG: dict[str, tuple[str, str]] = {
    "no path": ('http.route(method="GET", handler=f)', "either path= or path_prefix="),
    "both": ('http.route(path="/a", path_prefix="/a/", method="GET", handler=f)', "either path= or path_prefix="),
    "no string": ('http.route(path=7, method="GET", handler=f)', "must be a string"),
    "a relative path": ('http.route(path="a", method="GET", handler=f)', 'must begin with "/"'),
    "a relative prefix": ('http.route(path_prefix="a/", method="GET", handler=f)', 'must begin with "/"'),
    "half a prefix": ('http.route(path_prefix="/a", method="GET", handler=f)', 'must end with "/"'),
    "a query": ('http.route(path="/a?b=c", method="GET", handler=f)', "without a query"),
    "a reserved path": ('http.route(path="/.files", method="GET", handler=f)', "reserved"),
    "below it": ('http.route(path="/.files/a", method="GET", handler=f)', "reserved"),
    "a reserved prefix": ('http.route(path_prefix="/.files/", method="GET", handler=f)', "reserved"),
    "HEAD": ('http.route(path="/a", method="HEAD", handler=f)', "GET routes answer HEAD"),
    "no method": ('http.route(path="/a", method="get", handler=f)', "it must be one of GET, POST"),
    "a query as handler": ('http.route(path="/a", method="GET", handler=q)', "decorated with @http_action"),
    "a plain function": ('http.route(path="/a", method="GET", handler=len)', "decorated with @http_action"),
    "a route twice": (
        'http.route(path="/b", method="GET", handler=f)',
        "http.route(path='/b'): there is a route for GET already",
    ),
    "a prefix twice": (
        'http.route(path_prefix="/b/", method="GET", handler=f)',
        "http.route(path_prefix='/b/'): there is a route for GET already",
    ),
    "no options": ('http.route(path="/a", method="GET", handler=f, cors="*")', "a dict of options"),
    "an unknown option": (
        'http.route(path="/a", method="GET", handler=f, cors={"origins": []})',
        "no option 'origins'",
    ),
    "one origin": (
        'http.route(path="/a", method="GET", handler=f, cors={"allow_origins": "*"})',
        "'allow_origins' of cors= must be of type list",
    ),
}
HEAD = """\
from reactor import http_action, http_router, query

@http_action
async def f(ctx, request): ...

@query
async def q(ctx): ...

http = http_router()
http.route(path="/b", method="GET", handler=f)
http.route(path_prefix="/b/", method="GET", handler=f)
"""


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_route_is_an_error_at_its_line(name: str, tmp_path: Path) -> None:
    line, message = WRONG[name]
    write(tmp_path, {"functions/http.py": f"{HEAD}{line}\n"})
    with pytest.raises(PushError, match=re.escape(message)) as failure:
        ProjectLoader(tmp_path).load()
    assert str(failure.value).startswith(f"functions/http.py:{HEAD.count(chr(10)) + 1}: ")


def test_a_module_for_routes_must_export_them(tmp_path: Path) -> None:
    write(tmp_path, {"functions/http.py": "from reactor import http_router\n\nroutes = http_router()\n"})
    with pytest.raises(PushError, match="must export `http`, made with") as failure:
        ProjectLoader(tmp_path).load()
    assert str(failure.value).startswith("functions/http.py: ")


def test_a_handler_that_is_exported_nowhere_is_checked_too(tmp_path: Path) -> None:
    text = "from reactor import http_action, http_router\n\nhttp = http_router()\n"
    text += 'http.route(path="/a", method="GET", handler=http_action(lambda ctx: None))\n'
    write(tmp_path, {"functions/http.py": text})
    with pytest.raises(PushError, match="takes two parameters, the context and the request") as failure:
        ProjectLoader(tmp_path).load()
    assert str(failure.value).startswith("functions/http.py:4: ")


def test_a_project_lists_its_functions_and_its_routes(tmp_path: Path) -> None:
    with loaded(tmp_path, {"functions/http.py": HEAD}) as project:
        entries = project.spec()
    assert [entry.get("identifier") or f"{entry['method']} {entry['path']}" for entry in entries] == [
        "http.js:q",
        "GET /b",
        "GET /b/*",
    ]


def test_a_project_without_routes_has_none(tmp_path: Path) -> None:
    with loaded(tmp_path, {"functions/messages.py": ""}) as project:
        assert (project.http, project.spec()) == (None, [])
