"""Components: packages with a schema and functions of their own, which an application mounts under names.

Owns `define_component` and `define_app`, what `use` may be given, and `Instance`, one mounted component of a loaded
project. Promises that a mistake in a mount is found before the push, at the user's line. The data of an instance is in
its `Namespace` (`engine/catalog`); calls into it are in `nested`. Used by projects, `loader` and `push`.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final, final

import msgspec

from reactor.errors import EnvironmentVariableMissing, InvalidArgument, PushError, ValidationError
from reactor.runtime.environment.documents import BUILT_IN, SITE_URL
from reactor.runtime.environment.mapping import Environment, VariableReference
from reactor.runtime.http.router import HttpRouter
from reactor.runtime.references import identifier_problem
from reactor.runtime.registry import Registry
from reactor.runtime.triggers.declared import Triggers
from reactor.schema.definition import Schema
from reactor.schema.validator import Validator

EXPORTED: Final = "component"  # the name a component's package exports its definition under


Binding = str | VariableReference  # the value of a variable, or the variable of whoever mounts that has it


class Mount(msgspec.Struct, frozen=True):
    """One `use`: which component, under which name, with what."""

    component: "ComponentDefinition"
    name: str
    env: Mapping[str, Binding]
    http_prefix: str | None
    file: str
    line: int


class AppDefinition:
    """What functions/app.py exports as `app`: the components that the application uses."""

    def __init__(self, http_prefix: str | None = None) -> None:
        self.http_prefix: Final = http_prefix
        self.mounts: Final[dict[str, Mount]] = {}

    def use(
        self,
        component: "ComponentDefinition | ModuleType",
        /,
        *,
        name: str | None = None,
        env: Mapping[str, Binding] | None = None,
        http_prefix: str | None = None,
    ) -> None:
        """Mount a component. Its functions are `components.<name>.…`, and its data belongs to this mount alone.

        Args:
            component: the definition, or the package that exports it as `component`.
            name: what the mount is called here; by default the component's own name.
            env: values for the variables that the component declares: texts, or `env.ref("NAME")` for a variable of
                whoever mounts it.
            http_prefix: where its HTTP routes appear, such as "/signup/". Without it they don't.

        Raises:
            InvalidArgument: the component is none, or the name can't be used or is taken.
        """
        definition = _definition_of(component)
        name = definition.name if name is None else name
        problem = identifier_problem(name) if isinstance(name, str) else f"it is {name!r}"
        if problem is not None:
            raise InvalidArgument(f"A component can't be mounted as {name!r}: {problem}. Give it a name=.")
        if name in self.mounts:
            raise InvalidArgument(f"There is a component {name!r} here already. Give one of them another name=.")
        for variable, value in (env or {}).items():
            if not isinstance(value, Binding):
                raise InvalidArgument(
                    f"env of component {name!r}: {variable} is a text or env.ref(...), not {type(value).__name__}."
                )
        _check_prefix(http_prefix)
        frame = sys._getframe(1)
        self.mounts[name] = Mount(
            definition, name, dict(env or {}), http_prefix, frame.f_code.co_filename, frame.f_lineno
        )


class ComponentDefinition(AppDefinition):
    """What a component's package exports as `component`."""

    def __init__(self, package: str, folder: Path, env: Mapping[str, Validator]) -> None:
        super().__init__()
        self.package: Final = package  # as it was imported, which may be below a project's private package
        self.folder: Final = folder
        self.env: Final = dict(env)
        self.name: Final = package.rpartition(".")[2]

    def __repr__(self) -> str:
        return f"<component {self.name}>"


def define_app(*, http_prefix: str | None = None) -> AppDefinition:
    """Begin the definition of an application, to be exported as `app` by functions/app.py.

    `http_prefix` moves the application's own HTTP routes, not those of its components.

    Raises:
        InvalidArgument: the prefix does not begin and end with a slash.
    """
    _check_prefix(http_prefix)
    return AppDefinition(http_prefix)


def define_component(package: str, /, *, env: Mapping[str, Validator] | None = None) -> ComponentDefinition:
    """Define the component that a package is. Its `__init__.py` exports it as `component`.

    Args:
        package: `__name__`.
        env: the environment variables it reads, by name. It sees no others.

    Raises:
        InvalidArgument: this is not the `__init__.py` of a package, or a variable is declared by no validator.
    """
    module = sys.modules.get(package) if isinstance(package, str) else None
    file = getattr(module, "__file__", None)
    if file is None or not hasattr(module, "__path__"):
        raise InvalidArgument(
            "define_component(__name__) belongs into the __init__.py of the component's package, beside schema.py and "
            "functions/."
        )
    for variable, validator in (env or {}).items():
        if not isinstance(validator, Validator):
            raise InvalidArgument(f"define_component: env {variable!r} is declared by a validator, such as v.string().")
    return ComponentDefinition(package, Path(file).resolve().parent, env or {})


class Instance:
    """One mounted component of a loaded project: the code is shared with other mounts of it, nothing else is.

    The application itself is the instance with the empty path.
    """

    def __init__(
        self,
        path: str,
        schema: Schema,
        registry: Registry,
        parent: "Instance | None" = None,
        mount: Mount | None = None,
        declared: Mapping[str, Validator] = MappingProxyType({}),
        http: HttpRouter | None = None,
        triggers: Triggers | None = None,
    ) -> None:
        self.path: Final = path
        self.schema: Final = schema
        self.registry: Final = registry
        self.parent: Final = parent  # None for the application itself
        self.mount: Final = mount
        self.declared: Final = declared  # environment variables
        self.http: Final = http
        self.triggers: Final = triggers
        self.children: Final[dict[str, Instance]] = {}

    def walk(self) -> "Iterator[Instance]":
        """Yield this instance and those mounted below it, parents first."""
        yield self
        for _, child in sorted(self.children.items()):
            yield from child.walk()

    @property
    def bindings(self) -> Mapping[str, Binding]:
        """What the declared variables are bound to."""
        return {} if self.mount is None else self.mount.env

    def __repr__(self) -> str:
        return f"<Instance {self.path!r}>"


@final
class ComponentEnvironment(Environment):
    """The variables that one component instance declares, and the built-in ones. It sees no others."""

    __slots__ = ("_instance", "_outer")

    def __init__(self, instance: Instance, outer: Environment) -> None:
        """`outer` has the variables of whoever mounts the instance."""
        self._instance = instance
        self._outer = outer

    def find(self, name: str) -> str | None:
        """Return the value of a variable, or None.

        Raises:
            InvalidArgument: the value it is bound to at present is not what the component declares.
        """
        mount = self._instance.mount
        assert mount is not None
        if name in BUILT_IN:
            value = self._outer.get(name)
            prefix = mount.http_prefix
            return value + prefix.rstrip("/") if value and prefix and name == SITE_URL else value
        binding = mount.env.get(name)
        if not isinstance(binding, VariableReference):
            return binding
        value = self._outer.get(binding.name)
        declared = self._instance.declared[name]
        if value is not None:
            try:
                declared.check(value, None)
            except ValidationError as error:
                raise InvalidArgument(
                    f"Environment variable {name} of component '{self._instance.path}', from {binding.name}: {error}"
                ) from None
        return value

    def __getitem__(self, name: str) -> str:
        try:
            return super().__getitem__(name)
        except EnvironmentVariableMissing:
            binding = self._instance.bindings.get(name)
            if isinstance(binding, VariableReference):
                return self._outer[binding.name]
            declared = "is not given to" if name in self._instance.declared else "is not declared by"
            raise EnvironmentVariableMissing(
                name,
                f"Environment variable {name!r} {declared} component '{self._instance.path}'. A component sees what "
                "its define_component(..., env=) declares and who mounts it gives: use(..., env=).",
            ) from None

    def everything(self) -> Mapping[str, str]:
        """Return all variables, sorted by name."""
        found = ((name, self.find(name)) for name in sorted({*self._instance.declared, *BUILT_IN}))
        return {name: value for name, value in found if value is not None}


def environment_of(instance: Instance, variables: Environment) -> Environment:
    """Return what the code of an instance sees of the deployment's `variables`."""
    if instance.parent is None:
        return variables
    return ComponentEnvironment(instance, environment_of(instance.parent, variables))


def child_path(parent: str, name: str) -> str:
    """Return the path of the instance that `parent` has mounted as `name`."""
    return f"{parent}/{name}" if parent else name


def check_mount(mount: Mount, path: str, declared: Mapping[str, Validator], above: list[Path]) -> None:
    """Check a mount at `path`, below mounts of the components in the folders `above`, whose variables are `declared`.

    Raises:
        PushError: it mounts itself, or a variable is unknown, missing or not what the component declares.
    """
    problem = None
    if mount.component.folder in above:
        problem = f"component {mount.component.name} would be mounted inside itself, as {path}"
    for variable, value in mount.env.items():
        validator = declared.get(variable)
        if validator is None:
            names = ", ".join(sorted(declared)) or "none"
            problem = f"component {mount.component.name} declares no environment variable {variable!r}; it has: {names}"
        elif isinstance(value, str):
            try:
                validator.check(value, None)
            except ValidationError as error:
                problem = f"environment variable {variable} of component {mount.name!r}: {error}"
    for variable, validator in declared.items():
        if variable not in mount.env and not validator.is_optional:
            problem = f"component {mount.name!r} needs the environment variable {variable}: give it in env="
    if problem is not None:
        raise PushError(problem, file=mount.file, line=mount.line)


def _definition_of(component: Any) -> ComponentDefinition:
    if isinstance(component, ModuleType):
        component = getattr(component, EXPORTED, component)
    if not isinstance(component, ComponentDefinition):
        raise InvalidArgument(
            f"use() takes a component, or the package that exports one as `{EXPORTED}`, made with "
            f"define_component(__name__), not {component!r}. The packages that come with reactor are imported as "
            "`from reactor.components import name`."
        )
    return component


def _check_prefix(prefix: str | None) -> None:
    if prefix is not None and not (
        isinstance(prefix, str) and prefix.startswith("/") and prefix.endswith("/") and "//" not in prefix
    ):
        raise InvalidArgument(f'An http_prefix begins and ends with a slash, as in "/signup/", not {prefix!r}.')
