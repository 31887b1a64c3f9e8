"""A loaded project: one version of an application's schema and functions, and the options it is loaded with.

Owns `Project`, which stays whole until it is released, and the `[tool.reactor]` table of pyproject.toml. Made by the
loader; used by whoever deploys or runs a version.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import msgspec

from reactor.auth.config import AuthConfig
from reactor.errors import PushError
from reactor.runtime.components.definitions import AppDefinition, Instance
from reactor.runtime.http.router import HttpRouter
from reactor.runtime.importing import PrivatePackage
from reactor.runtime.jobs.crons import Crons, CronSpec
from reactor.runtime.registry import Registry
from reactor.runtime.rules.declared import Rules
from reactor.runtime.triggers.declared import Triggers
from reactor.schema.definition import Schema


class ProjectOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[tool.reactor]` table of a project's pyproject.toml. Paths are relative to the project."""

    schema: str = "schema.py"
    functions: str = "functions"
    data: str | None = None
    env: tuple[str, ...] = ()
    deploy: tuple[str, ...] = ()  # files and folders beside the functions that a deploy takes along
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
        triggers: Triggers | None,
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
        self.folder = package.sources.root
        self.package = package.name
        self.app = app
        self.root = Instance("", schema, registry, http=http, triggers=triggers)
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
