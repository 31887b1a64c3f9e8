"""Error texts at depth: paths, and which object is shown."""

import pytest

from reactor.errors import ValidationError
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.ids import encode_id
from reactor.values.types import Int64, Value
from tests.schema.strategies import TABLES


def text_of(validator: Validator, value: Value) -> str:
    with pytest.raises(ValidationError) as failure:
        validator.check(value, TABLES)
    return str(failure.value)


def test_path_leads_through_every_container() -> None:
    validator = v.object({"a": v.array(v.record(v.string(), v.object({"b": v.number()})))})
    assert text_of(validator, {"a": [{}, {"k": {"b": "x"}}]}) == (
        'Value does not match validator.\nPath: .a[1].values().b\nValue: "x"\nValidator: v.float64()'
    )


def test_innermost_object_is_shown() -> None:
    validator = v.object({"a": v.object({"b": v.number()}), "z": v.string()})
    assert text_of(validator, {"a": {}, "z": "long"}).endswith(
        "Path: .a\nObject: {}\nValidator: v.object({b: v.float64()})"
    )


def test_extra_fields_come_after_declared_ones_and_in_order_of_name() -> None:
    validator = v.object({"m": v.number()})
    assert "extra field `a`" in text_of(validator, {"z": 1.0, "a": 1.0, "m": 1.0})
    assert "Path: .m" in text_of(validator, {"a": 1.0, "m": "x"})
    assert "missing the required field `m`" in text_of(validator, {"a": 1.0})


def test_a_starting_path_is_continued() -> None:
    with pytest.raises(ValidationError, match=r"Path: \.doc\.a\n"):
        v.object({"a": v.number()}).check({"a": None}, TABLES, ".doc")


def test_union_of_one_reports_its_member_and_others_themselves() -> None:
    one = v.union(v.object({"a": v.number()}))
    assert "Path: .a" in text_of(one, {"a": "x"})
    two = v.union(v.object({"a": v.number()}), v.null())
    assert text_of(two, {"a": "x"}) == (
        'Value does not match validator.\n\nValue: {a: "x"}\nValidator: v.union(v.object({a: v.float64()}), v.null())'
    )


def test_texts_of_literals_and_ids_run_into_the_path() -> None:
    assert text_of(v.array(v.literal(Int64(3))), [Int64(4)]) == (
        "`4` does not match literal validator `v.literal(<bigint>)`.Path: [0]"
    )
    post = encode_id(10002, b"0" * 16)
    assert text_of(v.array(v.id("users")), [post]) == (
        f'Found ID "{post}" from table `posts`, which does not match the table name in validator `v.id("users")`.'
        "Path: [0]"
    )


def test_integer_prints_as_what_was_declared() -> None:
    assert text_of(v.integer(), 1.5) == "Value does not match validator.\n\nValue: 1.5\nValidator: v.integer()"


def test_unknown_tables_and_garbage_are_plain_mismatches() -> None:
    for text in ("", "garbage", "j" * 32, encode_id(10003, b"0" * 16), "é" * 32, "x" * 100_000):
        assert text_of(v.id("users"), text).startswith("Value does not match validator.")
        assert not v.id("users").accepts(text, TABLES)
