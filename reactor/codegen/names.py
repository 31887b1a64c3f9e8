"""Names in generated files, and what they stand for at run time.

Owns the spelling of types after tables (`channels`: `ChannelsId`, `ChannelsDoc`, `ChannelsFields`) and the camelCase
that TypeScript uses. Promises that two tables never share a name, and that a name means the same shape at run time as
in the stub, so that it can annotate the parameters of a function. Used by `python`, `typescript` and the module
`_generated` of a project.
"""

import keyword
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final

from reactor.schema.containers import Object, Union
from reactor.schema.definition import Schema, TableDefinition
from reactor.schema.scalars import Anything
from reactor.schema.validator import Validator
from reactor.schema.validators import v

_WORDS: Final = re.compile(r"[A-Za-z0-9]+")
_INNER: Final = re.compile(r"(?<=[^_])_+([A-Za-z0-9])")


def pascal_case(*parts: str) -> str:
    """Return the words of all parts as the name of a type: `aiRequestLogs` is `AiRequestLogs`."""
    return "".join(word[0].upper() + word[1:] for part in parts for word in _WORDS.findall(part))


def camel_case(name: str) -> str:
    """Return the TypeScript spelling of a Python name, which finds the same function: `log_request` is `logRequest`."""
    return _INNER.sub(lambda found: found.group(1).upper(), name)


def is_python_name(name: str) -> bool:
    """Whether `name` can be written after a dot, before an equals sign, and in the body of a class as it is."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("__")


def table_types(tables: Iterable[str]) -> dict[str, str]:
    """Return the beginning of each table's type names. Of two that are spelled alike, the later gets a number."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for table in sorted(tables):
        name = base = pascal_case(table) or "Table"
        number = 2
        while name in taken:
            name, number = f"{base}{number}", number + 1
        taken.add(name)
        names[table] = name
    return names


def document_members(table: TableDefinition) -> list[Object] | None:
    """Return the shapes that documents of a table may have, without system fields; None when any will do."""
    validator = table.enforced
    members = validator.members if isinstance(validator, Union) else (validator,)
    found: list[Object] = []
    for member in members:
        if not isinstance(member, Object):
            return None
        found.append(member)
    return found


def declared_type(name: str, schema: Schema) -> Any:
    """Return what a name of `_generated` is at run time: an annotation of which a validator can be made.

    Raises:
        AttributeError: the schema has no table that the name could be of.
    """
    if name == "Id":
        return str
    if name == "Doc":
        return dict
    if name == "TableNames":
        return str
    for table, base in table_types(schema.tables).items():
        if name == f"{base}Id":
            return Annotated[str, v.id(table)]
        if name == f"{base}Doc":
            return Annotated[dict, _document(table, schema.tables[table], is_stored=True)]
        if name == f"{base}Fields":
            return Annotated[dict, _document(table, schema.tables[table], is_stored=False)]
        if name == f"{base}Patch":
            return dict
    raise AttributeError(f"module '_generated' has no attribute {name!r}: the schema has no table for it")


def _document(name: str, table: TableDefinition, *, is_stored: bool) -> Validator:
    members = document_members(table)
    if members is None:
        return Anything()
    system = {"_id": v.id(name), "_creationTime": v.number()} if is_stored else {}
    shapes = [member.extend(system) for member in members]
    return shapes[0] if len(shapes) == 1 else v.union(*shapes)
