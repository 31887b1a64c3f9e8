"""Validators that are made of others: literals, and documents as functions return them.

Owns no validator of its own: what these return is made with `v`, so clients and code generation know it.
"""

from collections.abc import Mapping
from typing import Any

from reactor import v


def literals(*values: str | float) -> Any:
    """Return a validator of one of these values: `literals("open", "closed")`.

    Raises:
        ValueError: there is none.
    """
    if not values:
        raise ValueError("literals() needs a value")
    members = [v.literal(value) for value in values]
    return members[0] if len(members) == 1 else v.union(*members)


def system_fields(table: str) -> Mapping[str, Any]:
    """Return the fields that every document of a table has: `_id` and `_creationTime`."""
    return {"_id": v.id(table), "_creationTime": v.number()}


def document(schema: Any, table: str) -> Any:
    """Return the validator of a table's documents as functions read them, with their system fields.

    `@query(returns=v.nullable(document(schema, "users")))`, where `schema` is what schema.py exports.

    Raises:
        KeyError: the schema has no such table.
    """
    return _with_system_fields(schema.tables[table].validator, table)


def _with_system_fields(validator: Any, table: str) -> Any:
    if hasattr(validator, "extend"):
        return validator.extend(system_fields(table))
    members = getattr(validator, "members", None)
    if members is None:
        return validator  # any document at all
    return v.union(*[_with_system_fields(member, table) for member in members])
