"""Values inside error texts."""

from typing import Any

import pytest
from hypothesis import given

from reactor.values.display import display, display_char, sendable
from reactor.values.types import Value, undefined
from tests.values.strategies import law, values
from tests.values.vectors import from_typed, load


@pytest.mark.parametrize("case", load("value-display")["cases"], ids=lambda case: case["display"][:40])
def test_values_print_as_published(case: dict[str, Any]) -> None:
    assert display(from_typed(case["typed"])) == case["display"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e16, "1e16"),
        (9999999999999998.0, "9999999999999998.0"),
        (1.5e-5, "1.5e-5"),
        (0.0001, "0.0001"),
        (undefined, "undefined"),
        ({"b": 1.0, "a": None}, "{a: null, b: 1.0}"),
        ("ก\u0e31", '"ก\\u{e31}"'),
        ("\u200c'", '"\\u{200c}\'"'),
    ],
)
def test_texts(value: Any, text: str) -> None:
    assert display(value) == text


@pytest.mark.parametrize(
    ("char", "text"),
    [("a", "'a'"), ("'", "'\\''"), ('"', "'\"'"), ("\\", "'\\\\'"), ("\x1f", "'\\u{1f}'"), ("é", "'é'")],
)
def test_characters(char: str, text: str) -> None:
    assert display_char(char) == text


def test_a_message_is_always_valid_unicode() -> None:
    assert sendable("a\ud800é") == "a?é"


@law
@given(values())
def test_every_value_prints(value: Value) -> None:
    display(value).encode()
