"""Tests of function paths, folding and references."""

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import InvalidArgument, NotSupported, ProtocolError
from reactor.runtime.components.definitions import define_app
from reactor.runtime.decorators import query
from reactor.runtime.references import (
    FunctionPath,
    FunctionReference,
    api,
    components,
    fold,
    function_path,
    internal,
    parse_path,
)


@pytest.mark.parametrize(
    ("text", "module", "function"),
    [
        ("messages:send", "messages", "send"),
        ("messages.js:send", "messages", "send"),
        ("messages", "messages", "default"),
        ("messages.js", "messages", "default"),
        ("messages:default", "messages", "default"),
        ("ai/analytics:logAIRequest", "ai/analytics", "logAIRequest"),
        ("_system/cli/tables:list", "_system/cli/tables", "list"),
        ("a1/_b2:_c", "a1/_b2", "_c"),
    ],
)
def test_paths_parse(text: str, module: str, function: str) -> None:
    assert parse_path(text) == FunctionPath(module, function)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", ":send", "messages:", "/messages:send", "messages/:send", "a//b:send", "../a:send", "a..b:send",
        "messages.ts:send", "messages.py:send", "mess ages:send", "_deps/x:send", "__/x:send", "messages:1send",
        "messages:se-nd", "messages:__", "é:send", "m" * 65 + ":send", "messages:" + "s" * 65,
        "a:b:c", "messages:send\n",
    ],
)  # fmt: skip
def test_bad_paths_are_protocol_errors(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"is not a valid path to a Convex function\. Reason: ") as failure:
        parse_path(text)
    assert failure.value.rule == "BadConvexFunctionIdentifier"
    assert str(failure.value).startswith(text)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        path = parse_path(text)
    except ProtocolError:
        return
    assert parse_path(path.canonical) == parse_path(str(path)) == path


def test_a_long_bad_path_is_not_repeated_in_full() -> None:
    with pytest.raises(ProtocolError) as failure:
        parse_path("/" * 10_000)
    assert len(str(failure.value)) < 400


def test_paths_show_without_default() -> None:
    assert str(FunctionPath("messages", "default")) == "messages"
    assert str(FunctionPath("messages", "send")) == "messages:send"
    assert FunctionPath("messages", "default").canonical == "messages:default"
    assert FunctionPath("_system/x", "y").is_system
    assert not FunctionPath("system", "y").is_system


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("rateLimiting", "ratelimiting"),
        ("rate_limiting", "ratelimiting"),
        ("Rate__Limiting", "ratelimiting"),
        ("logAIRequest", "logairequest"),
        ("_private_name", "_privatename"),
        ("trailing_", "trailing_"),
        ("__a_b__", "__ab__"),
        ("ai/log_all/_x_y", "ai/logall/_xy"),
        ("İ", "İ"),
    ],
)
def test_folding_ignores_case_and_inner_underscores(name: str, folded: str) -> None:
    assert fold(name) == folded


@given(st.from_regex(r"[A-Za-z_]{1,12}", fullmatch=True))
def test_folding_twice_changes_nothing(name: str) -> None:
    assert fold(fold(name)) == fold(name)


def test_references_spell_paths() -> None:
    assert function_path(api.messages.send) == "messages:send"
    assert function_path(internal.ai.analytics.logAIRequest) == "ai/analytics:logAIRequest"
    assert function_path("messages.js:send") == "messages.js:send"
    assert repr(api.messages.send) == "api.messages.send"


def test_a_decorated_function_stands_for_its_path() -> None:
    @query(name="list")
    def list_messages(ctx: object) -> None: ...

    list_messages.module = "ai/messages"
    assert function_path(list_messages) == "ai/messages:list"


def test_references_compare_by_name() -> None:
    assert api.a.b == api.a.b
    assert api.a.b != internal.a.b
    assert len({api.a.b, api.a.b, api.a.c}) == 2
    assert api.a.b != "a:b"


@pytest.mark.parametrize("wrong", [api, api.messages, internal.x, None, 3, print])
def test_what_names_no_function_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidArgument):
        function_path(wrong)


def test_component_references_are_not_supported_yet() -> None:
    with pytest.raises(NotSupported, match=r"components\.limiter\.lib\.check"):
        function_path(components.limiter.lib.check)


def test_references_are_not_mistaken_for_other_things() -> None:
    assert not hasattr(api.messages, "__len__")
    with pytest.raises(TypeError, match=r"ctx\.run_query"):
        api.messages.send({})


def test_who_imports_a_component_the_wrong_way_is_told_the_right_one() -> None:
    """`reactor.components` is the object with references, whatever Python has loaded under that name."""
    import reactor.components.rate_limiter as wrong
    from reactor.components import rate_limiter as right

    assert isinstance(right, ModuleType)
    assert isinstance(wrong, FunctionReference)
    with pytest.raises(TypeError, match=r"`from reactor.components import rate_limiter`"):
        wrong.TokenBucket(1, 1000)
    with pytest.raises(InvalidArgument, match=r"`from reactor.components import name`"):
        define_app().use(wrong)
    with pytest.raises(TypeError) as plain:
        api.messages.send()
    assert "import" not in str(plain.value)
