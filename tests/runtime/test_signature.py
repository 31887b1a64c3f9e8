"""Tests of binding: which declarations fit which handlers, and what arrives where."""

import functools
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest

from reactor.errors import ArgumentsInvalid, PushError
from reactor.runtime.decorators import action, http_action, mutation, query
from reactor.runtime.references import snake_case
from reactor.runtime.signature import Binder
from reactor.schema.validators import v
from reactor.values.types import Int64
from tests.runtime.projects import loaded


def bound(function: Any, args: dict[str, Any]) -> dict[str, Any]:
    return Binder(function, "m:f").bind(args)


@pytest.mark.parametrize(
    ("name", "snake"),
    [("userId", "user_id"), ("apiKeyID", "api_key_id"), ("HTTPServer", "http_server"), ("x2Y", "x2_y"), ("a_b", "a_b")],
)
def test_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_declared_arguments_arrive_under_their_names() -> None:
    @query(args={"channel": v.string(), "limit": v.optional(v.integer())})
    def find(ctx: Any, channel: str, limit: int = 50, *, extra: str = "default") -> None: ...

    binder = Binder(find, "m:find")
    assert str(binder.args) == "v.object({channel: v.string(), limit: v.optional(v.integer())})"
    assert binder.bind({"channel": "a"}) == {"channel": "a"}
    viewed = binder.bind({"channel": "a", "limit": 3.0})
    assert type(viewed["limit"]) is int


def test_camel_case_arguments_reach_snake_case_parameters() -> None:
    @query(args={"userId": v.string(), "apiKey": v.string(), "plain": v.string()})
    def find(ctx: Any, user_id: str, apiKey: str, plain: str) -> None: ...

    assert bound(find, {"userId": "u", "apiKey": "k", "plain": "p"}) == {"user_id": "u", "apiKey": "k", "plain": "p"}


def test_both_spellings_may_be_declared() -> None:
    @query(args={"userId": v.string(), "user_id": v.string()})
    def find(ctx: Any, userId: str, user_id: str) -> None: ...

    assert bound(find, {"userId": "a", "user_id": "b"}) == {"userId": "a", "user_id": "b"}


def test_keywords_collect_all_names() -> None:
    @mutation(args={"from": v.string(), "to": v.string(), "userId": v.string()})
    def send(ctx: Any, to: str, **args: str) -> None: ...

    sent = {"from": "a", "to": "b", "userId": "c"}
    assert bound(send, dict(sent)) == sent


def test_any_arguments_are_matched_at_each_call() -> None:
    @action(args=v.any())
    def run(ctx: Any, user_id: str, limit: float = 1) -> None: ...

    assert bound(run, {"userId": "u", "limit": 2.0}) == {"user_id": "u", "limit": 2.0}
    with pytest.raises(ArgumentsInvalid, match="takes no argument `other`"):
        bound(run, {"userId": "u", "other": 1.0})
    with pytest.raises(ArgumentsInvalid, match="needs the argument `user_id`"):
        bound(run, {"limit": 1.0})


def test_without_declaration_keywords_take_anything() -> None:
    @action
    def run(ctx: Any, first: Any = None, **rest: Any) -> None: ...

    sent = {"first": 1.0, "a b": 2.0, "restOf": None}
    assert Binder(run, "m:run").args == v.any()
    assert bound(run, dict(sent)) == sent
    with pytest.raises(ArgumentsInvalid, match="name of its context parameter"):
        bound(run, {"ctx": 1.0})


def test_a_positional_only_context_leaves_its_name_free() -> None:
    @action
    def run(ctx: Any, /, **args: Any) -> None: ...

    assert bound(run, {"ctx": 1.0}) == {"ctx": 1.0}


class Options(TypedDict):
    limit: int


@dataclass
class Point:
    x: int
    y: float = 0.0


class Shape(msgspec.Struct):
    points: list[Point]


def test_annotations_declare_arguments() -> None:
    @query
    async def find(
        ctx: "NotImportedAtRunTime",  # type: ignore[name-defined]  # noqa: F821
        text: str,
        anything,  # type: ignore[no-untyped-def]
        count: int,
        big: Int64,
        shape: Shape,
        options: Options,
        kind: Literal["a", "b"],
        channel: Annotated[str, v.id("channels")],
        missing: "str | None" = None,
        tags: list[str] = [],  # noqa: B006
    ) -> list[Point]: ...

    binder = Binder(find, "m:find")
    fields = {name: str(field) for name, field in binder.args.fields.items()}  # type: ignore[attr-defined]
    assert fields["text"] == "v.string()"
    assert fields["anything"] == "v.any()"
    assert fields["big"] == "v.int64()"
    assert fields["channel"] == 'v.id("channels")'
    assert fields["missing"] == "v.optional(v.union(v.string(), v.null()))"
    assert fields["tags"] == "v.optional(v.array(v.string()))"
    arrived = binder.bind(
        {"count": 3.0, "big": Int64(4), "shape": {"points": [{"x": 1.0}]}, "options": {"limit": 2.0}, "text": "t"}
    )
    assert arrived["count"] == 3
    assert type(arrived["count"]) is type(arrived["options"]["limit"]) is int
    assert arrived["shape"] == Shape([Point(1)])
    assert type(arrived["shape"].points[0].x) is int
    assert str(binder.returns).startswith("v.array(v.object(")
    assert binder.result([Point(1, 2.0)]) == [{"x": 1, "y": 2.0}]


def test_declared_functions_ignore_annotations() -> None:
    @query(args={"count": v.number()})
    def find(ctx: Any, count: int) -> set[int]: ...

    binder = Binder(find, "m:find")
    assert binder.returns is None
    assert type(binder.bind({"count": 1.0})["count"]) is float


def test_returns_may_be_declared_alone() -> None:
    @query(returns={"ok": v.boolean()})
    def find(ctx: Any, name: str) -> object: ...

    binder = Binder(find, "m:find")
    assert str(binder.args) == "v.object({name: v.string()})"
    assert str(binder.returns) == "v.object({ok: v.boolean()})"


@pytest.mark.parametrize(("annotation", "returns"), [(None, "v.null()"), (Any, "v.any()"), ("str", "v.string()")])
def test_return_annotations(annotation: Any, returns: str) -> None:
    def find(ctx: Any) -> None: ...

    find.__annotations__["return"] = annotation
    assert str(Binder(query(find), "m:find").returns) == returns
    del find.__annotations__["return"]
    assert Binder(query(find), "m:find").returns is None


def test_wrapped_handlers_keep_their_signature() -> None:
    def traced(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return handler(*args, **kwargs)

        return wrapper

    @query
    @traced
    def find(ctx: Any, count: int) -> None: ...

    assert str(Binder(find, "m:find").args) == "v.object({count: v.integer()})"


def test_http_actions_take_a_request() -> None:
    @http_action
    async def hook(ctx: Any, request: "Request") -> "Response": ...  # type: ignore[name-defined]  # noqa: F821

    assert Binder(hook, "m:hook").returns is None
    with pytest.raises(PushError, match="takes two parameters"):
        Binder(http_action(lambda ctx: ctx), "m:hook")


class Unsupported: ...


def both(ctx: Any, userId: str, user_id: str) -> None: ...
def one(ctx: Any, a: str) -> None: ...
def rest(ctx: Any, a: str, **others: Any) -> None: ...
def unsupported(ctx: Any, a: Unsupported) -> None: ...
def unsupported_return(ctx: Any) -> Unsupported: ...
def unknown(ctx: Any, a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def bad_name(ctx: Any, é: str) -> None: ...
def snake(ctx: Any, user_id: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (query(lambda: 0), "the first parameter of a function is its context"),
        (query(lambda *, ctx: 0), "the first parameter of a function is its context"),
        (query(lambda ctx, *args: 0), r"`\*args` would never receive any"),
        (query(lambda ctx, a, /: 0), "parameter `a` is positional-only"),
        (query(args={"userId": v.string()})(both), "parameter `userId` or `user_id`: keep one"),
        (query(args={"userId": v.string(), "userID": v.string()})(snake), "would both go to parameter `user_id`"),
        (query(args={})(one), "parameter `a` has no argument in `args=`"),
        (query(args={"a": v.string(), "b": v.string()})(one), "argument `b` has no parameter"),
        (query(args={"a": v.optional(v.string())})(one), "parameter `a` needs a default value"),
        (query(args={"a": v.string(), "ctx": v.null()})(rest), "has the name of the context parameter"),
        (query(args={"a": 3})(one), "Error in args validator"),
        (query(args=v.string())(one), "Args validator must be an object or any"),
        (query(args=[])(one), "args= takes a validator"),
        (query(args={"a": v.record(v.int64(), v.any())})(one), "Records can only have string keys"),
        (query(returns={"a": 3})(one), "Error in returns validator"),
        (query(returns=str)(one), "returns= takes a validator"),
        (query(rest), "give args="),
        (query(unsupported), "m:f: parameter `a`: Unsupported is not supported. Supported annotations: str, bool"),
        (query(unsupported_return), "m:f: the return annotation: Unsupported is not supported"),
        (query(unknown), "annotation of parameter `a`, 'Nowhere', can't be evaluated: name 'Nowhere' is not defined"),
        (query(bad_name), "Invalid first character"),
    ],
)
def test_what_does_not_fit_is_a_push_error_at_the_handler(function: Any, text: str) -> None:
    with pytest.raises(PushError, match=text) as failure:
        Binder(function, "m:f")
    assert str(failure.value).startswith("m:f: ")
    assert failure.value.file == __file__
    assert failure.value.line == function.handler.__code__.co_firstlineno


def test_text_annotations_see_the_module_and_the_function_around(tmp_path: Path) -> None:
    source = """
        from __future__ import annotations
        import typing
        from reactor import query
        if typing.TYPE_CHECKING:
            from reactor import QueryCtx

        def make():
            class Local(typing.TypedDict):
                size: int

            @query
            def made(ctx: QueryCtx, local: Local, late: Late) -> Local:
                return Local(size=1)

            return made

        made = make()

        class Late(typing.TypedDict):
            name: str
    """
    with loaded(tmp_path, {"functions/m.py": source}) as project:
        binder = project.registry.functions["m:made"].binder
        assert sorted(binder.args.fields) == ["late", "local"]
        assert str(binder.returns) == "v.object({size: v.integer()})"


def test_binding_four_simple_arguments_costs_next_to_nothing() -> None:
    @mutation(args={name: v.string() for name in "abcd"})
    def send(ctx: Any, a: str, b: str, c: str, d: str) -> None: ...

    bind, args = Binder(send, "m:send").bind, dict.fromkeys("abcd", "text")
    assert bind(args) is args
    assert min(timeit.repeat(lambda: bind(args), number=10_000, repeat=5)) / 10_000 < 10e-6
