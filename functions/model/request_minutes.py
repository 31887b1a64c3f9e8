"""Totals per provider and minute, as documents: what a dashboard reads instead of the logs.

A document holds whole numbers and a histogram of bounded size. So one more request costs one document read and written,
and a minute that is shown costs one document, however many requests it had. A minute without requests has none.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from functions.model.amounts import Contribution, contribution_of, summary_of
from functions.model.histogram import bucket_of, merged, percentile
from functions.model.spans import Span, minute_of
from reactor import MutationCtx

TABLE: Final = "aiRequestMinutes"
PERCENTILE: Final = 0.95
NUMBERS: Final = ("requests", "successes", "latencyMicros", "tokens", "costMicros")  # as in a Contribution


async def count(
    ctx: MutationCtx, *, added: Iterable[Mapping[str, Any]] = (), removed: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Count logs in the minutes of their times, and take others out: one read and one write for each minute."""
    changes: dict[tuple[str, float], _Change] = {}
    for logs, sign in ((added, 1), (removed, -1)):
        for log in logs:
            changes.setdefault((log["provider"], minute_of(log["timestamp"])), _Change()).note(log, sign)
    for (provider, minute), change in changes.items():
        if change.is_nothing:
            continue
        stored = await ctx.db.query(TABLE).with_index("by_provider", provider=provider, minute=minute).unique()
        fields = change.applied_to(stored or {})
        if stored is None:
            await ctx.db.insert(TABLE, {"provider": provider, "minute": minute, **fields})
        elif fields["requests"]:
            await ctx.db.patch(stored["_id"], fields)
        else:
            await ctx.db.delete(stored["_id"])


class _Change:
    """What becomes different of one minute."""

    def __init__(self) -> None:
        self._numbers = dict.fromkeys(NUMBERS, 0)
        self._latencies: dict[str, int] = {}

    def note(self, log: Mapping[str, Any], sign: int) -> None:
        """Add a log (`sign` 1) or take it out (-1)."""
        for name, number in zip(NUMBERS, contribution_of(log), strict=True):
            self._numbers[name] += sign * number
        bucket = bucket_of(log["latencyMs"])
        self._latencies[bucket] = self._latencies.get(bucket, 0) + sign

    @property
    def is_nothing(self) -> bool:
        """Whether what was added was taken out again, as where a log changed in what does not count."""
        return not any(self._numbers.values()) and not any(self._latencies.values())

    def applied_to(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a minute afterwards."""
        latencies = merged([stored.get("latencies", {}), self._latencies])
        return {
            **{name: stored.get(name, 0) + number for name, number in self._numbers.items()},
            "latencies": {bucket: count for bucket, count in latencies.items() if count},
        }


def within(span: Span) -> Any:
    """Return the index range of the minutes that a span touches, behind whatever equality comes first."""
    start = minute_of(span.start)
    return lambda q: q.gte("minute", start) if span.end is None else q.gte("minute", start).lt("minute", span.end)


def summary_of_minutes(minutes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the totals of some minutes together, with the 95th percentile of their latencies."""
    minutes = list(minutes)
    total = Contribution(*(sum(minute[name] for minute in minutes) for name in NUMBERS))
    latencies = merged(minute["latencies"] for minute in minutes)
    return {**summary_of(total), "p95Latency": percentile(latencies, PERCENTILE)}
