"""Arguments on their way out: what server code gives to a function that runs inside of it, elsewhere or later.

Owns the two forms in which they are given, one dict or keywords, and their way to values and to wire JSON. What the
function declares is not looked at here, but for the spelling of its keywords. Used by nested calls, actions, the
scheduler and crons.
"""

from collections.abc import Mapping

from reactor.errors import ArgumentsInvalid, ValidationError
from reactor.runtime.references import snake_case
from reactor.runtime.registry import RegisteredFunction
from reactor.schema.containers import Object
from reactor.values.json import encode_json
from reactor.values.stored import Normalised, normalise


def encode_arguments(target: RegisteredFunction, args: tuple[object, ...], named: Mapping[str, object]) -> bytes:
    """Return the arguments of a call from server code, given as one dict or as keywords, as wire JSON.

    Raises:
        ArgumentsInvalid: they are given in another form, or are no values.
    """
    normal = normalise_arguments(target, args, named)
    return encode_json(normal.value, normal.plain)


def normalise_arguments(
    target: RegisteredFunction, args: tuple[object, ...], named: Mapping[str, object]
) -> Normalised:
    """Return the arguments of a call from server code as a value that shares nothing with what was given.

    Raises:
        ArgumentsInvalid: they are given in another form, or are no values.
    """
    given = args[0] if args else None
    if len(args) > 1 or (given is not None and (named or not isinstance(given, Mapping))):
        raise ArgumentsInvalid(f"Invalid arguments for {target.shown}: give one dict, or keywords, and nothing else")
    try:
        return normalise(_by_declared_name(target, named) if given is None else given)
    except ValidationError as error:
        raise ArgumentsInvalid(f"Invalid arguments for {target.shown}: {error}") from None


def _by_declared_name(target: RegisteredFunction, named: Mapping[str, object]) -> dict[str, object]:
    """Return keywords under the names that were declared: `user_id=` is for the argument `userId`."""
    declared = target.binder.args
    fields = declared.fields if isinstance(declared, Object) else {}
    if not fields or named.keys() <= fields.keys():
        return dict(named)
    spelled = {snake_case(field): field for field in fields}
    return {name if name in fields else spelled.get(name, name): value for name, value in named.items()}
