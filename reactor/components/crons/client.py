"""The class with which an application registers crons while it runs."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from reactor.components.contexts import ReadCtx, WriteCtx

Schedule = Mapping[str, Any]


class CronInfo(TypedDict):
    """A registered cron, in the form in which functions hand it out."""

    id: str
    name: NotRequired[str]
    functionHandle: str
    args: dict[str, Any]
    schedule: dict[str, Any]
    missed: NotRequired[Literal["once", "all", "skip"]]


def interval(
    *, milliseconds: float = 0, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0
) -> dict[str, Any]:
    """Return the schedule of a run after each such span, at least a second."""
    seconds += 60 * (minutes + 60 * (hours + 24 * days))
    return {"kind": "interval", "ms": milliseconds + 1000 * seconds}


def cron(cronspec: str, /, *, tz: str | None = None) -> dict[str, Any]:
    """Return the schedule of a cron string: minute, hour, day of month, month, day of week; seconds may stand before.

    `tz` is a time zone such as "Europe/Berlin"; the default is UTC.
    """
    return {"kind": "cron", "cronspec": cronspec} | ({} if tz is None else {"tz": tz})


class Crons:
    """Crons registered at run time: `crons = Crons(components.crons)`."""

    def __init__(self, component: Any) -> None:
        self.component = component

    async def register(
        self,
        ctx: WriteCtx,
        schedule: Schedule,
        function: Any,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        name: str | None = None,
        missed: Literal["once", "all", "skip"] = "once",
    ) -> str:
        """Run `function`, a mutation or an action, with `args` at every slot of a schedule; return the cron's id.

        In a mutation the cron exists when the mutation has committed.

        Args:
            schedule: from `interval(…)` or `cron(…)`.
            name: unique among those that have one. To register only once, ask `get` first.
            missed: what becomes of slots in which the server was down: "once", one run makes up for all of them; "all",
                each is run, one after the other; "skip", none is.

        Raises:
            ValueError: the name is taken, or the schedule has no slots.
        """
        given: dict[str, Any] = {
            "schedule": dict(schedule),
            "functionHandle": await ctx.function_handle(function),
            "args": dict(args or {}),
            "missed": missed,
        }
        if name is not None:
            given["name"] = name
        return cast(str, await ctx.run_mutation(self.component.registry.register, given))

    async def list(self, ctx: ReadCtx, /) -> "list[CronInfo]":
        """Return all crons, the oldest first."""
        return cast("list[CronInfo]", await ctx.run_query(self.component.registry.list))

    async def get(self, ctx: ReadCtx, /, *, id: str | None = None, name: str | None = None) -> CronInfo | None:
        """Return the cron with this id or name, or None.

        Raises:
            TypeError: not one of both is given.
        """
        return cast(
            "CronInfo | None", await ctx.run_query(self.component.registry.get, {"identifier": _identifier(id, name)})
        )

    async def delete(self, ctx: WriteCtx, /, *, id: str | None = None, name: str | None = None) -> None:
        """Unregister a cron. What it has begun goes on; what waits does not begin.

        Raises:
            TypeError: not one of both is given.
            ValueError: there is no such cron.
        """
        await ctx.run_mutation(self.component.registry.delete, {"identifier": _identifier(id, name)})


def _identifier(id: str | None, name: str | None) -> dict[str, str]:
    if (id is None) == (name is None):
        raise TypeError("name a cron by id= or by name=")
    return {"id": id} if id is not None else {"name": cast(str, name)}
