"""What a dashboard shows: requests, success, latency, tokens and cost per provider and minute, and the latest requests.

Everything but the list of requests is read from the totals per minute, so it costs as much as it has minutes to show,
however many requests there were. A live query of a window is pushed when a request is logged; the window moves on then.
"""

from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from functions.access import CallerQueryCtx, analytics_query
from functions.model.request_minutes import TABLE, summary_of_minutes, within
from functions.model.spans import DAY_MS, MINUTE_MS, Span, span_of, time_range, window
from reactor import ReactorError, pagination_opts_validator, v

MAX_MINUTES: Final = int(DAY_MS / MINUTE_MS)  # of one provider that one call shows
DASHBOARD_WINDOWS: Final = ("5m", "15m", "1h", "6h")

summary = v.object(
    {
        "totalRequests": v.number(),
        "successRate": v.nullable(v.number()),
        "averageLatency": v.nullable(v.number()),
        "p95Latency": v.nullable(v.number()),  # within 5 %
        "totalTokens": v.number(),
        "totalCost": v.number(),
    }
)
minutes_of_provider = v.array(summary.extend({"minute": v.number()}))


@analytics_query(
    args={"provider": v.string(), "timeRange": v.optional(time_range), "window": v.optional(window)},
    returns=minutes_of_provider,
)
async def provider_minutes(
    ctx: CallerQueryCtx, provider: str, time_range: dict[str, float] | None = None, window: str | None = None
) -> list[dict[str, Any]]:
    """Return a provider's totals of each minute that had requests, in order: of at most a day.

    The minute in which the range begins or ends is shown whole.

    Raises:
        ReactorError: code `INVALID_RANGE`, also for more than a day; `INVALID_NUMBER`.
    """
    span = span_of(ctx, time_range, window)
    selected = within(span)
    stored = ctx.db.query(TABLE).with_index("by_provider", lambda q: selected(q.eq("provider", provider)))
    found = await stored.take(MAX_MINUTES + 2)  # the first and the last may be parts of a minute
    if len(found) > MAX_MINUTES + 1:
        message = f"The range has more than {MAX_MINUTES} minutes with requests. Ask for a shorter one."
        raise ReactorError({"code": "INVALID_RANGE", "message": message})
    return [{"minute": minute["minute"], **summary_of_minutes([minute])} for minute in found]


@analytics_query(
    args={"window": v.optional(v.union(*(v.literal(name) for name in DASHBOARD_WINDOWS)))},
    returns=v.object(
        {
            "start": v.number(),
            "total": summary,
            "providers": v.array(summary.extend({"provider": v.string(), "minutes": minutes_of_provider})),
        }
    ),
)
async def dashboard(ctx: CallerQueryCtx, window: str = "1h") -> dict[str, Any]:
    """Return the totals of all providers within a window that ends now: together, of each, and of each minute."""
    start = span_of(ctx, None, window).start
    found = await ctx.db.query(TABLE).with_index("by_minute", within(Span(start, None))).collect()
    by_provider = groupby(sorted(found, key=itemgetter("provider", "minute")), key=itemgetter("provider"))
    providers = [
        {
            "provider": provider,
            **summary_of_minutes(minutes),
            "minutes": [{"minute": minute["minute"], **summary_of_minutes([minute])} for minute in minutes],
        }
        for provider, minutes in ((provider, list(group)) for provider, group in by_provider)
    ]
    return {"start": start, "total": summary_of_minutes(found), "providers": providers}


@analytics_query(
    args={"paginationOpts": pagination_opts_validator, "provider": v.optional(v.string())},
    returns=v.any(),
)
async def recent_requests(
    ctx: CallerQueryCtx, pagination_opts: dict[str, Any], provider: str | None = None
) -> dict[str, Any]:
    """Return a page of the logged requests, the newest first; of one provider if it is given."""
    logs = ctx.db.query("aiRequestLogs")
    if provider is None:
        logs = logs.with_index("by_timestamp")
    else:
        logs = logs.with_index("by_provider", provider=provider)
    return await logs.order("desc").paginate(pagination_opts)
