"""Rules for validators at a push."""

import pytest

from reactor.errors import SchemaInvalid
from reactor.schema.rules import (
    can_be_vector,
    check_args_validator,
    check_document_validator,
    check_returns_validator,
    check_validator,
    validators_at,
    without_system_fields,
)
from reactor.schema.validator import Validator
from reactor.schema.validators import v


def refusal(validator: Validator) -> tuple[str, str]:
    with pytest.raises(SchemaInvalid) as failure:
        check_validator(validator)
    return failure.value.rule, str(failure.value)


@pytest.mark.parametrize(
    ("keys", "printed"),
    [
        (v.number(), "v.float64()"),
        (v.any(), "v.any()"),
        (v.union(v.string(), v.null()), "v.union(v.string(), v.null())"),
    ],
)
def test_record_keys_must_be_strings(keys: Validator, printed: str) -> None:
    assert refusal(v.record(keys, v.any())) == (
        "InvalidRecordType",
        "Records can only have string keys. Your validator contains a record with key typed as "
        f"`{printed}`, which is not a subtype of `v.string()`",
    )


@pytest.mark.parametrize("keys", [v.literal("a"), v.union(v.id("users"), v.union(v.literal("a")))])
def test_record_keys_may_not_be_literals(keys: Validator) -> None:
    assert refusal(v.record(keys, v.any())) == ("InvalidRecordType", "Records cannot have string literal keys")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_literals_must_be_finite(number: float) -> None:
    rule, text = refusal(v.array(v.union(v.null(), v.literal(number))))
    assert rule == "UnsupportedFloatLiteral"
    assert "must be finite" in text


def test_fields_must_be_identifiers_and_errors_name_the_way_to_them() -> None:
    rule, text = refusal(v.object({"outer": v.record(v.string(), v.object({"a b": v.any()}))}))
    assert rule == "InvalidIdentifier"
    assert text == (
        "Invalid validator for key `outer`: Invalid validator for key `a b`: Identifier a b has invalid character ' ': "
        "Identifiers can only contain alphanumeric characters or underscores"
    )


def test_ordinary_validators_pass() -> None:
    check_validator(
        v.object(
            {
                "_a": v.union(v.literal(1), v.literal("x"), v.literal(True)),
                "r": v.record(v.union(v.id("a"), v.string()), v.array(v.any())),
            }
        )
    )


def test_args_must_be_an_object_or_any() -> None:
    check_args_validator(v.object({"a": v.any()}))
    check_args_validator(v.any())
    with pytest.raises(SchemaInvalid) as failure:
        check_args_validator(v.string())
    assert str(failure.value) == (
        "Error in args validator: Args validator must be an object or any\n"
        "See https://docs.convex.dev/functions/validation for docs on how to do argument validation."
    )


def test_errors_in_returns_say_so() -> None:
    check_returns_validator(v.string())
    with pytest.raises(SchemaInvalid) as failure:
        check_returns_validator(v.record(v.literal("a"), v.any()))
    assert failure.value.rule == "InvalidRecordType"
    assert str(failure.value) == (
        "Error in returns validator: Records cannot have string literal keys\n"
        "See https://docs.convex.dev/functions/validation for docs on how to do return value validation."
    )


@pytest.mark.parametrize("validator", [v.string(), v.nullable(v.object({})), v.array(v.object({})), v.union(v.any())])
def test_documents_must_be_objects(validator: Validator) -> None:
    with pytest.raises(SchemaInvalid) as failure:
        check_document_validator(validator)
    assert failure.value.rule == "InvalidTopLevelTypeInSchemaError"
    assert str(failure.value) == (
        "The document validator in a schema must be an object, a union of objects, or `v.any()`. "
        f"Found {validator}. To learn more, see the schema documentation at "
        "https://docs.convex.dev/database/schemas."
    )


@pytest.mark.parametrize(
    "validator", [v.any(), v.object({}), v.union(v.object({}), v.union(v.object({"_id": v.any()})))]
)
def test_objects_unions_of_them_and_any_may_be_documents(validator: Validator) -> None:
    check_document_validator(validator)


def test_system_fields_are_dropped_at_the_top_only() -> None:
    inner = v.object({"_x": v.any()})
    assert without_system_fields(v.object({"_id": v.id("t"), "a": inner})) == v.object({"a": inner})
    assert without_system_fields(v.union(v.object({"_id": v.id("t")}), v.object({"b": inner}))) == v.union(
        v.object({}), v.object({"b": inner})
    )
    assert without_system_fields(v.any()) == v.any()


def test_field_paths_lead_through_unions_and_records() -> None:
    validator = v.union(
        v.object({"a": v.object({"b": v.number()})}),
        v.object({"a": v.nullable(v.record(v.string(), v.string())), "free": v.any()}),
        v.object({"a": v.array(v.object({"b": v.boolean()}))}),
    )
    assert list(validators_at(validator, ("a", "b"))) == [v.number(), v.string()]
    assert list(validators_at(validator, ("free", "x", "y"))) == [v.any()]
    assert list(validators_at(validator, ("missing",))) == []
    assert list(validators_at(validator, ("a", "b", "c"))) == []
    assert list(validators_at(v.record(v.literal("k"), v.null()), ("other",))) == []


@pytest.mark.parametrize(
    ("validator", "expected"),
    [
        (v.array(v.number()), True),
        (v.array(v.union(v.null(), v.float64())), True),
        (v.array(v.any()), True),
        (v.any(), True),
        (v.array(v.int64()), False),
        (v.array(v.string()), False),
        (v.number(), False),
    ],
)
def test_vectors_are_arrays_of_float64(validator: Validator, expected: bool) -> None:
    assert can_be_vector(validator) == expected
