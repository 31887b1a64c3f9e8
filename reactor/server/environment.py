"""Environment variables from outside of functions: the way of the HTTP API, and of programs that embed a deployment.

Promises that a change is durable when it is reported, and whole. Used by `http/environment` and the composition root.
"""

from collections.abc import Mapping
from typing import Any

from reactor.errors import ValidationError
from reactor.runtime.system_functions import CHANGE_VARIABLES, LIST_VARIABLES
from reactor.server.backend import OpenBackend
from reactor.server.callers import Caller


class EnvironmentControl:
    """`deployment.env`: reads and changes the environment variables of an open deployment."""

    def __init__(self, backend: OpenBackend, caller: Caller) -> None:
        self._backend = backend
        self._caller = caller

    async def all(self) -> dict[str, str]:
        """Return the variables that are set, by name; not what stands in for others.

        Raises:
            Unavailable: the deployment is not open.
        """
        first = self._backend().before_push()
        if first is not None:
            return first.variables()
        rows: Any = await self._caller.query(LIST_VARIABLES)
        return {row["name"]: row["value"] for row in rows}

    async def get(self, name: str) -> str | None:
        """Return the value that a variable is set to, or None.

        Raises:
            Unavailable: the deployment is not open.
        """
        return (await self.all()).get(name)

    async def set(self, name: str, value: str) -> None:
        """Set one variable; see `update`."""
        await self.update({name: value})

    async def unset(self, name: str) -> None:
        """Unset one variable, which need not be set."""
        await self.update({name: None})

    async def update(self, changes: Mapping[str, str | None]) -> None:
        """Set variables by name, all or none; None unsets one. What has read one of them runs again.

        Raises:
            LimitExceeded: a name or value can't be stored, or there would be too many.
            ValidationError: a value is no text.
            Unavailable: the deployment is not open.
        """
        first = self._backend().before_push()
        if first is not None:
            for name, value in changes.items():
                if value is not None and not isinstance(value, str):
                    raise ValidationError(f"Environment variable {name} is text, not {type(value).__name__}.")
            await first.change_variables(changes)
            return
        listed = [{"name": name, "value": value} for name, value in changes.items()]
        await self._caller.mutation(CHANGE_VARIABLES, {"changes": listed})
