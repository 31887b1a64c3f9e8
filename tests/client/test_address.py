"""Where a client connects, and which function names it lets through."""

import re

import pytest

from reactor.client.address import canonical_path, client_name, client_version, is_loopback, path_of, sync_url
from reactor.errors import InvalidArgument, NotSupported
from reactor.runtime.decorators import mutation
from reactor.runtime.references import api, components, internal


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:3210", "ws://127.0.0.1:3210/api/V/sync"),
        ("https://example.dev/", "wss://example.dev/api/V/sync"),
        ("http://h/reactor/", "ws://h/reactor/api/V/sync"),
        ("wss://h/a/b?x=1#y", "wss://h/a/b/api/V/sync"),
        (" HTTP://h ", "ws://h/api/V/sync"),
    ],
)
def test_the_sync_endpoint_is_below_the_deployments_own_path(url: str, expected: str) -> None:
    assert sync_url(url) == expected.replace("V", client_version())


@pytest.mark.parametrize("url", ["", "127.0.0.1:3210", "ftp://h", "http://", "http:///path"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="deployment URL"):
        sync_url(url)


def test_the_client_names_itself_with_a_plain_version() -> None:
    assert re.fullmatch(r"python-reactor-\d+\.\d+\.\d+", client_name())


def test_loopback() -> None:
    assert is_loopback("ws://127.0.0.1:1/x")
    assert is_loopback("ws://localhost/x")
    assert is_loopback("ws://[::1]:1/x")
    assert not is_loopback("ws://example.dev/")


@pytest.mark.parametrize(
    "path", ["messages", "messages:send", "a/b_c/d:e_f", "m.js:default", "_system/cli:x", "http.js"]
)
def test_paths_pass_as_they_are_typed(path: str) -> None:
    assert path_of(path) == path


def test_a_decorated_function_stands_for_its_path() -> None:
    class Function:
        __reactor_path__ = "messages:send"

    assert path_of(Function()) == "messages:send"


def test_references_and_functions_of_the_server_stand_for_their_paths() -> None:
    @mutation(name="send")
    async def handler(ctx: object) -> None: ...

    handler.module = "messages"
    assert path_of(handler) == path_of(api.messages.send) == path_of(internal.messages.send) == "messages:send"
    with pytest.raises(InvalidArgument, match=r"api\.module\.function"):
        path_of(api.messages)
    with pytest.raises(NotSupported):
        path_of(components.a.b.c)


@pytest.mark.parametrize(
    "path", ["", ":", "m:", "/m:f", "m:f:g", "m:1", "m f", "a//b:c", "../m:f", "a..b:c", "m:f\n", 7, None]
)
def test_a_typo_does_not_reach_the_server(path: object) -> None:
    with pytest.raises(InvalidArgument, match="messages:send"):
        path_of(path)


@pytest.mark.parametrize("path", ["m", "m.js", "m:default", "m.js:default"])
def test_paths_that_name_one_function_have_one_spelling(path: str) -> None:
    assert canonical_path(path) == "m:default"
    assert canonical_path("a/" + path) == "a/m:default"
