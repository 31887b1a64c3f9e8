"""How long logs are kept: what is older is deleted, a page at a time, since it tells who asked what from where.

Crons begin a sweep each day. A sweep that finds a full page goes on in another transaction, so no one of them is long;
one that was interrupted is taken up by the next, for what is left to do is what is still there. Totals forget a request
with its log.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from functions.model.limiter import limiter_of_clients
from functions.model.request_logs import delete_logs
from functions.model.settings import number
from functions.model.spans import DAY_MS, HOUR_MS
from reactor import MutationCtx, internal, internal_mutation

LOG_DAYS: Final = "AI_LOG_RETENTION_DAYS"
EVENT_DAYS: Final = "AI_EVENT_RETENTION_DAYS"
AUDIT_DAYS: Final = "AI_AUDIT_RETENTION_DAYS"
PAGE: Final = "AI_RETENTION_PAGE"
DEFAULT_PAGE: Final = 200  # documents in one transaction
MIN_PAGE: Final = 100
MAX_PAGE: Final = 500
MAX_DAYS: Final = 36_500.0


Documents = Sequence[Mapping[str, Any]]


async def delete_each(ctx: MutationCtx, documents: Documents) -> None:
    """Delete documents one by one, each followed by the triggers of its table."""
    for document in documents:
        await ctx.db.delete(document["_id"])


class Policy(NamedTuple):
    """For how many days documents of a table are kept, unless a variable of the deployment says otherwise."""

    variable: str
    days: float
    delete: Callable[[MutationCtx, Documents], Awaitable[None]] = delete_each


POLICIES: Final[Mapping[str, Policy]] = {
    "aiRequestLogs": Policy(LOG_DAYS, 30.0, delete_logs),
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
        ReactorError: code `INVALID_SETTING`; a variable of the deployment is no such number.
    """
    policy = POLICIES[table]
    oldest = ctx.now() - number(ctx.env, policy.variable, policy.days, 0, MAX_DAYS) * DAY_MS
    page = int(number(ctx.env, PAGE, DEFAULT_PAGE, MIN_PAGE, MAX_PAGE, whole=True))
    old = ctx.db.query(table).with_index("by_timestamp", lambda q: q.lt("timestamp", oldest))
    documents = await old.take(page)
    await policy.delete(ctx, documents)
    if len(documents) == page:
        await ctx.scheduler.run_after(0, internal.retention.sweep, table=table)
    return len(documents)


@internal_mutation
async def sweep_limits(ctx: MutationCtx) -> None:
    """Forget who has all tokens back: of addresses and fingerprints anybody brings new ones."""
    await limiter_of_clients.sweep(ctx, older_than=HOUR_MS, forget_phases=True)
