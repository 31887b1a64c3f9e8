"""Loading a project: one version that can be replaced and forgotten.

Owns `ProjectLoader`. Promises that a load either gives a whole version or leaves nothing behind, that versions don't
see each other, and that every failure is a `PushError` at the user's file and line. Blocking: callers run `load` in a
thread. Used by the composition root and by the command line.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from reactor.auth.config import AuthConfig, jwks_file
from reactor.errors import AuthConfigInvalid, PushError
from reactor.runtime import guard
from reactor.runtime.components.loading import ComponentLoader
from reactor.runtime.environment.mapping import process_defaults
from reactor.runtime.importing import PrivatePackage, install_finder, public_names, user_place
from reactor.runtime.parts import app_of, import_module, load_part, special_export
from reactor.runtime.project import Project, ProjectOptions, read_options
from reactor.runtime.rules.conjunctions import is_conjunction
from reactor.runtime.rules.declared import Rules
from reactor.runtime.sources import SourceTree
from reactor.schema.definition import Schema


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
        package = PrivatePackage(sources)
        package.begin()
        components = ComponentLoader(package)
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
        part = load_part(self.root / options.functions, schema_name, prefix, package)
        rules = self._load_rules(schema_name, part.schema, package)
        if rules is not None:
            rules.digest = part.digests[schema_name]
        return Project(
            options=options,
            schema=part.schema,
            auth=self._load_auth(part.namespaces),
            rules=rules,
            triggers=part.triggers,
            registry=part.registry,
            http=part.http,
            modules=dict(package.modules()),
            digests=part.digests,
            package=package,
            functions_prefix=prefix,
            app=app_of(part.namespaces),
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
        module = import_module(name, package)
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


def _module_name(path: str) -> str:
    parts = Path(path).parts
    if not parts or not all(part.isidentifier() for part in parts):
        raise PushError(f"pyproject.toml: [tool.reactor]: {path!r} can't be imported; its parts must be Python names")
    return ".".join(parts)
