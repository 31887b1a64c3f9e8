"""Tests of the registry: exact and folded lookup, collisions, and the function spec."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import ProtocolError, PushError
from reactor.runtime.decorators import Function, query
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.registry import MAX_SPELLINGS, Registry
from tests.runtime.projects import loaded, write


def made(name: str = "f") -> Function[[], None]:
    def handler(ctx: Any) -> None: ...

    handler.__name__ = name
    return query(handler)


def registry(*paths: str) -> Registry:
    filled = Registry()
    for path in paths:
        module, _, name = path.rpartition(":")
        filled.register(module, name, made(name), "digest")
    return filled


def found(filled: Registry, text: str) -> str | None:
    registered = filled.lookup(text)
    return None if registered is None else registered.path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("embeddings/rateLimiting:checkRateLimit", "embeddings/rate_limiting:check_rate_limit"),
        ("embeddings/rate_limiting:check_rate_limit", "embeddings/rate_limiting:check_rate_limit"),
        ("embeddings/rate_limiting.js:checkRateLimit", "embeddings/rate_limiting:check_rate_limit"),
        ("ai/analytics:logAIRequest", "ai/analytics:log_ai_request"),
        ("messages", "messages:default"),
        ("messages.js:default", "messages:default"),
        ("messages:_private", "messages:_private"),
        ("messages:private", None),
        ("embeddingsrate_limiting:check_rate_limit", None),
        ("nowhere:f", None),
    ],
)
def test_lookup_is_exact_and_then_folded(text: str, path: str | None) -> None:
    filled = registry(
        "embeddings/rate_limiting:check_rate_limit",
        "ai/analytics:log_ai_request",
        "messages:default",
        "messages:_private",
    )
    assert found(filled, text) == path
    assert found(filled, text) == path


def test_a_bad_path_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        registry("m:f").lookup("m:f:g")


@given(st.lists(st.text(alphabet="fFoO_", max_size=8), max_size=30))
def test_lookups_never_grow_the_registry_beyond_its_spellings(names: list[str]) -> None:
    filled = registry("m:foo", "m:f")
    for name in names:
        try:
            filled.lookup(f"m:{name}")
        except ProtocolError:
            continue
    assert set(filled.functions) == {"m:foo", "m:f"}
    assert len(filled._spellings) <= MAX_SPELLINGS


@pytest.mark.parametrize(
    ("first", "second"),
    [("m:check_it", "m:checkIt"), ("a_b/m:f", "aB/m:f"), ("m:f", "M:F"), ("m:a_b", "m:a__b")],
)
def test_two_functions_that_fold_alike_are_a_push_error_naming_both(first: str, second: str) -> None:
    with pytest.raises(PushError, match="can't be told apart") as failure:
        registry(first, second)
    assert first in str(failure.value)
    assert second in str(failure.value)
    assert (failure.value.file, failure.value.line is None) == (__file__, False)


def test_an_alias_of_the_same_function_is_no_collision() -> None:
    function = made("check_it")
    filled = Registry()
    filled.register("m", "check_it", function, "digest")
    filled.register("m", "checkIt", function, "digest")
    filled.register("m", "verify", function, "digest")
    assert set(filled.functions) == {"m:check_it", "m:verify"}
    assert function.path == "m:check_it"


def test_a_name_that_is_no_identifier_is_a_push_error() -> None:
    with pytest.raises(PushError, match="only hold letters"):
        registry("m:é")


def test_a_collision_in_a_project_names_the_users_lines(tmp_path: Path) -> None:
    source = "from reactor import query\n@query\ndef check_it(ctx): ...\n@query\ndef checkIt(ctx): ...\n"
    with pytest.raises(PushError) as failure:
        ProjectLoader(write(tmp_path, {"functions/m.py": source})).load()
    assert str(failure.value).startswith("functions/m.py:4: m:checkIt and m:check_it (")
    assert failure.value.line == 4


def test_the_spec_is_the_official_one(tmp_path: Path) -> None:
    files = {
        "functions/messages.py": """
            from reactor import http_action, internal_mutation, query, v

            @query(args={"n": v.integer()}, returns=v.null())
            def list(ctx, n): ...

            @internal_mutation
            def clear(ctx, **args): ...

            @http_action
            def hook(ctx, request): ...
        """
    }
    with loaded(tmp_path, files) as project:
        assert project.registry.spec() == [
            {
                "args": {"type": "any"},
                "functionType": "Mutation",
                "identifier": "messages.js:clear",
                "returns": None,
                "visibility": {"kind": "internal"},
            },
            {
                "args": {"type": "object", "value": {"n": {"fieldType": {"type": "number"}, "optional": False}}},
                "functionType": "Query",
                "identifier": "messages.js:list",
                "returns": {"type": "null"},
                "visibility": {"kind": "public"},
            },
        ]
        registered = project.registry.functions["messages:list"]
        assert (registered.kind, registered.visibility, registered.line) == ("query", "public", 4)
        assert registered.file == str(tmp_path / "functions/messages.py")
        assert registered.digest == project.digests["functions.messages"]
        assert registered.place == f"messages:list ({registered.file}:4)"
