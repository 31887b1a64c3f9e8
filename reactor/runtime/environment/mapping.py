"""Environment variables as functions read them: `env["NAME"]`.

Owns the mapping that user code sees, and what a look at it depends on: the document of that name, whether or not there
is one (`variables`), and where there is none what stands in for it. So a change of one variable reruns exactly what has
read it, and a mutation that has read it conflicts. A variable comes from the table `_environment_variables`, else from
the process (`[tool.reactor] env`, read when the project is loaded); two are built in. Used by scopes, actions,
components and the loader.
"""

import fnmatch
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, final

from reactor.engine.transaction import Transaction
from reactor.errors import EnvironmentVariableMissing, InvalidArgument
from reactor.runtime.determinism import ambient, host_urandom
from reactor.runtime.environment.documents import BUILT_IN, CLOUD_URL, DEFAULTS, SITE_URL, read_variable, read_variables
from reactor.runtime.environment.origins import Origins

OUTSIDE: Final = (
    "Environment variables belong to a deployment and can be read while one of its functions runs, not at import time: "
    "move the read into the function. (For configuration that is read when it is needed, env.ref({name!r}) names one.)"
)


class Environment(Mapping[str, str]):
    """Environment variables by name. Never shows a value unless asked for it."""

    __slots__ = ()

    @abstractmethod
    def find(self, name: str) -> str | None:
        """Return the value of a variable, or None."""

    @abstractmethod
    def everything(self) -> Mapping[str, str]:
        """Return all variables."""

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str):
            raise TypeError(f"the name of an environment variable is text, not {type(name).__name__}")
        value = self.find(name)
        if value is None:
            raise EnvironmentVariableMissing(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.everything())

    def __len__(self) -> int:
        return len(self.everything())

    def __repr__(self) -> str:
        return "<environment variables of a deployment>"


@final
class TransactionEnvironment(Environment):
    """The variables in the snapshot of one transaction, which records every look."""

    __slots__ = ("_built_in", "_defaults", "_transaction")

    def __init__(self, transaction: Transaction, defaults: Mapping[str, str], built_in: Mapping[str, str]) -> None:
        self._transaction = transaction
        self._defaults = defaults
        self._built_in = built_in

    def find(self, name: str) -> str | None:
        """Return the value of a variable, or None."""
        found = self._built_in.get(name)
        if found is None:
            row = read_variable(self._transaction, name)
            found = self._default(name) if row is None else str(row["value"])
        return found

    def everything(self) -> Mapping[str, str]:
        """Return all variables, sorted by name."""
        stored = {str(row["name"]): str(row["value"]) for row in read_variables(self._transaction)}
        return dict(sorted((self._defaults | stored | self._built_in).items()))  # type: ignore[operator]

    def _default(self, name: str) -> str | None:
        read_variable(self._transaction, DEFAULTS)
        return self._defaults.get(name)


@final
class SnapshotEnvironment(Environment):
    """The variables of one moment, for code on any thread. Serves such code as its `determinism.Source` too."""

    __slots__ = ("_variables",)

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def find(self, name: str) -> str | None:
        """Return the value of a variable, or None."""
        return self._variables.get(name)

    def everything(self) -> Mapping[str, str]:
        """Return all variables."""
        return self._variables

    def environment(self) -> Mapping[str, str]:
        """Return itself."""
        return self

    def token_bytes(self, count: int) -> bytes:
        """Return `count` random bytes."""
        return host_urandom(count)


@final
class VariableReference:
    """Names an environment variable, whose value is looked up when it is needed: `env.ref("NAME")`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def resolve(self, environment: Mapping[str, str]) -> str:
        """Return the value.

        Raises:
            EnvironmentVariableMissing: it is not set.
        """
        return environment[self.name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VariableReference) and other.name == self.name

    def __hash__(self) -> int:
        return hash((VariableReference, self.name))

    def __repr__(self) -> str:
        return f"env.ref({self.name!r})"


@final
class CurrentEnvironment(Mapping[str, str]):
    """`reactor.env`: the environment variables of the deployment whose function runs here."""

    __slots__ = ()

    def __getitem__(self, name: str) -> str:
        return self._current(name)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def ref(self, name: str) -> VariableReference:
        """Return what names the variable without reading it, for configuration that is made at import time.

        Raises:
            InvalidArgument: no variable can have this name.
        """
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"env.ref() takes the name of a variable, not {name!r}")
        return VariableReference(name)

    def __repr__(self) -> str:
        return "<reactor.env>"

    def _current(self, name: object = "NAME") -> Mapping[str, str]:
        found = ambient.get()
        if found is None:
            raise InvalidArgument(OUTSIDE.format(name=name))
        return found.source.environment()


env: Final = CurrentEnvironment()


def built_in_variables(origins: Origins) -> dict[str, str]:
    """Return the variables that nobody sets."""
    return {CLOUD_URL: origins.cloud, SITE_URL: origins.site}


def process_defaults(patterns: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the process whose names match one of `patterns`, such as `RATE_LIMIT_*`."""
    return {
        name: value
        for name, value in environ.items()
        if name not in BUILT_IN and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
