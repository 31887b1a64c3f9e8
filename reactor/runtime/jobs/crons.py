"""Crons: what a project declares to run again and again, and when.

Owns `cron_jobs()` with its checks, and the arithmetic of occurrences. All times are UTC. A schedule is kept as the
official dashboard shows it: `{"type": "daily", "hourUTC": 17, "minuteUTC": 30}`. Used by the loader, which resolves
what the application and its components declare, and by the crons' runner.
"""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, final

import msgspec
from cronsim import CronSim, CronSimError

from reactor.errors import Error, InvalidArgument, PushError, ValidationError
from reactor.limits import MAX_IDENTIFIER_LENGTH
from reactor.runtime.arguments import encode_arguments
from reactor.runtime.components.definitions import Instance, child_path
from reactor.runtime.decorators import AnyReference
from reactor.runtime.references import component_function, function_path
from reactor.values.types import Int64

Schedule = dict[str, Any]

DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAME: Final = re.compile(r"[-_ 'a-zA-Z0-9]+")
_MILLISECOND: Final = timedelta(milliseconds=1)


class CronSpec(msgspec.Struct, frozen=True):
    """One cron of a loaded project. `path` is canonical, `args` wire JSON.

    `name` is below the path of the component instance that declares it, as in `limiter/clean up`; `component` is the
    instance of the function.
    """

    name: str
    path: str
    args: bytes
    schedule: Schedule
    component: str = ""


class Declared(msgspec.Struct, frozen=True):
    """One cron as it was declared, in a line of the user's."""

    name: str
    function: Any
    args: Mapping[str, Any]
    schedule: Schedule
    file: str
    line: int


@final
class Crons:
    """The crons of a project or component; functions/crons.py exports one of these as `crons`. Times are UTC."""

    def __init__(self) -> None:
        self._declared: dict[str, Declared] = {}

    def interval(
        self,
        name: str,
        function: AnyReference,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        seconds: int | None = None,
        minutes: int | None = None,
        hours: int | None = None,
    ) -> None:
        """Run `function` once in so many seconds, minutes or hours, for the first time when this is first pushed."""
        given = [(seconds, 1), (minutes, 60), (hours, 3600)]
        spans = [(count, unit) for count, unit in given if count is not None]
        if len(spans) != 1:
            raise ValueError("an interval takes one of seconds=, minutes= and hours=")
        ((count, unit),) = spans
        self._add(name, function, args, interval(_whole("an interval", count, 1, 10**9) * unit))

    def hourly(
        self,
        name: str,
        function: AnyReference,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        minute_utc: int | None = None,
    ) -> None:
        """Run `function` every hour, at a minute that is drawn once unless it is given."""
        self._add(name, function, args, {"type": "hourly", **_minute(minute_utc)})

    def daily(
        self,
        name: str,
        function: AnyReference,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        hour_utc: int,
        minute_utc: int | None = None,
    ) -> None:
        """Run `function` every day."""
        self._add(name, function, args, {"type": "daily", **_hour(hour_utc), **_minute(minute_utc)})

    def weekly(
        self,
        name: str,
        function: AnyReference,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        day_of_week: str,
        hour_utc: int,
        minute_utc: int | None = None,
    ) -> None:
        """Run `function` every week, on a day such as "tuesday"."""
        if day_of_week not in DAYS:
            raise ValueError(f"day_of_week is one of {', '.join(DAYS)}, not {day_of_week!r}")
        schedule = {"type": "weekly", "dayOfWeek": day_of_week, **_hour(hour_utc), **_minute(minute_utc)}
        self._add(name, function, args, schedule)

    def monthly(
        self,
        name: str,
        function: AnyReference,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        day: int,
        hour_utc: int,
        minute_utc: int | None = None,
    ) -> None:
        """Run `function` on a day of each month that has it."""
        schedule = {"type": "monthly", "day": Int64(_whole("day", day, 1, 31))}
        self._add(name, function, args, {**schedule, **_hour(hour_utc), **_minute(minute_utc)})

    def cron(
        self, name: str, expression: str, function: AnyReference, args: Mapping[str, Any] | None = None, /
    ) -> None:
        """Run `function` by a cron string of five fields: minute, hour, day of month, month, day of week."""
        if not isinstance(expression, str) or len(expression.split()) != 5:
            raise ValueError(
                f"a cron string has five fields (minute, hour, day of month, month, day of week), not {expression!r}"
            )
        try:
            next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(f"{expression!r} is no cron string: {error}") from None
        except StopIteration:
            raise ValueError(f"{expression!r} is no cron string: there is no such day") from None
        self._add(name, function, args, {"type": "cron", "cronExpr": expression})

    def resolve(self, instance: Instance) -> Iterator[CronSpec]:
        """Yield the crons with their functions looked up as code of `instance` would.

        Raises:
            PushError: a function does not exist, can't be run by a cron, or is given what is no value.
        """
        for declared in self._declared.values():
            yield _resolved(declared, instance)

    def _add(self, name: str, function: AnyReference, args: Mapping[str, Any] | None, schedule: Schedule) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 4 * MAX_IDENTIFIER_LENGTH:
            raise ValueError(
                f"the name of a cron is made of ASCII letters, digits, spaces, and the characters _ - ' only: {name!r}"
            )
        if name in self._declared:
            raise ValueError(f"there is a cron {name!r} already: each has a name of its own")
        # The user's line: this method, the one of the schedule, the user.
        frame = sys._getframe(2)
        place = frame.f_code.co_filename, frame.f_lineno
        self._declared[name] = Declared(name, function, {} if args is None else args, schedule, *place)

    def __repr__(self) -> str:
        return f"<Crons: {', '.join(self._declared) or 'none'}>"


def cron_jobs() -> Crons:
    """Return an object to declare crons with: `crons = cron_jobs()` in functions/crons.py."""
    return Crons()


def interval(seconds: int) -> Schedule:
    """Return the schedule of once in so many seconds."""
    return {"type": "interval", "seconds": Int64(seconds)}


def needs_minute(schedule: Schedule) -> bool:
    """Whether the minute is to be drawn, since none was given."""
    return schedule["type"] not in ("interval", "cron") and "minuteUTC" not in schedule


def next_occurrence(schedule: Schedule, offset_ms: float, after_ms: float) -> float:
    """Return the first occurrence of a clock schedule strictly after a time, each moved by `offset_ms`."""
    start = EPOCH + timedelta(milliseconds=math.floor(after_ms - offset_ms))
    occurrence = next(CronSim(_expression(schedule), start))
    return (occurrence - EPOCH) / _MILLISECOND + offset_ms


def following(schedule: Schedule, offset_ms: float, due_ms: float, now_ms: float) -> tuple[float, int]:
    """Return when a cron that was due at `due_ms` and has ended now is next due, and how many runs are left out.

    An interval goes on from when it was due, and counts what it leaves out; a clock goes on from now.
    """
    if schedule["type"] != "interval":
        return next_occurrence(schedule, offset_ms, max(now_ms, due_ms)), 0
    period_ms = float(schedule["seconds"]) * 1000
    next_ms = due_ms + period_ms
    skipped = max(0, math.ceil((now_ms - next_ms) / period_ms))
    return next_ms + skipped * period_ms, skipped


def _expression(schedule: Schedule) -> str:
    if schedule["type"] == "cron":
        return str(schedule["cronExpr"])
    minute, hour = schedule.get("minuteUTC", 0), schedule.get("hourUTC", "*")
    weekday = DAYS.index(schedule["dayOfWeek"]) if "dayOfWeek" in schedule else "*"
    return f"{int(minute)} {hour} {schedule.get('day', '*')} * {weekday}"


def _hour(hour: int) -> Schedule:
    return {"hourUTC": Int64(_whole("hour_utc", hour, 0, 23))}


def _minute(minute: int | None) -> Schedule:
    return {} if minute is None else {"minuteUTC": Int64(_whole("minute_utc", minute, 0, 59))}


def _whole(name: str, number: object, low: int, high: int) -> int:
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise ValueError(f"{name} is a whole number from {low} to {high}, not {number!r}")
    return number


def _place(function: object, instance: Instance) -> tuple[Instance, str]:
    """Return where the function is that code of `instance` means, and its path there.

    Raises:
        InvalidArgument: it names no function, or one of what is not mounted.
    """
    below = component_function(function)
    if below is None:
        return instance, function_path(function)
    name, path = below
    if name not in instance.children:
        mounted = ", ".join(sorted(instance.children)) or "none"
        raise InvalidArgument(f"{function!r}: there is no component {name!r}. Mounted are: {mounted}.")
    return instance.children[name], path


def _resolved(declared: Declared, instance: Instance) -> CronSpec:
    def problem(text: str) -> PushError:
        return PushError(f"cron {declared.name!r}: {text}", file=declared.file, line=declared.line)

    try:
        home, path = _place(declared.function, instance)
        target = home.registry.lookup(path)
    except Error as error:
        raise problem(str(error)) from None
    if target is None:
        raise problem(f"there is no function {path!r}")
    if home is not instance and target.visibility == "internal":
        raise problem(f"{path} is an internal function of component {home.path!r}")
    if target.kind not in ("mutation", "action"):
        raise problem(f"{target.path} is a {target.kind.replace('_', ' ')}; a cron runs a mutation or an action")
    try:
        args = encode_arguments(target, (declared.args,), {})
    except ValidationError as error:
        raise problem(str(error)) from None
    return CronSpec(child_path(instance.path, declared.name), target.path, args, declared.schedule, home.path)
