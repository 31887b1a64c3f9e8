"""The fast check against the precise one."""

from typing import Any

import pytest
from hypothesis import example, given

from reactor.errors import ValidationError
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.types import Int64, Value
from tests.schema.strategies import TABLES, Tables, checked, validators, values


def is_refused(validator: Validator, value: Value, tables: Tables | None) -> bool:
    try:
        validator.check(value, tables)
    except ValidationError:
        return True
    return False


@given(checked())
@example((v.union(v.literal("a"), v.literal(0.0)), -0.0))
@example((v.number(), True))
@example((v.number(), Int64(1)))
@example((v.literal(1), True))
@example((v.boolean(), 1.0))
@example((v.union(v.literal("a")), ["a"]))
def test_fast_check_never_disagrees_with_the_precise_one(case: tuple[Validator, Any]) -> None:
    """Disagreement either way hurts: a refused value without an error text, or bad data in a table."""
    validator, value = case
    assert validator.accepts(value, TABLES) != is_refused(validator, value, TABLES)
    assert validator.accepts(value, None) != is_refused(validator, value, None)


@given(validators, values)
def test_fast_check_agrees_on_unrelated_values(validator: Validator, value: Value) -> None:
    assert validator.accepts(value, TABLES) != is_refused(validator, value, TABLES)


@pytest.mark.parametrize("name", ["'", '"', "\\", "\n", "{x}", "a'] or True or x['", "é", "None"])
def test_names_and_literals_never_become_code(name: str) -> None:
    validator = v.object({name: v.union(v.literal(name), v.literal(1)), "z": v.optional(v.id(name))})
    assert validator.accepts({name: name}, TABLES)
    assert validator.accepts({name: 1.0}, TABLES)
    assert not validator.accepts({name: "other"}, TABLES)
    assert not validator.accepts({"other": name}, TABLES)


def test_a_validator_used_many_times_is_compiled_once() -> None:
    """Doubling at each level: generated per use, the code of twenty levels would have a million parts."""
    validator: Validator = v.object({"n": v.number()})
    for _ in range(20):
        validator = v.object({"left": v.optional(validator), "right": v.optional(validator)})
    assert validator.accepts({"left": {"right": {}}}, TABLES)
    assert not validator.accepts({"left": {"right": {"n": 1.0}}}, TABLES)


def test_deep_unions_stay_flat() -> None:
    validator: Validator = v.null()
    for position in range(150):
        validator = v.union(validator, v.literal(position), v.literal(str(position)))
    assert validator.accepts(149.0, TABLES)
    assert validator.accepts("0", TABLES)
    assert validator.accepts(None, TABLES)
    assert not validator.accepts("150", TABLES)


def test_wide_objects_compile() -> None:
    validator = v.object({f"f{position}": v.any() for position in range(1024)})
    value: dict[str, Value] = {f"f{position}": None for position in range(1024)}
    assert validator.accepts(value, TABLES)
    del value["f1000"]
    assert not validator.accepts(value, TABLES)
