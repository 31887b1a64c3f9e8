"""Loading a project: its options, its schema and its functions, as one version that can be replaced and forgotten.

Owns `ProjectLoader` and `Project`. Promises that a load either gives a whole version or leaves nothing behind, that
versions don't see each other, and that every failure is a `PushError` at the user's file and line. Blocking: callers
run `load` in a thread. Used by `host` and by the command line.
"""

import importlib
import itertools
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec

from reactor.auth.config import AuthConfig, jwks_file
from reactor.errors import AuthConfigInvalid, PushError, SchemaInvalid
from reactor.runtime import guard
from reactor.runtime.components.definitions import (
    EXPORTED,
    AppDefinition,
    ComponentDefinition,
    Instance,
    Mount,
    check_mount,
    child_path,
)
from reactor.runtime.determinism import PROJECT_PREFIX
from reactor.runtime.environment.mapping import process_defaults
from reactor.runtime.http.router import HttpRouter
from reactor.runtime.importing import PrivatePackage, install_finder, public_names, user_place
from reactor.runtime.jobs.crons import Crons, CronSpec
from reactor.runtime.references import component_problem
from reactor.runtime.registry import Registry, build_registry
from reactor.runtime.rules.conjunctions import is_conjunction
from reactor.runtime.rules.declared import Rules
from reactor.runtime.signature import Binder
from reactor.runtime.sources import ComponentTree, SourceTree
from reactor.schema.definition import Schema, define_schema

T = TypeVar("T")

_numbers: Final = itertools.count(1)


class ProjectOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[tool.reactor]` table of a project's pyproject.toml. Paths are relative to the project."""

    schema: str = "schema.py"
    functions: str = "functions"
    data: str | None = None
    env: tuple[str, ...] = ()
    typescript: str | None = None
    determinism_sample: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None


def read_options(root: Path) -> ProjectOptions:
    """Return the options of the project at `root`: the defaults when it has no pyproject.toml.

    Raises:
        PushError: the file can't be read, or an option is unknown or of the wrong type.
    """
    file = root / "pyproject.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return ProjectOptions()
    except (OSError, ValueError) as error:
        raise PushError(f"pyproject.toml: {error}", file=str(file)) from error
    try:
        return msgspec.convert(table.get("tool", {}).get("reactor", {}), ProjectOptions)
    except (msgspec.ValidationError, AttributeError) as error:
        raise PushError(f"pyproject.toml: [tool.reactor]: {error}", file=str(file)) from error


class Project:
    """One loaded version of a project.

    `modules`, `digests` are by module name as users write it (`functions.messages`); `files` is every project file that
    was read, for watching. `env` is what stands in for environment variables that are not set; `http` is None without
    functions/http.py; `root` is the application, with the instances of components it has mounted. It stays in memory
    until `release`.
    """

    def __init__(
        self,
        *,
        options: ProjectOptions,
        schema: Schema,
        auth: AuthConfig | None,
        rules: Rules | None,
        registry: Registry,
        http: HttpRouter | None,
        modules: dict[str, ModuleType],
        digests: dict[str, str],
        package: PrivatePackage,
        functions_prefix: str,
        app: AppDefinition | None,
        env: Mapping[str, str],
        crons: Crons | None = None,
    ) -> None:
        self.options, self.schema, self.rules, self.registry = options, schema, rules, registry
        self.http, self.auth = http, auth
        self.modules, self.digests = modules, digests
        self.env = env
        self.crons: tuple[CronSpec, ...] = ()  # of the application and of what is mounted
        self._declared_crons = {"": crons}  # by path of the instance
        self.files = package.sources.files
        self.package = package.name
        self.app = app
        self.root = Instance("", schema, registry, http=http)
        self._imported = [package]
        self._functions_prefix = functions_prefix

    def namespace(self, name: str) -> ModuleType | None:
        """Return the module of a namespace, such as `http` or `ai/analytics`."""
        return self.modules.get(f"{self._functions_prefix}.{name.replace('/', '.')}")

    def mounted(self, packages: Iterable[PrivatePackage], crons: Mapping[str, Crons | None]) -> None:
        """Take over the packages of the components that were mounted, and what crons they have, by instance.

        Raises:
            PushError: a cron can't run what it names.
        """
        for package in packages:
            self._imported.append(package)
            self.files |= package.sources.files
        declared = {**self._declared_crons, **crons}
        found = ((instance, declared.get(instance.path)) for instance in self.root.walk())
        self.crons = tuple(spec for instance, crons in found if crons is not None for spec in crons.resolve(instance))

    def spec(self) -> list[dict[str, Any]]:
        """Return the official `function-spec` entries: functions by identifier, then the routes of HTTP actions."""
        return self.registry.spec() + ([] if self.http is None else self.http.spec())

    def release(self) -> None:
        """Take the version out of the process, so that it goes when the last function of it has ended. Idempotent."""
        packages, self._imported = self._imported, []
        self.modules = {}
        for package in packages:
            package.forget()

    def __repr__(self) -> str:
        return f"<Project {self.package}: {len(self.registry.functions)} functions>"


class ProjectLoader:
    """Loads the project in one directory, again and again.

    `seen` is what the last load read, also when it failed; `function_folders` are those of the last one that did not.
    """

    def __init__(self, project_dir: str | Path, options: ProjectOptions | None = None) -> None:
        self.root = Path(project_dir).resolve()
        self._options = options
        self.seen: frozenset[Path] = frozenset()
        self.function_folders: frozenset[Path] = frozenset()

    def load(self) -> Project:
        """Import the project as it is on disk now, under a name of its own.

        Raises:
            PushError: it can't be; nothing of it is left in the process.
        """
        if not self.root.is_dir():
            raise PushError(f"{self.root} is not a directory", file=str(self.root))
        options = read_options(self.root) if self._options is None else self._options
        guard.install()
        install_finder()
        names = _module_name(options.schema.removesuffix(".py")), _module_name(options.functions)
        sources = SourceTree(self.root, {name.partition(".")[0] for name in names})
        package = PrivatePackage(f"{PROJECT_PREFIX}{next(_numbers)}", sources)
        package.begin()
        components = _Components(package)
        try:
            project = self._load(options, *names, package)
            components.mount_all(project)
            self.function_folders = frozenset({self.root / options.functions, *components.function_folders})
            return project
        except BaseException as error:
            components.forget()
            package.forget()
            if not isinstance(error, Exception | SystemExit):
                raise
            files = sources.files | components.files
            if isinstance(error, PushError) and error.__cause__ is None:
                raise self._push_error(error, files) from None
            raise self._push_error(error, files) from (error.__cause__ or error)
        finally:
            self.seen = sources.files | components.files

    def _load(self, options: ProjectOptions, schema_name: str, prefix: str, package: PrivatePackage) -> Project:
        part = _load_part(self.root / options.functions, schema_name, prefix, package)
        rules = self._load_rules(schema_name, part.schema, package)
        if rules is not None:
            rules.digest = part.digests[schema_name]
        return Project(
            options=options,
            schema=part.schema,
            auth=self._load_auth(part.namespaces),
            rules=rules,
            registry=part.registry,
            http=part.http,
            modules=dict(package.modules()),
            digests=part.digests,
            package=package,
            functions_prefix=prefix,
            app=_app(part.namespaces),
            env=process_defaults(options.env, os.environ),
            crons=part.crons,
        )

    def _load_auth(self, loaded: Mapping[str, ModuleType]) -> AuthConfig | None:
        module = loaded.get("auth_config")
        if module is not None and not hasattr(module, "auth"):
            raise PushError(
                "AuthConfigMissingExportError: it must export `auth`, made with auth_config([...])",
                file=module.__file__,
            )
        auth = special_export(loaded, "auth_config", "auth", AuthConfig, "auth_config([...])")
        for provider in auth.providers if auth is not None else ():
            jwks = provider.fields.get("jwks")
            file = jwks_file(jwks) if isinstance(jwks, str) else None
            if file is not None and not (self.root / file).is_file():
                assert module is not None
                raise PushError(
                    f"AuthConfigNotMatchingSchemaError: jwks={jwks!r}: there is no such file in {self.root}",
                    file=module.__file__,
                )
        return auth

    def _load_rules(self, name: str, schema: Schema, package: PrivatePackage) -> Rules | None:
        """Return the row rules beside the schema, having found out which of them are conjunctions."""
        source = package.sources.find(name)
        if source is None or source.file is None:
            return None
        module = _import(name, package)
        rules = getattr(module, "rules", None)
        if rules is None:
            return None
        if not isinstance(rules, Rules):
            raise PushError("`rules` of a schema module must be made with define_rules({...})", file=str(source.file))
        rules.check(schema)
        for table in rules.tables.values():
            if table.read is not None:
                function = table.read.function
                home = getattr(function, "__module__", None) or ""
                tree = package.sources.tree(home.removeprefix(package.name + "."))
                table.read.is_conjunction = tree is not None and is_conjunction(function, tree)
        return rules

    def _push_error(self, error: BaseException, files: frozenset[Path]) -> PushError:
        """Return `error` as one that says where: every message starts with the user's file and line."""
        if isinstance(error, PushError):
            file, line, message = error.file, error.line, str(error)
        else:
            file, line = user_place(error, files)
            text = error.msg if isinstance(error, SyntaxError) else str(error)
            kind = error.rule if isinstance(error, AuthConfigInvalid) else type(error).__name__
            message = f"{kind}: {text}" if text else kind
        if file is not None:
            shown = Path(file).relative_to(self.root) if Path(file).is_relative_to(self.root) else file
            message = f"{shown}: {message}" if line is None else f"{shown}:{line}: {message}"
        return PushError(public_names(message), file=file, line=line)


class _Part(NamedTuple):
    """What was imported from one folder: the project's own, or a component's."""

    schema: Schema
    registry: Registry
    namespaces: Mapping[str, ModuleType]
    digests: dict[str, str]  # by module
    http: HttpRouter | None
    crons: Crons | None


def _load_part(functions: Path, schema_name: str, prefix: str, package: PrivatePackage) -> _Part:
    """Import the schema and the functions of `package`, whose modules are in the folder `functions`."""
    sources = package.sources
    names = {"/".join(parts): ".".join((prefix, *parts)) for parts in _namespaces(functions)}
    # Everything that may ever be imported is read now: a late import must not see a later edit.
    for name in (schema_name, *names.values()):
        sources.reachable(name)
    schema = _load_schema(schema_name, package)
    loaded = {path: _import(name, package) for path, name in names.items()}
    digests = {name: sources.digest(name) for name, _ in package.modules()}
    registry = build_registry(
        loaded,
        {module.__name__: path for path, module in loaded.items()},
        {path: digests[name] for path, name in names.items()},
    )
    crons = special_export(loaded, "crons", "crons", Crons, "cron_jobs()")
    return _Part(schema, registry, loaded, digests, _load_http(loaded), crons)


def _load_schema(name: str, package: PrivatePackage) -> Schema:
    source = package.sources.find(name)
    if source is None or source.file is None:
        return define_schema({}, schema_validation=False, strict_table_names=False)
    file = str(source.file)
    schema = getattr(_import(name, package), "schema", None)
    if not isinstance(schema, Schema):
        raise PushError("a schema module must export `schema`, made with define_schema({...})", file=file)
    try:
        schema.check()
    except SchemaInvalid as error:
        raise PushError(f"{error.rule}: {error}", file=file) from error
    return schema


def _import(name: str, package: PrivatePackage) -> ModuleType:
    return importlib.import_module(f"{package.name}.{name}")


class _Components:
    """The components of one load: each is imported once, and mounted as often as somebody uses it."""

    def __init__(self, project: PrivatePackage) -> None:
        self._loaded: dict[Path, tuple[ComponentDefinition, _Part]] = {}
        self._homes: dict[str, PrivatePackage | None] = {project.name: project}  # whose modules a package may import
        self._crons: dict[str, Crons | None] = {}  # by path of the instance
        self.packages: list[PrivatePackage] = []

    def mount_all(self, project: Project) -> None:
        """Mount what the application uses, and what that uses."""
        if project.app is not None:
            self._mount(project.root, project.app, [])
        project.mounted(self.packages, self._crons)

    def _mount(self, parent: Instance, user: AppDefinition, above: list[Path]) -> None:
        for mount in user.mounts.values():
            path = child_path(parent.path, mount.name)
            definition, part = self._load(mount)
            check_mount(mount, path, definition.env, above)
            registry = part.registry.mounted(path)
            child = Instance(path, part.schema, registry, parent, mount, definition.env, part.http)
            parent.children[mount.name] = child
            self._crons[path] = part.crons
            self._mount(child, definition, [*above, mount.component.folder])

    def _load(self, mount: Mount) -> tuple[ComponentDefinition, _Part]:
        """Import a component below a private package of its own.

        Its `__init__` runs again there, so that what it declares is what its folder says now.
        """
        folder = mount.component.folder
        found = self._loaded.get(folder)
        if found is not None:
            return found
        outer = self._homes.get(mount.component.package.partition(".")[0])
        name = public_names(mount.component.package)
        sources = ComponentTree(folder, name, None if outer is None else outer.sources)
        package = PrivatePackage(f"{PROJECT_PREFIX}{next(_numbers)}", sources, outer)
        self.packages.append(package)
        self._homes[package.name] = outer
        package.begin()
        definition = getattr(sys.modules[package.name], EXPORTED, None)
        if not isinstance(definition, ComponentDefinition):
            place = str(folder / "__init__.py")
            raise PushError(f"it must export `{EXPORTED}`, made with define_component(__name__)", file=place)
        part = _load_part(folder / "functions", "schema", "functions", package)
        schema = package.sources.find("schema")
        if schema is not None and schema.file is not None and hasattr(_import("schema", package), "rules"):
            raise PushError("a component has no row rules: its data is behind its functions", file=str(schema.file))
        found = self._loaded[folder] = definition, part
        return found

    @property
    def function_folders(self) -> list[Path]:
        """Where each component that is mounted has its functions."""
        return [folder / "functions" for folder in self._loaded]

    @property
    def files(self) -> frozenset[Path]:
        """Every file of a component that was read."""
        return frozenset(file for package in self.packages for file in package.sources.files)

    def forget(self) -> None:
        """Leave nothing behind."""
        for package in self.packages:
            package.forget()


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


def _app(modules: Mapping[str, ModuleType]) -> AppDefinition | None:
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


def _module_name(path: str) -> str:
    parts = Path(path).parts
    if not parts or not all(part.isidentifier() for part in parts):
        raise PushError(f"pyproject.toml: [tool.reactor]: {path!r} can't be imported; its parts must be Python names")
    return ".".join(parts)


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
