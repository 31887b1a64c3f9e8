"""The logs of requests to AI providers, and the totals that are kept of them.

Owns what a log holds, and that totals follow every write of one, whoever makes it: `keep_totals` is a trigger of the
table. Only `insert_logs` and `delete_logs` go past it, to count many at once. Promises that totals over any span equal
the sum over its logs exactly, but for those that the seed's application wrote: until a migration has counted them, they
are changed and deleted without the totals.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from functions.model import request_minutes
from functions.model.amounts import Contribution, contribution_of, require_finite, stored_amount
from functions.model.spans import Span
from functions.model.texts import ERROR_LENGTH, require_names
from reactor import Change, MutationCtx, QueryCtx, components, v
from reactor.components.aggregate import TableAggregate

TABLE: Final = "aiRequestLogs"

REQUEST_FIELDS: Final = {
    "provider": v.string(),
    "model": v.string(),
    "userId": v.optional(v.string()),
    "fingerprint": v.string(),
    "ip": v.string(),
    "success": v.boolean(),
    "error": v.optional(v.string()),
    "tokensUsed": v.optional(v.number()),
    "latencyMs": v.number(),
    "cost": v.optional(v.number()),
    "requestId": v.optional(v.string()),
}
"""What callers say of a request."""

NAMES: Final = ("provider", "model", "userId", "fingerprint", "ip", "requestId")
NUMBERS: Final = ("latencyMs", "tokensUsed", "cost")


def _sums(log: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(number) for name, number in contribution_of(log)._asdict().items() if name != "requests"}


totals: Final = TableAggregate(
    components.request_totals,
    namespace=lambda log: log["provider"],
    sort_key=lambda log: log["timestamp"],
    sum_value=_sums,
)
"""One tree of logs for each provider, in the order of their times."""

_count_change: Final = totals.trigger()


async def keep_totals(ctx: MutationCtx, change: Change) -> None:
    """Let the totals follow one write of a log. A trigger: see `schema.py`."""
    if change.old is not None and not await is_counted(ctx, change.old):
        return
    await _count_change(ctx, change)
    added, removed = ([] if log is None else [log] for log in (change.new, change.old))
    await request_minutes.count(ctx, added=added, removed=removed)


async def insert_logs(ctx: MutationCtx, requests: Sequence[Mapping[str, Any]]) -> int:
    """Log requests, each at its `timestamp`; return how many. One whose `requestId` was logged before is left out.

    Raises:
        ReactorError: code `INVALID_NUMBER` or `INVALID_TEXT`.
    """
    logs = []
    for request in requests:
        log = checked(request)
        if "requestId" in log and await find_log(ctx, log["requestId"]) is not None:
            continue
        log["_id"] = await ctx.db.without_triggers.insert(TABLE, log)  # what they would do is done below for all
        logs.append(log)
    await totals.insert_many(ctx, logs)
    await request_minutes.count(ctx, added=logs)
    return len(logs)


async def delete_logs(ctx: MutationCtx, logs: Sequence[Mapping[str, Any]]) -> None:
    """Delete logs."""
    for log in logs:
        await ctx.db.without_triggers.delete(log["_id"])
    known = await totals.counted(ctx, logs)
    await totals.delete_many(ctx, known)
    await request_minutes.count(ctx, removed=known)


async def is_counted(ctx: QueryCtx, log: Mapping[str, Any]) -> bool:
    """Tell whether the totals know a log: those that were written before there were totals have to be counted."""
    return bool(await totals.counted(ctx, [log]))


async def count_log(ctx: MutationCtx, log: Mapping[str, Any]) -> None:
    """Count a log that the totals don't know."""
    await totals.insert(ctx, log)
    await request_minutes.count(ctx, added=[log])


async def find_log(ctx: QueryCtx, request_id: str) -> dict[str, Any] | None:
    """Return the log of a request that was logged with a `requestId`."""
    log: dict[str, Any] | None = await ctx.db.query(TABLE).with_index("by_request_id", requestId=request_id).unique()
    return log


def checked(log: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stored of some fields of a log: amounts in whole units, texts of bounded length.

    Raises:
        ReactorError: code `INVALID_NUMBER` or `INVALID_TEXT`.
    """
    require_names({name: log[name] for name in NAMES if name in log})
    stored = dict(log)
    if "timestamp" in log:
        require_finite("timestamp", log["timestamp"])
    for name in NUMBERS:
        if name in log:
            stored[name] = stored_amount(name, log[name])
    if "error" in log:
        stored["error"] = log["error"][:ERROR_LENGTH]
    return stored


async def total_of(ctx: QueryCtx, provider: str, span: Span) -> Contribution:
    """Return the totals of a provider's requests within a span."""
    found = await totals.totals(ctx, namespace=provider, bounds=span.bounds)
    sums = {name: int(number) for name, number in found.sums.items()}
    return Contribution(
        requests=int(found.count), **{n: sums.get(n, 0) for n in Contribution._fields if n != "requests"}
    )
