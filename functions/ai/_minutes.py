"""Totals per provider and minute, as documents: what a dashboard reads instead of the logs.

A document holds whole numbers and a histogram of bounded size. So one more request costs one document read and written,
and a minute that is shown costs one document, however many requests it had. A minute without requests has none.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from functions._histogram import bucket_of, merged, percentile
from functions._spans import Span, minute_of
from functions.ai._amounts import Contribution, contribution_of, summary_of
from reactor import MutationCtx

TABLE: Final = "aiRequestMinutes"
PERCENTILE: Final = 0.95


async def add_to_minute(ctx: MutationCtx, log: Mapping[str, Any], sign: int) -> None:
    """Count a log in the minute of its time (`sign` 1), or take it out again (-1)."""
    provider, minute = log["provider"], minute_of(log["timestamp"])
    stored = await ctx.db.query(TABLE).with_index("by_provider", provider=provider, minute=minute).unique()
    if stored is None:
        await ctx.db.insert(TABLE, {"provider": provider, "minute": minute, **_changed({}, log, sign)})
    elif stored["requests"] + sign == 0:
        await ctx.db.delete(stored["_id"])
    else:
        await ctx.db.patch(stored["_id"], _changed(stored, log, sign))


def _changed(stored: Mapping[str, Any], log: Mapping[str, Any], sign: int) -> dict[str, Any]:
    added = contribution_of(log)
    bucket = bucket_of(log["latencyMs"])
    latencies = dict(stored.get("latencies", {}))
    latencies[bucket] = latencies.get(bucket, 0) + sign
    if latencies[bucket] == 0:
        del latencies[bucket]
    return {
        "requests": stored.get("requests", 0) + sign * added.requests,
        "successes": stored.get("successes", 0) + sign * added.successes,
        "latencyMicros": stored.get("latencyMicros", 0) + sign * added.latency_micros,
        "tokens": stored.get("tokens", 0) + sign * added.tokens,
        "costMicros": stored.get("costMicros", 0) + sign * added.cost_micros,
        "latencies": latencies,
    }


def within(span: Span) -> Any:
    """Return the index range of the minutes that a span touches, behind whatever equality comes first."""
    start = minute_of(span.start)
    return lambda q: q.gte("minute", start) if span.end is None else q.gte("minute", start).lt("minute", span.end)


def summary_of_minutes(minutes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the totals of some minutes together, with the 95th percentile of their latencies."""
    minutes = list(minutes)
    total = Contribution(
        *(
            sum(minute[field] for minute in minutes)
            for field in ("requests", "successes", "latencyMicros", "tokens", "costMicros")
        )
    )
    latencies = merged(minute["latencies"] for minute in minutes)
    return {**summary_of(total), "p95Latency": percentile(latencies, PERCENTILE)}
