"""Every validator vector: exports, builder checks, and 750 verdicts with their texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from reactor.errors import SchemaInvalid, ValidationError
from reactor.schema.pagination import pagination_opts_validator, pagination_result_validator
from reactor.schema.validators import Validator, v, validator_from_json
from reactor.values.json import value_from_json
from reactor.values.types import Int64, undefined
from tests.schema.strategies import TABLES, validators

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "validators.json").read_text())

abc = v.object({"a": v.string(), "b": v.optional(v.number()), "c": v.boolean()})
BUILDERS: dict[str, Validator] = {
    "null": v.null(),
    "number": v.number(),
    "float64": v.float64(),
    "int64": v.int64(),
    "bigint": v.bigint(),
    "commitTs": v.commit_ts(),
    "boolean": v.boolean(),
    "string": v.string(),
    "bytes": v.bytes(),
    "any": v.any(),
    "id": v.id("users"),
    "literal_string": v.literal("x"),
    "literal_number": v.literal(1),
    "literal_bigint": v.literal(Int64(1)),
    "literal_boolean": v.literal(True),
    "array": v.array(v.string()),
    "record": v.record(v.id("users"), v.number()),
    "object": v.object({"a": v.number(), "b": v.optional(v.string())}),
    "union": v.union(v.string(), v.null()),
    "nullable": v.nullable(v.string()),
    "empty_union": v.union(),
    "paginationOptsValidator": pagination_opts_validator,
    "paginationResultValidator": pagination_result_validator(v.any()),
    "object.pick(a,b)": abc.pick("a", "b"),
    "object.omit(c)": abc.omit("c"),
    "object.partial()": abc.partial(),
    "object.extend({d})": abc.extend({"d": v.null()}),
    "object.extend override": abc.extend({"a": v.int64()}),
    "asOptional in field": v.object({"o": v.nullable(v.string()).optional()}),
    "optional(string) standalone": v.optional(v.string()),
}
BAD: Any = 1  # stands for what a type checker would refuse
CONSTRUCTORS: dict[str, Callable[[], Validator]] = {
    "v.literal(null)": lambda: v.literal(None),  # type: ignore[arg-type]
    "v.literal(NaN)": lambda: v.literal(float("nan")),
    "v.literal({})": lambda: v.literal({}),  # type: ignore[arg-type]
    "v.id(1)": lambda: v.id(BAD),
    "v.array(undefined)": lambda: v.array(undefined),  # type: ignore[arg-type]
    "v.object({a:undefined})": lambda: v.object({"a": None}),  # type: ignore[dict-item]
    "v.object({a:1})": lambda: v.object({"a": BAD}),
    "v.union(undefined)": lambda: v.union(undefined),  # type: ignore[arg-type]
    "v.record(v.optional(v.string()),v.any())": lambda: v.record(v.optional(v.string()), v.any()),
    "v.record(v.string(),v.optional(v.any()))": lambda: v.record(v.string(), v.optional(v.any())),
    "v.record(v.number(),v.any())": lambda: v.record(v.number(), v.any()),
    "v.record(v.literal('a'),v.any())": lambda: v.record(v.literal("a"), v.any()),
    "v.array(v.optional(v.string()))": lambda: v.array(v.optional(v.string())),
    "v.union(v.optional(v.string()))": lambda: v.union(v.optional(v.string())),
    "v.object({'a b':v.any()})": lambda: v.object({"a b": v.any()}),
}


def strict(obj: object) -> str:
    """JSON text that keeps apart what Python takes for equal: numbers as floats, booleans as they are."""
    return json.dumps(json.loads(json.dumps(obj), parse_int=float), sort_keys=True)


def test_every_builder_vector_is_tried() -> None:
    assert set(BUILDERS) == set(VECTORS["exported_json"])
    assert set(CONSTRUCTORS) == {check["name"] for check in VECTORS["constructor_checks"]}
    assert len(VECTORS["cases"]) == 750


@pytest.mark.parametrize("name", VECTORS["exported_json"])
def test_builder_exports_as_official(name: str) -> None:
    expected, validator = VECTORS["exported_json"][name], BUILDERS[name]
    assert strict(validator.to_json()) == strict(expected["json"])
    assert validator.kind == expected["kind"]
    assert validator.is_optional == (expected["isOptional"] == "optional")


@pytest.mark.parametrize("check", VECTORS["constructor_checks"], ids=lambda check: check["name"])
def test_builder_refuses_as_official(check: dict[str, Any]) -> None:
    build = CONSTRUCTORS[check["name"]]
    if not check["throws"]:
        assert strict(build().to_json()) == strict(check["json"])
        return
    with pytest.raises(SchemaInvalid) as failure:
        build()
    assert str(failure.value) == check["js_error"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['n']}-{case['name']}")
def test_verdict_and_text_are_official(case: dict[str, Any]) -> None:
    validator, value = validator_from_json(case["validator"]), value_from_json(case["value"])
    assert validator.accepts(value, TABLES) == case["valid"]
    found = validator.mismatch(value, TABLES, "")
    if case["valid"]:
        validator.check(value, TABLES)
        assert found is None
        return
    assert found is not None
    assert found.kind == case["error_kind"]
    with pytest.raises(ValidationError) as failure:
        validator.check(value, TABLES)
    assert str(failure.value) == case["error_text"]


@given(validators)
def test_stored_form_restores_what_was_declared(validator: Validator) -> None:
    restored = validator_from_json(json.loads(json.dumps(validator.to_json(stored=True))))
    assert restored == validator
    assert hash(restored) == hash(validator)
    assert str(restored) == str(validator)


def test_export_of_integer_is_a_number_and_its_stored_form_is_not() -> None:
    assert v.integer().to_json() == {"type": "number"}
    assert validator_from_json(v.integer().to_json()) == v.number()
    assert validator_from_json(v.integer().to_json(stored=True)) == v.integer()


@pytest.mark.parametrize("removed", ["map", "set"])
def test_removed_types_of_old_data_read_as_any(removed: str) -> None:
    assert validator_from_json({"type": removed, "value": {"type": "string"}}) == v.any()


@pytest.mark.parametrize(
    "obj",
    [
        None,
        "string",
        {},
        {"type": "strings"},
        {"type": "id"},
        {"type": "array"},
        {"type": "union", "value": {}},
        {"type": "object", "value": {"a": {"type": "string"}}},
        {"type": "literal", "value": None},
    ],
)
def test_anything_else_is_no_validator(obj: object) -> None:
    with pytest.raises(SchemaInvalid):
        validator_from_json(obj)


def test_builders_name_what_is_missing_or_wrong() -> None:
    for build in (
        lambda: v.array(BAD),
        lambda: v.union(BAD),
        lambda: v.record(BAD, v.any()),
        lambda: v.record(v.string(), None),  # type: ignore[arg-type]
        lambda: v.optional(BAD),
        lambda: v.optional(None),  # type: ignore[type-var]
        lambda: v.object({1: v.any()}),  # type: ignore[dict-item]
        lambda: v.object([]),  # type: ignore[arg-type]
        lambda: abc.pick("d"),
        lambda: abc.omit("d"),
    ):
        with pytest.raises(SchemaInvalid) as failure:
            build()
        assert failure.value.rule == "InvalidValidator"
    with pytest.raises(SchemaInvalid, match='no field "d" to omit'):
        abc.omit("d")


def test_equality_tells_apart_what_python_takes_for_equal() -> None:
    assert v.literal(1) != v.literal(True)
    assert v.literal(0.0) != v.literal(-0.0)
    assert v.literal(1) == v.literal(1.0)
    assert v.literal(1) != v.literal(Int64(1))
    assert v.string() != v.optional(v.string())
    assert v.string() != "v.string()"
    assert v.commit_ts() != v.int64()


def test_optional_leaves_the_original_alone() -> None:
    field = v.string()
    assert repr(v.optional(field)) == "v.optional(v.string())"
    assert str(field) == "v.string()"
    assert str(v.array(v.optional(field))) == "v.array(v.string())"
