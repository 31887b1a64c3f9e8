"""When a cron is due: the arithmetic of slots, apart from documents.

A schedule is `{"kind": "interval", "ms": …}` or `{"kind": "cron", "cronspec": …, "tz": …}`; all times are milliseconds
since the Unix epoch. Promises that the slots of an interval keep their rhythm, and that a cron in a time zone with
daylight saving time has one slot a day where its spec names one: a time that is left out comes at the end of the gap,
and one that comes twice counts the first time.
"""

import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from reactor import v

Schedule = dict[str, Any]

MIN_INTERVAL_MS: Final = 1000
SCHEDULE: Final = v.union(
    v.object({"kind": v.literal("interval"), "ms": v.number()}),
    v.object({"kind": v.literal("cron"), "cronspec": v.string(), "tz": v.optional(v.string())}),
)
MISSED: Final = v.union(v.literal("once"), v.literal("all"), v.literal("skip"))

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def check_schedule(schedule: Schedule, now: float) -> None:
    """Make sure that a schedule has slots.

    Raises:
        ValueError: it has none; the text says why.
    """
    if schedule["kind"] == "interval" and not schedule["ms"] >= MIN_INTERVAL_MS:
        raise ValueError(f"Interval must be >= {MIN_INTERVAL_MS}ms, but it is {schedule['ms']:g}ms")
    if schedule["kind"] == "interval" and math.isinf(schedule["ms"]):
        raise ValueError("Interval must be a finite number of milliseconds")
    next_slot(schedule, now)


def next_slot(schedule: Schedule, after: float, beyond: float | None = None) -> float:
    """Return the first slot behind the slot `after`, and behind the time `beyond` if that is given.

    An interval goes on in its rhythm from `after`.

    Raises:
        ValueError: the cronspec or the time zone is none.
    """
    latest = after if beyond is None else max(after, beyond)
    if schedule["kind"] == "interval":
        ms = schedule["ms"]
        slot: float = after + ms * max(1, math.floor((latest - after) / ms) + 1)
        return slot
    cronspec = schedule["cronspec"]
    start = (_EPOCH + timedelta(milliseconds=math.floor(latest))).astimezone(_zone(schedule.get("tz")))
    try:
        for occurrence in CronSim(cronspec, start):
            # Where clocks are set back, an hour comes twice; the slots of the first one are behind us in the second.
            at: float = (occurrence - _EPOCH) / _MILLISECOND
            if at > latest:
                return at
    except CronSimError as error:
        raise ValueError(f'Invalid cronspec: "{cronspec}": {error}') from None
    raise ValueError(f'Invalid cronspec: "{cronspec}": there is no such day')


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f'Invalid time zone: "{name}" is unknown on this machine') from None
