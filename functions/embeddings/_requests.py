"""The log of requests for embeddings: how one is stored, and what is counted of it.

Used by `rate_limiting`, `keys` and `stats`.
"""

from typing import Any, Final

from functions._keys import FoundKey
from functions.ai._amounts import stored_amount
from functions.ai._texts import ERROR_LENGTH
from reactor import MutationCtx, ReactorError, v

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
    return await ctx.db.insert("embeddingRequests", document)


async def count_of(ctx: Any, key: FoundKey) -> float:
    """Return how many requests of a key were ever logged."""
    return float(key.document["requestCount"])
