"""Names of fields, tables and indexes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import ValidationError
from reactor.values.names import check_field_name, check_identifier, parse_field_path, suggestion
from tests.values.strategies import law


@pytest.mark.parametrize("name", ["", "a", "a b", "a.b", "_id", "a$", "~", " ", "k" * 1024])
def test_field_names(name: str) -> None:
    check_field_name(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("$a", "Field name $a starts with '$', which is reserved."),
        ("$é", "Field name $é starts with '$', which is reserved."),
        ("é", "Field name é has invalid character 'é': Field names can only contain non-control ASCII characters"),
        ("a\0", "Field name a\0 has invalid character '\\0': "
            "Field names can only contain non-control ASCII characters"),
        ("\x7f", "Field name \x7f has invalid character '\\u{7f}': "
            "Field names can only contain non-control ASCII characters"),
        ("a\n", "Field name a\n has invalid character '\\n': "
            "Field names can only contain non-control ASCII characters"),
        ("k" * 1025, "Field name is too long (1025 > maximum 1024)"),
    ],
)  # fmt: skip
def test_refused_field_names(name: str, text: str) -> None:
    with pytest.raises(ValidationError) as failure:
        check_field_name(name)

    assert str(failure.value) == text


@pytest.mark.parametrize("name", ["a", "A9", "_a", "_1", "__a__", "x" * 64])
def test_identifiers(name: str) -> None:
    check_identifier(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "Identifier cannot be empty"),
        ("1a", "Invalid first character '1' in 1a: "
            "Identifiers must start with an alphabetic character or underscore"),
        ("é", "Invalid first character 'é' in é: Identifiers must start with an alphabetic character or underscore"),
        ("a-b", "Identifier a-b has invalid character '-': "
            "Identifiers can only contain alphanumeric characters or underscores"),
        ("a\n", "Identifier a\n has invalid character '\\n': "
            "Identifiers can only contain alphanumeric characters or underscores"),
        ("a'", "Identifier a' has invalid character '\\'': "
            "Identifiers can only contain alphanumeric characters or underscores"),
        ("a٣", "Identifier a٣ has invalid character '٣': "
            "Identifiers can only contain alphanumeric characters or underscores"),
        ("x" * 65, "Identifier is too long (65 > maximum 64)"),
        ("_" * 65, "Identifier is too long (65 > maximum 64)"),
        ("__", "Identifier __ cannot have exclusively underscores"),
    ],
)  # fmt: skip
def test_refused_identifiers(name: str, text: str) -> None:
    with pytest.raises(ValidationError) as failure:
        check_identifier(name)

    assert str(failure.value) == text


@law
@given(st.text(max_size=8) | st.text(st.sampled_from("aZ_09$.é\n"), max_size=6))
def test_names_are_accepted_by_the_rule_and_nothing_else(name: str) -> None:
    identifier = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and name.strip("_") != ""
    field = re.fullmatch(r"[\x20-\x7e]*", name) is not None and not name.startswith("$")
    for check, accepted in ((check_identifier, identifier), (check_field_name, field)):
        try:
            check(name)
        except ValidationError:
            assert not accepted
        else:
            assert accepted


@pytest.mark.parametrize(
    ("text", "path"),
    [("a", ("a",)), ("a.b._c", ("a", "b", "_c")), (".a.", ("a",)), ("_creationTime", ("_creationTime",))],
)
def test_field_paths(text: str, path: tuple[str, ...]) -> None:
    assert parse_field_path(text) == path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Empty path "),
        ("..", "Empty path .."),
        ("a..b", "Identifier cannot be empty"),
        ("a.__", "Identifier __ cannot have exclusively underscores"),
    ],
)
def test_refused_field_paths(text: str, problem: str) -> None:
    with pytest.raises(ValidationError) as failure:
        parse_field_path(text)

    assert str(failure.value) == problem


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        ("mesages", ["messages", "users"], "Did you mean 'messages'?"),
        ("x", ["messages", "users"], "It has: messages, users."),
        ("x", [], "It has: none."),
    ],
)
def test_who_asks_for_what_is_not_there_is_told_what_is(name: str, known: list[str], sentence: str) -> None:
    assert suggestion(name, known) == sentence
