"""Keys that come to their end: who has them is told seven days and one day before, and later they are switched off.

A key is replaced every 30 days. A server can't hand a new secret to the owner of a key by itself, so the policy is an
end, alerts before it, and `rotate`. From its end on a key is refused; it is made inactive a while later.
"""

from typing import Any, Final

from functions.model import audit
from functions.model.alerts import raise_alert
from functions.model.keys import KEY_TABLES, FoundKey, KeyTable
from functions.model.settings import number
from functions.model.spans import DAY_MS, HOUR_MS
from reactor import MutationCtx, internal, internal_mutation

EARLY_DAYS: Final = 7.0
LATE_DAYS: Final = 1.0
GRACE_HOURS: Final = "KEY_EXPIRY_GRACE_HOURS"  # from the end of a key until it is made inactive
DEFAULT_GRACE_HOURS: Final = 24.0
PAGE: Final = 100


@internal_mutation
async def sweep(ctx: MutationCtx, table: str, cursor: str | None = None) -> None:
    """Look at a page of the keys of `table` that end within a week, and go on with the next one.

    Raises:
        ReactorError: code `INVALID_SETTING`.
    """
    kind = KEY_TABLES[table]
    soon = ctx.now() + EARLY_DAYS * DAY_MS
    ending = ctx.db.query(table).with_index(
        "by_expiry", lambda q: q.eq("active", True).gte("expiresAt", 0.0).lte("expiresAt", soon)
    )
    page = await ending.paginate(num_items=PAGE, cursor=cursor)
    for document in page["page"]:
        await _look_at(ctx, FoundKey(document, False, kind), kind)
    if not page["isDone"]:
        await ctx.scheduler.run_after(0, internal.expiry.sweep, table=table, cursor=page["continueCursor"])


async def _look_at(ctx: MutationCtx, key: FoundKey, kind: KeyTable) -> None:
    ends: float = key.document["expiresAt"]
    details: dict[str, Any] = {"name": key.document["name"], "prefix": key.prefix, "expiresAt": ends}
    grace = number(ctx.env, GRACE_HOURS, DEFAULT_GRACE_HOURS, 0, 8760) * HOUR_MS
    if ctx.now() >= ends + grace:
        await ctx.db.patch(key.id, {"active": False})
        await audit.record(ctx, "system", f"{kind.name}.expire", key.id, details)
        return
    days = LATE_DAYS if ends - ctx.now() <= LATE_DAYS * DAY_MS else EARLY_DAYS
    if key.document.get("alertedDays", days + 1) > days:
        severity: Any = "warning" if days == LATE_DAYS else "info"
        await raise_alert(ctx, "key_expiring", severity, key.id, {**details, "table": kind.name, "days": days})
        await ctx.db.patch(key.id, {"alertedDays": days})
