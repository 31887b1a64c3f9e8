"""Which shapes provably accept everything another one accepts.

Promises to answer True only when it is sure: a False costs a walk over existing documents, a wrong True would leave
documents behind that the schema does not allow. Used by `compare` and by the rule for the keys of records.
"""

from reactor.schema.containers import Array, Object, Record, Union
from reactor.schema.scalars import Anything, BigInt, Boolean, Float64, Id, Integer, Literal, String
from reactor.schema.validator import Validator


def is_subset(narrow: Validator, wide: Validator) -> bool:
    """Tell whether every value that `narrow` accepts is certainly accepted by `wide`."""
    if isinstance(wide, Anything):
        return True
    if isinstance(narrow, Union):
        return all(is_subset(member, wide) for member in narrow.members)
    if isinstance(wide, Union):
        if isinstance(narrow, Boolean):
            return all(is_subset(Literal(each), wide) for each in (True, False)) or _any_member(narrow, wide)
        return _any_member(narrow, wide)
    match narrow, wide:
        case Literal(value=value), _:
            return not isinstance(wide, Id) and wide.accepts(value, None)
        case Id(table=table), Id(table=other):
            return table == other
        case Id(), String():
            return True
        case Integer(), Float64():
            return True
        case BigInt(), BigInt():  # `v.commit_ts()` is one of them
            return True
        case Array(element=element), Array(element=other_element):
            return is_subset(element, other_element)
        case Object(), Object():
            return _is_object_subset(narrow, wide)
        case Object(fields=fields), Record(keys=keys, values=values):
            return all(is_subset(Literal(name), keys) and is_subset(field, values) for name, field in fields.items())
        case Record(), Record():
            return is_subset(narrow.keys, wide.keys) and is_subset(narrow.values, wide.values)
    return type(narrow) is type(wide) and narrow.kind not in (Id.kind, Object.kind)


def _any_member(narrow: Validator, wide: Union) -> bool:
    return any(is_subset(narrow, member) for member in wide.members)


def _is_object_subset(narrow: Object, wide: Object) -> bool:
    for name, field in wide.fields.items():
        if name not in narrow.fields and not field.is_optional:
            return False
    for name, field in narrow.fields.items():
        other = wide.fields.get(name)
        if other is None or (field.is_optional and not other.is_optional) or not is_subset(field, other):
            return False
    return True
