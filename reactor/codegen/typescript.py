"""The files that official clients are typed with: `api.d.ts`, `api.js` and `dataModel.d.ts`.

Owns their text, in the static form of the official command line: whole types, no sources needed. Functions and modules
are spelled in camelCase, which finds them all the same; a name chosen with `name=` stays as it is. Promises the same
text for the same project. Used by `files`, and by the analysis that `npx convex codegen` asks for.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from reactor.codegen.names import camel_case, document_members
from reactor.codegen.tree import Namespace, functions_of
from reactor.runtime.components.definitions import Instance
from reactor.schema.containers import Array, Object, Record, Union
from reactor.schema.definition import Schema, TableDefinition
from reactor.schema.scalars import Id, Literal
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.types import Int64

_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_SCALARS: Final = {
    "null": "null",
    "boolean": "boolean",
    "float64": "number",
    "integer": "number",
    "string": "string",
    "bytes": "ArrayBuffer",
    "int64": "bigint",
    "commitTs": "bigint",
    "any": "any",
}
_NOTE: Final = "Written by `reactor codegen` and `reactor dev`, which overwrite it."
_HEAD: Final = "/* eslint-disable */\n/**\n * {what}\n *\n * " + _NOTE + "\n */\n\n"

API_JS: Final = (
    _HEAD.format(what="References to the functions of this deployment.")
    + """import { anyApi, componentsGeneric } from "convex/server";

export const api = anyApi;
export const internal = anyApi;
export const components = componentsGeneric();
"""
)


def api_declarations(root: Instance) -> str:
    """Return `api.d.ts`."""
    parts = [
        _HEAD.format(what="References to the functions of this deployment, with their types."),
        'import type { FunctionReference } from "convex/server";\n',
        'import type { GenericId as Id } from "convex/values";\n\n',
    ]
    for name, visibility in (("api", "public"), ("internal", "internal")):
        tree = functions_of(root, visibility, camel_case)
        parts.append(f"export declare const {name}: {_namespace(tree, visibility, 0)};\n\n")
    parts.append("export declare const components: {};\n")
    return "".join(parts)


def data_model_declarations(schema: Schema) -> str:
    """Return `dataModel.d.ts`."""
    imports = ["AnyDataModel", "DocumentByName", "SystemTableNames", "TableNamesInDataModel"]
    if schema.tables and schema.strict_table_names:
        tables = [f"  {_key(name)}: {_table(name, table)};" for name, table in sorted(schema.tables.items())]
        model = "\n".join(("{", *tables, "}"))
        imports.remove("AnyDataModel")
    else:
        model = "AnyDataModel"
    return (
        _HEAD.format(what="The tables of this deployment.")
        + f'import type {{ {", ".join(imports)} }} from "convex/server";\n'
        + 'import type { GenericId } from "convex/values";\n\n'
        + f"export type DataModel = {model};\n\n"
        + "/** The names of all tables. */\n"
        + "export type TableNames = TableNamesInDataModel<DataModel>;\n\n"
        + "/** A document of a table, as it is stored. */\n"
        + "export type Doc<TableName extends TableNames> = DocumentByName<DataModel, TableName>;\n\n"
        + "/** The id of a document. */\n"
        + "export type Id<TableName extends TableNames | SystemTableNames> = GenericId<TableName>;\n"
    )


def type_of(validator: Validator, id_type: str = "Id") -> str:
    """Return the TypeScript type of the values that `validator` accepts."""
    match validator:
        case Id():
            return f"{id_type}<{json.dumps(validator.table)}>"
        case Literal():
            return _literal(validator.value)
        case Array():
            return f"Array<{type_of(validator.element, id_type)}>"
        case Record():
            return f"Record<{type_of(validator.keys, id_type)}, {type_of(validator.values, id_type)}>"
        case Union():
            members = [type_of(member, id_type) for member in validator.members]
            return " | ".join(dict.fromkeys(members)) or "never"
        case Object():
            return _object(validator.fields, id_type)
    return _SCALARS[validator.kind]


def _object(fields: Mapping[str, Validator], id_type: str) -> str:
    if not fields:
        return "Record<string, never>"
    typed = [
        f"{_key(name)}{'?' if field.is_optional else ''}: {type_of(field, id_type)}"
        for name, field in sorted(fields.items())
    ]
    return f"{{ {'; '.join(typed)} }}"


def _literal(value: object) -> str:
    if isinstance(value, Int64):
        return f"{int(value)}n"
    if isinstance(value, float) and not isinstance(value, bool):
        return repr(int(value)) if value.is_integer() else repr(value)
    return json.dumps(value)


def _key(name: str) -> str:
    return name if _NAME.fullmatch(name) else json.dumps(name)


def _namespace(place: Namespace, visibility: str, depth: int) -> str:
    indent = "  " * (depth + 1)
    lines = []
    for name in sorted({*place.functions, *place.below}):
        types = []
        registered = place.functions.get(name)
        if registered is not None:
            args, returns = registered.binder.args, registered.binder.returns
            given = type_of(args) if isinstance(args, Object | Union) else "any"
            given = "{}" if given == "Record<string, never>" else given
            result = "any" if returns is None else type_of(returns)
            types.append(f'FunctionReference<"{registered.kind}", "{visibility}", {given}, {result}>')
        if name in place.below:
            types.append(_namespace(place.below[name], visibility, depth + 1))
        lines.append(f"{indent}{_key(name)}: {' & '.join(types)};\n")
    return "{\n" + "".join(lines) + "  " * depth + "}" if lines else "{}"


def _table(name: str, table: TableDefinition) -> str:
    members = document_members(table)
    system = {"_id": v.id(name), "_creationTime": v.number()}
    if members is None:
        document, paths = "any", ["any"]
    else:
        shapes = [member.extend(system) for member in members]
        document = " | ".join(dict.fromkeys(type_of(shape, "GenericId") for shape in shapes))
        paths = sorted({json.dumps(path) for shape in shapes for path in _paths(shape)})
    indexes: dict[str, tuple[str, ...]] = {"by_id": ("_id",), "by_creation_time": ("_creationTime",)}
    indexes |= {index.name: index.stored_fields for index in table.indexes if not index.staged}
    search = {
        index.name: f"searchField: {json.dumps(index.search_field)}; filterFields: {_names(index.filter_fields)}"
        for index in table.search_indexes
        if not index.staged
    }
    vector = {
        index.name: (
            f"vectorField: {json.dumps(index.vector_field)}; dimensions: number; "
            f"filterFields: {_names(index.filter_fields)}"
        )
        for index in table.vector_indexes
        if not index.staged
    }
    parts = (
        ("document", document),
        ("fieldPaths", " | ".join(paths)),
        ("indexes", _entries({key: f"[{', '.join(map(json.dumps, fields))}]" for key, fields in indexes.items()})),
        ("searchIndexes", _entries({key: f"{{ {text} }}" for key, text in search.items()})),
        ("vectorIndexes", _entries({key: f"{{ {text} }}" for key, text in vector.items()})),
    )
    return "{\n" + "".join(f"    {key}: {text};\n" for key, text in parts) + "  }"


def _entries(entries: Mapping[str, str]) -> str:
    if not entries:
        return "{}"
    return "{ " + "; ".join(f"{_key(key)}: {text}" for key, text in sorted(entries.items())) + " }"


def _names(fields: Iterable[str]) -> str:
    return " | ".join(map(json.dumps, sorted(fields))) or "never"


def _paths(shape: Validator, before: str = "") -> Iterable[str]:
    """Yield the paths of all fields, those of nested objects after dots."""
    match shape:
        case Object():
            for name, field in shape.fields.items():
                yield before + name
                yield from _paths(field, f"{before}{name}.")
        case Union():
            for member in shape.members:
                yield from _paths(member, before)
