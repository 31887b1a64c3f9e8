"""The log of requests for embeddings, and the totals that are kept of it.

Owns what a log holds, and that totals follow every write of one, whoever makes it: `keep_totals` is a trigger of the
table. Promises that the totals of a key, and of all, over any span equal the sum over the log exactly, but for what the
seed's application wrote and no migration has counted yet; a percentile of latency is known to within the error of its
histogram. Used by `functions/embeddings/` and `functions/anomalies`.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from functions.model.amounts import amount_of, stored_amount, units_of
from functions.model.histogram import bucket_of, percentile
from functions.model.keys import FoundKey
from functions.model.spans import Span
from functions.model.texts import ERROR_LENGTH
from reactor import Change, MutationCtx, QueryCtx, ReactorError, components, v
from reactor.components.aggregate import TableAggregate, Totals
from reactor.components.sharded_counter import ShardedCounter

TABLE: Final = "embeddingRequests"
ALL: Final = ""  # the namespace of the totals over all keys
UNKNOWN: Final = "unknown"  # and that of the keys that were not known
BUCKET: Final = "latency "  # begins the names of the sums that are a histogram
MAX_BATCH: Final = 1_000_000

REQUEST_FIELDS: Final = {
    "requestId": v.string(),
    "apiKeyHash": v.string(),
    "batchSize": v.number(),
    "latencyMs": v.number(),
    "tokensUsed": v.number(),
    "success": v.boolean(),
    "error": v.optional(v.string()),
    "model": v.optional(v.string()),
}


def _sums(request: Mapping[str, Any]) -> dict[str, float]:
    return {
        "failures": float(not request["success"]),
        "latency": float(units_of("latencyMs", request["latencyMs"])),
        "tokens": float(units_of("tokensUsed", request["tokensUsed"])),
        BUCKET + bucket_of(request["latencyMs"]): 1.0,
    }


_totals: Final = [
    TableAggregate(
        components.embedding_totals,
        namespace=namespace,
        sort_key=lambda request: request["timestamp"],
        sum_value=_sums,
    )
    for namespace in (lambda request: request.get("keyId", UNKNOWN), lambda request: ALL)
]

_count_changes: Final = [totals.trigger() for totals in _totals]
_counts: Final = ShardedCounter(components.embedding_counts)  # by the id of a key


async def find_request(ctx: Any, request_id: str) -> dict[str, Any] | None:
    """Return the request that was logged under this id."""
    found: dict[str, Any] | None = (
        await ctx.db.query("embeddingRequests").with_index("by_request_id", requestId=request_id).unique()
    )
    return found


async def find_admission(ctx: Any, key: FoundKey, request_id: str) -> dict[str, Any] | None:
    """Return what was noted when a request of this key was let in, until it is logged."""
    found: dict[str, Any] | None = (
        await ctx.db.query("embeddingAdmissions").with_index("by_key", keyId=key.id, requestId=request_id).unique()
    )
    return found


async def insert_request(ctx: MutationCtx, key: FoundKey | None, request: dict[str, Any], error: str | None) -> str:
    """Log a request of `key`, or of one that is not known; return the id of the log.

    Raises:
        ReactorError: code `INVALID_NUMBER`.
    """
    batch = request["batchSize"]
    if not 0 <= batch <= MAX_BATCH or batch != int(batch):
        message = f"batchSize is {batch:g}; it is a whole number from 0 to {MAX_BATCH}"
        raise ReactorError({"code": "INVALID_NUMBER", "argument": "batchSize", "message": message})
    document = {
        **request,
        "timestamp": ctx.now(),
        "latencyMs": stored_amount("latencyMs", request["latencyMs"]),
        "tokensUsed": stored_amount("tokensUsed", request["tokensUsed"]),
    }
    if error is not None:
        document["error"] = error[:ERROR_LENGTH]
    if key is None:
        document["unknownKey"] = True
    else:
        document["keyId"] = key.id
    if key is not None:
        await _counts.inc(ctx, key.id)
    return await ctx.db.insert(TABLE, document)


async def is_counted(ctx: QueryCtx, request: Mapping[str, Any]) -> bool:
    """Tell whether the totals know a log: those that were written before there were totals have to be counted."""
    _, overall = _totals
    return bool(await overall.counted(ctx, [request]))


async def count_request(ctx: MutationCtx, request: Mapping[str, Any]) -> None:
    """Count a log that the totals don't know."""
    for totals in _totals:
        await totals.insert(ctx, request)


async def keep_totals(ctx: MutationCtx, change: Change) -> None:
    """Let the totals follow one write of a log. A trigger: see `schema.py`."""
    if change.old is not None and not await is_counted(ctx, change.old):
        return
    for count_change in _count_changes:
        await count_change(ctx, change)


class Summary(NamedTuple):
    """Totals over a span. Means and rates over no requests are None, never NaN."""

    requests: int
    failures: int
    tokens: float
    mean_latency: float | None
    p95_latency: float | None

    @property
    def error_rate(self) -> float | None:
        """Which part of the requests failed."""
        return self.failures / self.requests if self.requests else None


async def summary_of(ctx: QueryCtx, key_id: str | None, span: Span) -> Summary:
    """Return the totals of one key's requests within a span, or of all keys', in logarithmic time."""
    namespace = ALL if key_id is None else key_id
    found: Totals = await _totals[0].totals(ctx, namespace=namespace, bounds=span.bounds)
    histogram = {name.removeprefix(BUCKET): int(count) for name, count in found.sums.items() if name.startswith(BUCKET)}
    return Summary(
        requests=found.count,
        failures=int(found["failures"]),
        tokens=amount_of("tokensUsed", found["tokens"]),
        mean_latency=amount_of("latencyMs", found["latency"]) / found.count if found.count else None,
        p95_latency=percentile(histogram, 0.95),
    )


async def count_of(ctx: QueryCtx, key: FoundKey) -> float:
    """Return how many requests of a key were logged, those that the retention has deleted included."""
    return float(key.document["requestCount"]) + await _counts.count(ctx, key.id)
