"""Keys that are used otherwise than before: far more often, with many failures, or from many new addresses.

Looked for every hour in the hour that has just ended, among the keys that were used in it. What counts as too much is
said by environment variables.
"""

from typing import Any, Final

from functions.model.alerts import raise_alert
from functions.model.embedding_logs import summary_of
from functions.model.keys import EMBEDDING_KEYS
from functions.model.settings import number
from functions.model.spans import HOUR_MS, Span
from reactor import MutationCtx, internal, internal_mutation

HOURS: Final = 24  # before the hour that is looked at: what is usual
PAGE: Final = 50

LEAST_REQUESTS: Final = "KEY_ANOMALY_REQUESTS"
FACTOR: Final = "KEY_ANOMALY_FACTOR"
ERROR_RATE: Final = "KEY_ANOMALY_ERROR_RATE"
ERROR_REQUESTS: Final = "KEY_ANOMALY_ERROR_REQUESTS"
NEW_ADDRESSES: Final = "KEY_ANOMALY_NEW_ADDRESSES"


@internal_mutation
async def sweep(ctx: MutationCtx, hour: float | None = None, cursor: str | None = None) -> None:
    """Look at a page of the keys that were used in the last whole hour, or in `hour`, and go on with the next one.

    Raises:
        ReactorError: code `INVALID_SETTING`.
    """
    begin = ctx.now() // HOUR_MS * HOUR_MS - HOUR_MS if hour is None else hour
    used = ctx.db.query("keyUsage").with_index("by_timestamp", timestamp=begin)
    page = await used.paginate(num_items=PAGE, cursor=cursor)
    for usage in page["page"]:
        found = await _anomalies(ctx, usage)
        if found:
            await raise_alert(ctx, "key_anomaly", "warning", usage["keyId"], {"hour": begin, **found})
    if not page["isDone"]:
        await ctx.scheduler.run_after(0, internal.anomalies.sweep, hour=begin, cursor=page["continueCursor"])


async def _anomalies(ctx: MutationCtx, usage: dict[str, Any]) -> dict[str, Any]:
    """Return what was unusual about a key's use in one hour, by kind."""
    key, hour = usage["keyId"], usage["timestamp"]
    before = ctx.db.query("keyUsage").with_index(
        "by_key", lambda q: q.eq("keyId", key).gte("timestamp", hour - HOURS * HOUR_MS).lt("timestamp", hour)
    )
    usual, addresses = 0.0, set()
    async for earlier in before:
        usual += earlier["requests"] / HOURS
        addresses.update(earlier["addresses"])
    found: dict[str, Any] = {}
    most = max(number(ctx.env, LEAST_REQUESTS, 100, 0, 1e9), number(ctx.env, FACTOR, 5, 0, 1e6) * usual)
    if usage["requests"] > most:
        found["requests"] = {"count": usage["requests"], "usual": usual}
    requests, failures = usage["requests"], usage["refused"]
    if ctx.db.normalize_id(EMBEDDING_KEYS.name, key) is not None:
        summary = await summary_of(ctx, key, Span(hour, hour + HOUR_MS))
        requests, failures = summary.requests, summary.failures
    enough = number(ctx.env, ERROR_REQUESTS, 20, 1, 1e9)
    if requests >= enough and failures / requests > number(ctx.env, ERROR_RATE, 0.5, 0, 1):
        found["errors"] = {"count": failures, "requests": requests}
    new = len(set(usage["addresses"]) - addresses)
    if new > number(ctx.env, NEW_ADDRESSES, 10, 0, 1e9):
        found["newAddresses"] = {"count": new}
    return found
