"""Tests of the decorators: what they keep of a function, and what they refuse."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from reactor.runtime.decorators import (
    Function,
    action,
    http_action,
    internal_action,
    internal_mutation,
    internal_query,
    mutation,
    query,
)
from reactor.schema.validators import v


@pytest.mark.parametrize(
    ("decorator", "kind", "visibility"),
    [
        (query, "query", "public"),
        (mutation, "mutation", "public"),
        (action, "action", "public"),
        (internal_query, "query", "internal"),
        (internal_mutation, "mutation", "internal"),
        (internal_action, "action", "internal"),
        (http_action, "http_action", "public"),
    ],
)
def test_each_decorator_makes_its_kind(decorator: Any, kind: str, visibility: str) -> None:
    for function in (decorator(lambda ctx: ctx), decorator()(lambda ctx: ctx)):
        assert isinstance(function, Function)
        assert (function.kind, function.visibility) == (kind, visibility)
        assert (function.args, function.returns) == (None, None)


def test_a_decorated_function_is_called_like_a_plain_one() -> None:
    @mutation(args={"body": v.string()})
    def send(ctx: str, body: str, *, loud: bool = False) -> str:
        """Send it."""
        return f"{ctx} {body} {loud}"

    assert send("ctx", "hello", loud=True) == "ctx hello True"
    assert send("ctx", body="hello") == "ctx hello False"
    assert (send.__name__, send.__doc__, send.__module__) == ("send", "Send it.", __name__)
    assert list(inspect.signature(send).parameters) == ["ctx", "body", "loud"]


def test_a_handler_may_name_an_argument_ctx() -> None:
    @query
    def find(context: str, /, **args: str) -> object:
        return context, args

    assert find("a", ctx="b", self="c") == ("a", {"ctx": "b", "self": "c"})


@pytest.mark.asyncio
async def test_async_functions_are_awaited() -> None:
    @query
    async def find(ctx: int) -> int:
        return ctx

    assert find.is_async
    assert await find(7) == 7


def test_wrapped_handlers_are_async_when_what_they_wrap_is() -> None:
    def traced(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return handler(*args, **kwargs)

        return wrapper

    async def asynchronous(ctx: object) -> None: ...

    def blocking(ctx: object) -> None: ...

    assert query(traced(asynchronous)).is_async
    assert not query(traced(blocking)).is_async


def test_names_and_paths() -> None:
    @query(name="list")
    def list_messages(ctx: object) -> None: ...

    assert (list_messages.name, list_messages.has_name) == ("list", True)
    assert query(lambda ctx: ctx).name == "<lambda>"
    list_messages.module = "messages"
    assert list_messages.path == "messages:list"
    assert repr(list_messages) == "<public query messages:list>"


def test_a_function_imported_without_a_loader_knows_its_path() -> None:
    def send(ctx: object) -> None: ...

    send.__module__ = "functions.ai.messages"
    assert mutation(send).path == "ai/messages:send"


def generates(ctx: object) -> Any:
    yield 1


async def generates_later(ctx: object) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: query({"body": v.string()}), "options are keywords"),
        (lambda: query(int), "decorates a function"),
        (lambda: query(query(lambda ctx: ctx)), "decorated already"),
        (lambda: query(generates), "can't yield"),
        (lambda: query(generates_later), "can't yield"),
        (lambda: query(name=3), "takes a string"),
        (lambda: http_action(args={}), "has no args="),
        (lambda: http_action(returns=v.null()), "has no args="),
    ],
)
def test_misuse_is_refused_at_once(wrong: Callable[[], Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        wrong()


@pytest.mark.parametrize("name", ["", "1st", "a-b", "__", "a" * 65, "a:b"])
def test_a_name_must_be_an_identifier(name: str) -> None:
    with pytest.raises(ValueError, match="the name"):
        query(name=name)
