"""The package `_generated` of a project: types of its functions and documents for mypy and pyright.

Owns the text of both of its files. `__init__.py` is what runs; it says nothing about the project's functions and
documents, so an edit of a project never changes it, and importing it depends on nothing but the schema.
`__init__.pyi` is what type checkers read in its place. Promises the same text for the same project. Used by `files`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from reactor.codegen.names import document_members, is_python_name, pascal_case, table_types
from reactor.codegen.python_types import TypeWriter
from reactor.codegen.tree import Namespace, functions_of
from reactor.runtime.components.definitions import Instance
from reactor.runtime.references import snake_case
from reactor.runtime.registry import RegisteredFunction
from reactor.schema.containers import Object
from reactor.schema.definition import Schema, TableDefinition
from reactor.schema.validators import v

_RUNTIME: Final = '''"""The functions and documents of this project. Type checkers read `__init__.pyi` beside this file.

Written by `reactor codegen` and `reactor dev`, which overwrite it.
"""

from typing import Any

from reactor import ActionCtx, MutationCtx, QueryCtx, api, components, internal

__all__ = ["ActionCtx", "MutationCtx", "QueryCtx", "api", "components", "internal"]


def __getattr__(name: str) -> Any:
    from {schema} import schema
    from reactor.codegen.names import declared_type

    return declared_type(name, schema)
'''
_WITHOUT_SCHEMA: Final = '''"""The functions of this project. Type checkers read `__init__.pyi` beside this file.

Written by `reactor codegen` and `reactor dev`, which overwrite it.
"""

from reactor import ActionCtx, MutationCtx, QueryCtx, api, components, internal

__all__ = ["ActionCtx", "MutationCtx", "QueryCtx", "api", "components", "internal"]
'''
_HEAD: Final = '''"""The functions and documents of this project, for type checkers.

Written by `reactor codegen` and `reactor dev`, which overwrite it.
"""

# ruff: noqa
# fmt: off
# mypy: disable-error-code="override, misc, overload-overlap"
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportOverlappingOverload=false, reportUnusedClass=false, reportUnusedFunction=false
# pyright: reportUnusedImport=false

import builtins as _builtins
from collections.abc import Mapping as _Mapping, Sequence as _Sequence
from typing import (
    Any as _Any,
    Literal as _Literal,
    Never as _Never,
    NewType as _NewType,
    NotRequired as _NotRequired,
    TypeAlias as _TypeAlias,
    TypedDict as _TypedDict,
    overload as _overload,
)

from reactor import ActionCtx as ActionCtx
from reactor import MutationCtx as _MutationCtx
from reactor import QueryCtx as _QueryCtx
from reactor.codegen.typed import TypedQuery as _TypedQuery
from reactor.protocol.references import action_reference as _action
from reactor.protocol.references import mutation_reference as _mutation
from reactor.protocol.references import query_reference as _query
from reactor.runtime.executions import Operation as _Operation
from reactor.runtime.readers import DatabaseReader as _DatabaseReader
from reactor.runtime.readers import DatabaseWriter as _DatabaseWriter
from reactor.values.types import Int64 as _Int64
from reactor.values.types import Undefined as _Undefined
'''
_HELPERS: Final = frozenset(re.findall(r"as (_\w+)", _HEAD))  # a function of such a name would hide them


def runtime_module(schema_module: str | None) -> str:
    """Return `__init__.py`. `schema_module` is the name under which the project imports its schema, if it has one."""
    return _WITHOUT_SCHEMA if schema_module is None else _RUNTIME.format(schema=schema_module)


def stub(root: Instance) -> str:
    """Return `__init__.pyi` for the application `root`."""
    tables = root.schema.tables
    bases = table_types(tables)
    writer = TypeWriter({table: f"{base}Id" for table, base in bases.items()})
    for base in bases.values():
        for kind in ("Id", "Doc", "Fields", "Patch"):
            writer.reserve(base + kind)
    sections = [_HEAD, *_documents(root.schema, bases)]
    aliases: list[str] = []
    for table, base in bases.items():
        aliases += _table(table, tables[table], base, writer)
    trees = [*_tree("api", functions_of(root, "public"), writer)]
    trees += _tree("internal", functions_of(root, "internal"), writer)
    trees += _components(root, writer)
    sections += [*writer.classes, *aliases, *_contexts(root.schema, bases), *trees]
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n"


def _documents(schema: Schema, bases: Mapping[str, str]) -> Iterable[str]:
    """Yield the ids, and the unions over all tables."""
    if not bases:
        return
    yield "\n".join(f'{base}Id = _NewType("{base}Id", _builtins.str)' for base in bases.values())
    yield "\n".join(
        (
            f"TableNames: _TypeAlias = _Literal[{', '.join(map(repr, bases))}]",
            f"Id: _TypeAlias = {' | '.join(f'{base}Id' for base in bases.values())}",
            f"Doc: _TypeAlias = {' | '.join(f'{base}Doc' for base in bases.values())}",
        )
    )


def _table(name: str, table: TableDefinition, base: str, writer: TypeWriter) -> list[str]:
    """Write the classes of a table's documents; return the aliases that stand for them."""
    system = {"_id": f"{base}Id", "_creationTime": "_builtins.float"}
    members = document_members(table)
    if members is None:
        anything = "_builtins.dict[_builtins.str, _Any]"
        return [f"{base}{kind}: _TypeAlias = {anything}" for kind in ("Doc", "Fields", "Patch")]
    docs, fields, patches = [], [], []
    for position, member in enumerate(members, 1):
        # The only shape has the public name itself: texts of errors show it.
        number = "" if len(members) == 1 else str(position)
        shape = {field: validator for field, validator in member.fields.items() if field not in system}
        names = [f"{base}{kind}" for kind in ("Doc", "Fields", "Patch")]
        if number:
            names = [f"_{public}{number}" for public in names]
        else:
            writer.release(*names)
        docs.append(writer.write_class(names[0], shape, is_given=False, before=system))
        fields.append(writer.write_class(names[1], shape, is_given=True))
        stored = member.extend({"_id": v.id(name), "_creationTime": v.number()})
        writer.remember(stored, docs[-1])
        patches.append(writer.write_class(names[2], shape, is_given=True, is_patch=True))
    if len(members) == 1:
        return []
    kinds = (("Doc", docs), ("Fields", fields), ("Patch", patches))
    return [f"{base}{kind}: _TypeAlias = {' | '.join(found)}" for kind, found in kinds]


def _contexts(schema: Schema, bases: Mapping[str, str]) -> Iterable[str]:
    """Yield `ctx` of queries and mutations, whose `db` knows the tables."""
    if not bases or not schema.strict_table_names:
        yield "QueryCtx = _QueryCtx\nMutationCtx = _MutationCtx"
        return
    reads: dict[str, list[str]] = {"get": [], "query": [], "normalize_id": []}
    writes: dict[str, list[str]] = {"insert": [], "patch": [], "replace": [], "delete": []}
    for table, base in bases.items():
        name, indexes = f"table: _Literal[{table!r}]", _index_names(schema.tables[table])
        found = f"_Operation[{base}Doc | None]"
        reads["get"] += [f"id: {base}Id, /) -> {found}", f"{name}, id: {base}Id, /) -> {found}"]
        reads["query"].append(f"{name}, /) -> _TypedQuery[{base}Doc, {indexes}]")
        reads["normalize_id"].append(f"{name}, text: _builtins.str, /) -> {base}Id | None")
        writes["insert"].append(f"{name}, document: {base}Fields, /) -> _Operation[{base}Id]")
        done = "/) -> _Operation[None]"
        for verb, value in (
            ("patch", f"fields: {base}Patch, "),
            ("replace", f"document: {base}Fields, "),
            ("delete", ""),
        ):
            writes[verb] += [f"id: {base}Id, {value}{done}", f"{name}, id: {base}Id, {value}{done}"]
    yield "\n".join(("class DatabaseReader(_DatabaseReader):", *_overloads(reads)))
    yield "\n".join(
        (
            "class DatabaseWriter(DatabaseReader, _DatabaseWriter):",
            "    @property",
            "    def without_triggers(self) -> DatabaseWriter: ...",
            *_overloads(writes),
        )
    )
    yield "class QueryCtx(_QueryCtx):\n    db: DatabaseReader"
    yield "class MutationCtx(QueryCtx, _MutationCtx):\n    db: DatabaseWriter"


def _overloads(methods: Mapping[str, list[str]]) -> Iterable[str]:
    for verb, signatures in methods.items():
        for signature in signatures:
            if len(signatures) > 1:
                yield "    @_overload"
            yield f"    def {verb}(self, {signature}: ..."


def _index_names(table: TableDefinition) -> str:
    names = ["by_creation_time", "by_id", *sorted(index.name for index in table.indexes if not index.staged)]
    return f"_Literal[{', '.join(map(repr, names))}]"


def _components(root: Instance, writer: TypeWriter) -> Iterable[str]:
    """Yield the classes of `components`. Ids of a component's own tables are texts to whoever mounts it."""
    attributes = []
    inner = TypeWriter({})
    inner.share_names(writer)
    blocks: list[str] = []
    for name, child in sorted(root.children.items()):
        if is_python_name(name):
            tree = functions_of(child, "public")
            blocks += _namespace(("Components", name), tree, inner)
            attributes.append(f"    {name}: {_class_name(('Components', name))}")
    yield from inner.classes
    yield from blocks
    yield "\n".join(("class _Components:", *(attributes or ["    pass"])))
    yield "components: _Components"


def _tree(name: str, tree: Namespace, writer: TypeWriter) -> list[str]:
    """Return the classes of `api` or `internal`, and its declaration."""
    parts = (name.capitalize(),)
    return [*_namespace(parts, tree, writer), f"{name}: {_class_name(parts)}"]


def _class_name(parts: tuple[str, ...]) -> str:
    return "_" + "__".join(parts)


def _namespace(parts: tuple[str, ...], place: Namespace, writer: TypeWriter) -> Iterable[str]:
    """Yield the classes of the namespaces below, then that of this one: what it names must stand before it."""
    lines: list[str] = []
    forms: list[str] = []
    for name, below in sorted(place.below.items()):
        if is_python_name(name):
            yield from _namespace((*parts, name), below, writer)
            if name in place.functions:
                lines.append(f"    {name}: _Any  # a function and a namespace")
            else:
                lines.append(f"    {name}: {_class_name((*parts, name))}")
    for name, registered in sorted(place.functions.items()):
        if is_python_name(name) and name not in place.below and name not in _HELPERS and not writer.is_public(name):
            form = f"_form_{'_'.join((*parts, name))}"
            type_name = f"_{pascal_case(*parts, name)}"
            dict_form, keywords, result = _signature(registered, type_name, writer)
            forms.append(f"def {form}({dict_form}) -> None: ...")
            lines.append(f"    @_{registered.kind}({form})")
            lines.append(f"    def {name}(_self, /{keywords}) -> {result}: ...")
    yield from forms
    yield "\n".join((f"class {_class_name(parts)}:", *(lines or ["    pass"])))


def _signature(registered: RegisteredFunction, name: str, writer: TypeWriter) -> tuple[str, str, str]:
    """Return the parameters of a function as one dict and as keywords, and its result."""
    args, returns = registered.binder.args, registered.binder.returns
    writer.forget_shapes()
    result = "_Any" if returns is None else writer.type_of(returns, f"{name}Result", is_given=False)
    given = writer.type_of(args, f"{name}Args", is_given=True)
    if not isinstance(args, Object):
        given = "_Mapping[_builtins.str, _Any]" if given == "_Any" else given
        return f"args: {given} = ..., /", ", **args: _Any", result
    is_open = all(field.is_optional for field in args.fields.values())
    dict_form = f"args: {given}{' = ...' if is_open else ''}, /"
    keywords: list[str] = []
    spelled: set[str] = set()
    has_others = False
    for field, validator in sorted(args.fields.items()):
        snake = snake_case(field)
        keyword = snake if snake not in args.fields else field
        if not is_python_name(keyword) or keyword in spelled or keyword == "_self":
            has_others = True
            continue
        spelled.add(keyword)
        text = writer.type_of(validator, f"{name}Args{pascal_case(field)}", is_given=True)
        keywords.append(f"{keyword}: {text}{' = ...' if validator.is_optional else ''}")
    signature = f", *, {', '.join(keywords)}" if keywords else ""
    return dict_form, signature + (", **others: _Any" if has_others else ""), result
