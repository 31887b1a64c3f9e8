"""Importing one folder of schema and functions: an application's own, or a component's.

Owns which modules are namespaces and what the special ones export. Promises that everything which may ever be imported
is read when a part is loaded, and that what is wrong is a `PushError` at the user's file. Used by the loader and by
`components/loading`.
"""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

from reactor.errors import PushError, SchemaInvalid
from reactor.runtime.components.definitions import AppDefinition
from reactor.runtime.http.router import HttpRouter
from reactor.runtime.importing import PrivatePackage
from reactor.runtime.jobs.crons import Crons
from reactor.runtime.references import component_problem
from reactor.runtime.registry import Registry, build_registry
from reactor.runtime.signature import Binder
from reactor.runtime.triggers.declared import Triggers
from reactor.schema.definition import Schema, define_schema

T = TypeVar("T")


class Part(NamedTuple):
    """What was imported from one folder: the project's own, or a component's."""

    schema: Schema
    registry: Registry
    namespaces: Mapping[str, ModuleType]
    digests: dict[str, str]  # by module
    http: HttpRouter | None
    crons: Crons | None
    triggers: Triggers | None


def load_part(functions: Path, schema_name: str, prefix: str, package: PrivatePackage) -> Part:
    """Import the schema and the functions of `package`, whose modules are in the folder `functions`."""
    sources = package.sources
    names = {"/".join(parts): ".".join((prefix, *parts)) for parts in _namespaces(functions)}
    # Everything that may ever be imported is read now: a late import must not see a later edit.
    for name in (schema_name, *names.values()):
        sources.reachable(name)
    schema = _load_schema(schema_name, package)
    loaded = {path: import_module(name, package) for path, name in names.items()}
    digests = {name: sources.digest(name) for name, _ in package.modules()}
    registry = build_registry(
        loaded,
        {module.__name__: path for path, module in loaded.items()},
        {path: digests[name] for path, name in names.items()},
    )
    crons = special_export(loaded, "crons", "crons", Crons, "cron_jobs()")
    triggers = _load_triggers(schema_name, schema, package)
    return Part(schema, registry, loaded, digests, _load_http(loaded), crons, triggers)


def _load_schema(name: str, package: PrivatePackage) -> Schema:
    source = package.sources.find(name)
    if source is None or source.file is None:
        return define_schema({}, schema_validation=False, strict_table_names=False)
    file = str(source.file)
    schema = getattr(import_module(name, package), "schema", None)
    if not isinstance(schema, Schema):
        raise PushError("a schema module must export `schema`, made with define_schema({...})", file=file)
    try:
        schema.check()
    except SchemaInvalid as error:
        raise PushError(f"{error.rule}: {error}", file=file) from error
    return schema


def _load_triggers(name: str, schema: Schema, package: PrivatePackage) -> Triggers | None:
    """Return the triggers beside the schema."""
    source = package.sources.find(name)
    if source is None or source.file is None:
        return None
    triggers = getattr(import_module(name, package), "triggers", None)
    if triggers is None:
        return None
    if not isinstance(triggers, Triggers):
        raise PushError("`triggers` of a schema module must be made with define_triggers({...})", file=str(source.file))
    triggers.check(schema)
    return triggers


def import_module(name: str, package: PrivatePackage) -> ModuleType:
    """Return a module of `package`, importing it at the first call. `name` is as users write it."""
    return importlib.import_module(f"{package.name}.{name}")


def special_export(modules: Mapping[str, ModuleType], namespace: str, name: str, kind: type[T], maker: str) -> T | None:
    """Return what a special module exports, such as `http` of functions/http.py, or None when there is no such module.

    `modules` is by namespace; `maker` names the function that makes such an object.

    Raises:
        PushError: the module exports nothing of this name, or something else.
    """
    module = modules.get(namespace)
    if module is None:
        return None
    found = getattr(module, name, None)
    if not isinstance(found, kind):
        raise PushError(f"{namespace}.py must export `{name}`, made with {maker}", file=module.__file__)
    return found


def app_of(modules: Mapping[str, ModuleType]) -> AppDefinition | None:
    """Return what functions/app.py exports. One that defines no app is a module like any other."""
    values = vars(modules["app"]) if "app" in modules else {}
    if "app" not in values and not any(type(value) is AppDefinition for value in values.values()):
        return None
    return special_export(modules, "app", "app", AppDefinition, "define_app()")


def _load_http(modules: Mapping[str, ModuleType]) -> HttpRouter | None:
    """Return the routes that functions/http.py exports. Handlers need not be exported anywhere, so they are checked."""
    http = special_export(modules, "http", "http", HttpRouter, "http_router()")
    if http is not None:
        for route in http.routes:
            Binder(route.handler, route.handler.path)
    return http


def _namespaces(folder: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the parts of each namespace's path. Names that start with `_` are helpers, with `.` not ours."""
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_dir():
            below = list(_namespaces(entry, (*above, entry.name)))
            if below:
                _check_name(entry, entry.name)
            yield from below
        elif entry.suffix == ".py":
            _check_name(entry, entry.stem)
            if (folder / entry.stem / "__init__.py").is_file():
                raise PushError(f"it is hidden by {entry.stem}/__init__.py; rename one of them", file=str(entry))
            yield (*above, entry.stem)


def _check_name(place: Path, name: str) -> None:
    problem = component_problem(name)
    if problem is None and not name.isidentifier():
        problem = "a module must have a Python name"
    if problem is not None:
        raise PushError(problem, file=str(place))
