"""What requests for embeddings come to: of one key, or of all, over any span of time."""

from collections.abc import Mapping
from typing import Any

from functions.access import CallerQueryCtx, embeddings_query
from functions.model.embedding_logs import summary_of
from functions.model.spans import span_of, time_range, window
from reactor import v


@embeddings_query(
    args={
        "keyId": v.optional(v.id("embeddingApiKeys")),
        "timeRange": v.optional(time_range),
        "window": v.optional(window),
    },
    returns=v.object(
        {
            "totalRequests": v.number(),
            "totalTokens": v.number(),
            "averageLatency": v.nullable(v.number()),
            "p95Latency": v.nullable(v.number()),  # within 5 %
            "errorRate": v.nullable(v.number()),
        }
    ),
)
async def get_stats(
    ctx: CallerQueryCtx,
    key_id: str | None = None,
    time_range: Mapping[str, Any] | None = None,
    window: str | None = None,
) -> dict[str, Any]:
    """Sum up the requests of a key, or of all keys, with start <= timestamp < end, in logarithmic time.

    `window`, such as `"1h"`, stands for an open range that begins so long ago, on a whole minute.

    Raises:
        ReactorError: code `INVALID_RANGE`: both or none of timeRange and window are given; `INVALID_NUMBER`: an end of
            the range is not finite.
    """
    summary = await summary_of(ctx, key_id, span_of(ctx, time_range, window))
    return {
        "totalRequests": summary.requests,
        "totalTokens": summary.tokens,
        "averageLatency": summary.mean_latency,
        "p95Latency": summary.p95_latency,
        "errorRate": summary.error_rate,
    }
