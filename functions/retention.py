"""How long logs are kept: what is older is deleted, a page at a time, since it tells who asked what from where.

Crons begin a sweep each day. A sweep that finds a full page goes on in another transaction, so no one of them is long;
one that was interrupted is taken up by the next, for what is left to do is what is still there. Totals are kept by the
triggers of the schema: they forget a request with its log.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from functions._spans import DAY_MS
from reactor import MutationCtx, ReactorError, internal, internal_mutation

LOG_DAYS: Final = "AI_LOG_RETENTION_DAYS"
EVENT_DAYS: Final = "AI_EVENT_RETENTION_DAYS"
AUDIT_DAYS: Final = "AI_AUDIT_RETENTION_DAYS"
PAGE: Final = "AI_RETENTION_PAGE"
DEFAULT_PAGE: Final = 200  # documents in one transaction
MIN_PAGE: Final = 100
MAX_PAGE: Final = 500


class Policy(NamedTuple):
    """For how many days documents of a table are kept, unless a variable of the deployment says otherwise."""

    variable: str
    days: float


POLICIES: Final[Mapping[str, Policy]] = {
    "aiRequestLogs": Policy(LOG_DAYS, 30.0),
    "botDetectionEvents": Policy(EVENT_DAYS, 90.0),
    "embeddingRequests": Policy(LOG_DAYS, 30.0),
    "embeddingAdmissions": Policy(LOG_DAYS, 30.0),
    "embeddingAuthFailures": Policy(EVENT_DAYS, 90.0),
    "keyUsage": Policy(EVENT_DAYS, 90.0),
    "alerts": Policy(EVENT_DAYS, 90.0),
    "auditLog": Policy(AUDIT_DAYS, 365.0),
}
"""The tables that are swept. Each has an index `by_timestamp`."""


@internal_mutation
async def sweep(ctx: MutationCtx, table: str) -> int:
    """Delete the oldest page of what a table has kept for too long, and go on if there was a whole one.

    Returns:
        How many documents were deleted.

    Raises:
        ReactorError: code `INVALID_VARIABLE`; a variable of the deployment is no such number.
    """
    policy = POLICIES[table]
    oldest = ctx.now() - _number(ctx, policy.variable, policy.days, low=0.0) * DAY_MS
    page = int(_number(ctx, PAGE, DEFAULT_PAGE, low=MIN_PAGE, high=MAX_PAGE))
    old = ctx.db.query(table).with_index("by_timestamp", lambda q: q.lt("timestamp", oldest))
    documents = await old.take(page)
    for document in documents:
        await ctx.db.delete(document["_id"])
    if len(documents) == page:
        await ctx.scheduler.run_after(0, internal.retention.sweep, table=table)
    return len(documents)


def _number(ctx: MutationCtx, variable: str, default: float, low: float, high: float = 36_500.0) -> float:
    text = ctx.env.get(variable)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        message = f"{variable}={text} must be a number from {low:g} to {high:g}"
        raise ReactorError({"code": "INVALID_VARIABLE", "variable": variable, "message": message})
    return number
