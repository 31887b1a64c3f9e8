"""Rules for validators that are checked when a project is pushed, not when a validator is built.

Owns which shapes may be stored in tables and taken by functions, and the question which field paths a shape can have.
Used by `definition` and by the loader of functions.
"""

from collections.abc import Iterator, Sequence

from reactor.errors import SchemaInvalid, ValidationError
from reactor.schema.containers import Array, Object, Record, Union
from reactor.schema.scalars import Anything, Float64, Literal, String
from reactor.schema.subset import is_subset
from reactor.schema.validator import Validator
from reactor.values.names import check_identifier


def check_validator(validator: Validator) -> None:
    """Check what official servers check of every validator at a push.

    Raises:
        SchemaInvalid: a record with other keys than strings, a literal that JSON can't hold, or a field that is no
            identifier.
    """
    match validator:
        case Literal(value=float(number)) if number - number != 0:
            raise SchemaInvalid("UnsupportedFloatLiteral", f"{validator} is not supported: a literal must be finite.")
        case Array(element=element):
            check_validator(element)
        case Record(keys=keys, values=values):
            _check_record_keys(keys)
            check_validator(values)
        case Union(members=members):
            for member in members:
                check_validator(member)
        case Object(fields=fields):
            for name, field in fields.items():
                _check_field(name, field)


def check_args_validator(validator: Validator) -> None:
    """Check the `args` of a function.

    Raises:
        SchemaInvalid: as `check_validator`, or they are neither an object nor any.
    """
    try:
        if not isinstance(validator, Object | Anything):
            raise SchemaInvalid("InvalidValidator", "Args validator must be an object or any")
        check_validator(validator)
    except SchemaInvalid as error:
        raise _function_error("args", "argument", error) from None


def check_returns_validator(validator: Validator) -> None:
    """Check the `returns` of a function.

    Raises:
        SchemaInvalid: as `check_validator`.
    """
    try:
        check_validator(validator)
    except SchemaInvalid as error:
        raise _function_error("returns", "return value", error) from None


def check_document_validator(validator: Validator) -> None:
    """Check the validator of a table's documents. Fields named `_…` are none of its business.

    Raises:
        SchemaInvalid: as `check_validator`, or it is neither an object, a union of objects, nor any.
    """
    members = validator.flat() if isinstance(validator, Union) else [validator]
    if not isinstance(validator, Anything) and not all(isinstance(member, Object) for member in members):
        raise SchemaInvalid(
            "InvalidTopLevelTypeInSchemaError",
            "The document validator in a schema must be an object, a union of objects, or `v.any()`. "
            f"Found {validator.text()}. To learn more, see the schema documentation at "
            "https://docs.convex.dev/database/schemas.",
        )
    check_validator(without_system_fields(validator))


def without_system_fields(validator: Validator) -> Validator:
    """Return a document validator without the top-level fields named `_…`."""
    match validator:
        case Union(members=members):
            return Union([without_system_fields(member) for member in members])
        case Object(fields=fields) if any(name.startswith("_") for name in fields):
            return Object({name: field for name, field in fields.items() if not name.startswith("_")})
    return validator


def validators_at(validator: Validator, path: Sequence[str]) -> Iterator[Validator]:
    """Yield the shapes a value at a field path may have; none when the path can't exist."""
    if isinstance(validator, Union):
        for member in validator.members:
            yield from validators_at(member, path)
    elif not path or isinstance(validator, Anything):
        yield validator
    elif isinstance(validator, Object) and path[0] in validator.fields:
        yield from validators_at(validator.fields[path[0]], path[1:])
    elif isinstance(validator, Record) and validator.keys.accepts(path[0], None):
        yield from validators_at(validator.values, path[1:])


def can_be_vector(validator: Validator) -> bool:
    """Tell whether a shape (not a union) allows an array of float64."""
    if not isinstance(validator, Array):
        return isinstance(validator, Anything)
    elements = validator.element.flat() if isinstance(validator.element, Union) else [validator.element]
    return any(isinstance(element, Float64 | Anything) for element in elements)


def _check_field(name: str, field: Validator) -> None:
    try:
        try:
            check_identifier(name)
        except ValidationError as error:
            raise SchemaInvalid("InvalidIdentifier", str(error)) from None
        check_validator(field)
    except SchemaInvalid as error:
        raise SchemaInvalid(error.rule, f"Invalid validator for key `{name}`: {error}") from None


def _check_record_keys(keys: Validator) -> None:
    members = keys.flat() if isinstance(keys, Union) else [keys]
    if any(isinstance(member, Literal) and isinstance(member.value, str) for member in members):
        raise SchemaInvalid("InvalidRecordType", "Records cannot have string literal keys")
    if not is_subset(keys, String()):
        raise SchemaInvalid(
            "InvalidRecordType",
            "Records can only have string keys. Your validator contains a record with key typed as "
            f"`{keys.text()}`, which is not a subtype of `v.string()`",
        )


def _function_error(part: str, what: str, error: SchemaInvalid) -> SchemaInvalid:
    return SchemaInvalid(
        error.rule,
        f"Error in {part} validator: {error}\n"
        f"See https://docs.convex.dev/functions/validation for docs on how to do {what} validation.",
    )
