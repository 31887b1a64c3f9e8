"""Slots: the rhythm of intervals, and crons where clocks are set forward and back."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.components.crons.client import cron, interval
from reactor.components.crons.schedules import check_schedule, next_slot

DAY_MS = 86_400_000
BERLIN = ZoneInfo("Europe/Berlin")
TIMES = st.integers(0, 2**41).map(float)
SPECS = ["*/5 * * * *", "30 2 * * *", "0,30 2 * * *", "15 1-3 * * SUN", "*/30 * * * * *", "0 0 L * *", "45 2 29 MAR *"]
ZONES = [None, "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]


def slots(schedule: dict[str, Any], start: datetime, count: int) -> list[str]:
    """Return the next slots from `start` on, as times in Berlin."""
    at = start.timestamp() * 1000
    found = []
    for _ in range(count):
        at = next_slot(schedule, at)
        found.append(datetime.fromtimestamp(at / 1000, UTC).astimezone(BERLIN).isoformat(timespec="minutes"))
    return found


@given(after=TIMES, ms=st.integers(1000, 10 * DAY_MS), late=st.integers(0, 10 * DAY_MS))
def test_an_interval_keeps_its_rhythm(after: float, ms: int, late: int) -> None:
    schedule = interval(milliseconds=ms)
    assert next_slot(schedule, after) == after + ms
    slot = next_slot(schedule, after, beyond=after + late)
    assert (slot - after) % ms == 0
    assert max(after, after + late) < slot <= after + late + ms


@given(after=TIMES, spec=st.sampled_from(SPECS), tz=st.sampled_from(ZONES), late=st.integers(0, 10 * DAY_MS))
def test_a_cron_goes_on_and_leaves_nothing_out(after: float, spec: str, tz: str | None, late: int) -> None:
    """The first slot behind a later time is the one that going slot by slot comes to."""
    schedule = cron(spec, tz=tz)
    target = next_slot(schedule, after, beyond=after + late)
    assert target > after + late
    slot = next_slot(schedule, target - 1)
    assert slot == target
    walked, steps = after, 0
    while walked <= after + late and steps < 20:
        following = next_slot(schedule, walked)
        assert following > walked
        walked, steps = following, steps + 1
    assert steps == 20 or walked == target


def test_where_clocks_are_set_forward() -> None:
    """In Berlin, 2026-03-29 has no 02:30; what is due in the gap comes at its end, once."""
    start = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    assert slots(cron("30 2 * * *", tz="Europe/Berlin"), start, 2) == [
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:30+02:00",
    ]
    assert slots(cron("0,30 2 * * *", tz="Europe/Berlin"), start, 2) == [
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:00+02:00",
    ]
    assert slots(cron("30 * * * *", tz="Europe/Berlin"), datetime(2026, 3, 29, 1, tzinfo=BERLIN), 3) == [
        "2026-03-29T01:30+01:00",
        "2026-03-29T03:30+02:00",
        "2026-03-29T04:30+02:00",
    ]


def test_where_clocks_are_set_back() -> None:
    """In Berlin, 2026-10-25 has 02:30 twice; a time of day counts once, every hour counts twice."""
    start = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    assert slots(cron("30 2 * * *", tz="Europe/Berlin"), start, 2) == [
        "2026-10-25T02:30+02:00",
        "2026-10-26T02:30+01:00",
    ]
    assert slots(cron("30 * * * *", tz="Europe/Berlin"), datetime(2026, 10, 25, 1, tzinfo=BERLIN), 4) == [
        "2026-10-25T01:30+02:00",
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:30+01:00",
        "2026-10-25T03:30+01:00",
    ]
    inside = datetime(2026, 10, 25, 0, 40, tzinfo=UTC)  # 02:40 for the first time, when 02:45 comes twice
    assert slots(cron("45 2 * * *", tz="Europe/Berlin"), inside + timedelta(hours=1), 1) == ["2026-10-26T02:45+01:00"]


def test_names_seconds_and_the_last_day() -> None:
    start = datetime(2026, 2, 1, tzinfo=UTC)
    assert slots(cron("0 12 L * *"), start, 1) == ["2026-02-28T13:00+01:00"]
    assert slots(cron("0 12 * MAR MON"), start, 1) == ["2026-03-02T13:00+01:00"]
    assert next_slot(cron("*/10 * * * * *"), 12_345.0) == 20_000


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (interval(milliseconds=999), "Interval must be >= 1000ms"),
        (interval(), "Interval must be >= 1000ms"),
        (interval(milliseconds=float("nan")), "Interval must be >= 1000ms"),
        (interval(days=float("inf")), "Interval must be a finite"),
        (cron("nonsense"), 'Invalid cronspec: "nonsense"'),
        (cron("61 * * * *"), 'Invalid cronspec: "61 * * * *"'),
        (cron("0 0 31 2 *"), 'Invalid cronspec: "0 0 31 2 *"'),
        (cron("0 0 * * *", tz="Europe/Nowhere"), 'Invalid time zone: "Europe/Nowhere"'),
        (cron("0 0 * * *", tz="../etc/passwd"), 'Invalid time zone: "../etc/passwd"'),
    ],
)
def test_what_is_no_schedule(schedule: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        check_schedule(schedule, 0.0)
