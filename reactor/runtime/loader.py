"""Loading a project: its options, its schema and its functions, as one version that can be replaced and forgotten.

Owns `ProjectLoader` and `Project`. Promises that a load either gives a whole version or leaves nothing behind, that
versions don't see each other, and that every failure is a `PushError` at the user's file and line. Blocking: callers
run `load` in a thread. Used by `host` and by the command line.
"""

import importlib
import itertools
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final, TypeVar

import msgspec

from reactor.auth.config import AuthConfig, jwks_file
from reactor.errors import AuthConfigInvalid, PushError, SchemaInvalid
from reactor.runtime import guard
from reactor.runtime.conjunctions import is_conjunction
from reactor.runtime.crons import Crons, CronSpec
from reactor.runtime.determinism import PROJECT_PREFIX
from reactor.runtime.environment import process_defaults
from reactor.runtime.http_router import HttpRouter
from reactor.runtime.importing import PrivatePackage, install_finder, public_names, user_place
from reactor.runtime.references import component_problem
from reactor.runtime.registry import Registry, build_registry
from reactor.runtime.rules import Rules
from reactor.runtime.signature import Binder
from reactor.runtime.sources import SourceTree
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

    `http` is None for a project without functions/http.py. `modules`, `digests` are by module name as users write it
    (`functions.messages`); `files` is every project file that was read, for watching; `env` is what stands in for
    environment variables that are not set. It stays in memory until
    `release`.
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
        env: Mapping[str, str],
        crons: tuple[CronSpec, ...] = (),
    ) -> None:
        self.options, self.schema, self.rules, self.registry = options, schema, rules, registry
        self.http, self.auth = http, auth
        self.modules, self.digests = modules, digests
        self.env = env
        self.crons = crons
        self.files = package.sources.files
        self.package = package.name
        self._imported: PrivatePackage | None = package
        self._functions_prefix = functions_prefix

    def namespace(self, name: str) -> ModuleType | None:
        """Return the module of a namespace, such as `http` or `ai/analytics`."""
        return self.modules.get(f"{self._functions_prefix}.{name.replace('/', '.')}")

    def spec(self) -> list[dict[str, Any]]:
        """Return the official `function-spec` entries: functions by identifier, then the routes of HTTP actions."""
        return self.registry.spec() + ([] if self.http is None else self.http.spec())

    def release(self) -> None:
        """Take the version out of the process, so that it goes when the last function of it has ended. Idempotent."""
        package, self._imported = self._imported, None
        if package is not None:
            self.modules = {}
            package.forget()

    def __repr__(self) -> str:
        return f"<Project {self.package}: {len(self.registry.functions)} functions>"


class ProjectLoader:
    """Loads the project in one directory, again and again. `seen` is what the last load read, also when it failed."""

    def __init__(self, project_dir: str | Path, options: ProjectOptions | None = None) -> None:
        self.root = Path(project_dir).resolve()
        self._options = options
        self.seen: frozenset[Path] = frozenset()

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
        try:
            return self._load(options, *names, package)
        except BaseException as error:
            package.forget()
            if not isinstance(error, Exception | SystemExit):
                raise
            if isinstance(error, PushError) and error.__cause__ is None:
                raise self._push_error(error, sources) from None
            raise self._push_error(error, sources) from (error.__cause__ or error)
        finally:
            self.seen = sources.files

    def _load(self, options: ProjectOptions, schema_name: str, prefix: str, package: PrivatePackage) -> Project:
        sources = package.sources
        namespaces = {
            "/".join(parts): ".".join((prefix, *parts)) for parts in _namespaces(self.root / options.functions)
        }
        # Everything that may ever be imported is read now: a late import must not see a later edit.
        for name in (schema_name, *namespaces.values()):
            sources.reachable(name)
        schema = self._load_schema(schema_name, package)
        rules = self._load_rules(schema_name, schema, package)
        loaded = {path: self._import(name, package) for path, name in namespaces.items()}
        auth = self._load_auth(loaded)
        digests = {name: sources.digest(name) for name, _ in package.modules()}
        if rules is not None:
            rules.digest = digests[schema_name]
        registry = build_registry(
            loaded,
            {module.__name__: path for path, module in loaded.items()},
            {path: digests[name] for path, name in namespaces.items()},
        )
        crons = special_export(loaded, "crons", "crons", Crons, "cron_jobs()")
        http = _load_http(loaded)
        return Project(
            options=options,
            schema=schema,
            auth=auth,
            rules=rules,
            registry=registry,
            http=http,
            modules=dict(package.modules()),
            digests=digests,
            package=package,
            functions_prefix=prefix,
            env=process_defaults(options.env, os.environ),
            crons=() if crons is None else crons.resolve(registry, loaded["crons"].__file__),
        )

    def _load_schema(self, name: str, package: PrivatePackage) -> Schema:
        source = package.sources.find(name)
        if source is None or source.file is None:
            return define_schema({}, schema_validation=False, strict_table_names=False)
        file = str(source.file)
        schema = getattr(self._import(name, package), "schema", None)
        if not isinstance(schema, Schema):
            raise PushError("a schema module must export `schema`, made with define_schema({...})", file=file)
        try:
            schema.check()
        except SchemaInvalid as error:
            raise PushError(f"{error.rule}: {error}", file=file) from error
        return schema

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
        module = self._import(name, package)
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

    @staticmethod
    def _import(name: str, package: PrivatePackage) -> ModuleType:
        return importlib.import_module(f"{package.name}.{name}")

    def _push_error(self, error: BaseException, sources: SourceTree) -> PushError:
        """Return `error` as one that says where: every message starts with the user's file and line."""
        if isinstance(error, PushError):
            file, line, message = error.file, error.line, str(error)
        else:
            file, line = user_place(error, sources.files)
            text = error.msg if isinstance(error, SyntaxError) else str(error)
            kind = error.rule if isinstance(error, AuthConfigInvalid) else type(error).__name__
            message = f"{kind}: {text}" if text else kind
        if file is not None:
            shown = Path(file).relative_to(self.root) if Path(file).is_relative_to(self.root) else file
            message = f"{shown}: {message}" if line is None else f"{shown}:{line}: {message}"
        return PushError(public_names(message), file=file, line=line)


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
