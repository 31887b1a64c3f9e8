"""Who behaves like a bot: how often a client was noticed within an hour, and what is done about it.

An hour holds six events without consequence; from the seventh on a client is challenged, from the twelfth on blocked.
Every event counts, whatever became of it, so who goes on while blocked stays blocked; `distinct_minutes` counts the
minutes in which there were events instead. A client is known by its fingerprint and by its address, and the higher of
the two numbers decides. A fingerprint is five headers which everybody with the same browser sends, so it never blocks
whoever has a valid API key.

Used by `functions/ai/analytics` and by `admission`.
"""

from typing import Any, Final, Literal, NamedTuple

from functions.model.addresses import remembered
from functions.model.spans import HOUR_MS, minute_of
from functions.model.texts import USER_AGENT_LENGTH, require_names
from reactor import MutationCtx

CHALLENGED_AFTER: Final = 5  # earlier events within the hour
BLOCKED_AFTER: Final = 10
ENOUGH: Final = 12  # events that are looked at: more do not change what is done
NOBODY: Final = ("", "unknown")  # what proxies and callers send for a client that they can't tell from others

DetectionType = Literal["bot_useragent", "ai_scraper", "suspicious_pattern", "rate_limit"]
Action = Literal["blocked", "challenged", "allowed"]


class Verdict(NamedTuple):
    """What is done about an event, and how many events there were within the hour before it, at most `ENOUGH`.

    `subject` is what was noticed so often: the fingerprint, or the address if that was noticed more often.
    """

    action: Action
    previous_attempts: int
    subject: str


async def record_event(
    ctx: MutationCtx,
    *,
    fingerprint: str,
    ip: str,
    user_agent: str,
    detection_type: DetectionType,
    is_authenticated: bool = False,
    distinct_minutes: bool = False,
) -> Verdict:
    """Decide about a client that was noticed, and store the event.

    Args:
        is_authenticated: the client has a valid API key.
        distinct_minutes: count minutes with events, not events.

    Raises:
        ReactorError: code `INVALID_TEXT`.
    """
    require_names({"fingerprint": fingerprint, "ip": ip})
    ip = remembered(ip) or ""
    count = _minutes_with_events if distinct_minutes else _events
    by_fingerprint = await count(ctx, "by_fingerprint", "fingerprint", fingerprint)
    by_ip = await count(ctx, "by_ip", "ip", ip)
    previous = max(by_fingerprint, by_ip)
    action = _action_after(previous)
    if is_authenticated and action == "blocked" and _action_after(by_ip) != "blocked":
        action = "challenged"
    await ctx.db.insert(
        "botDetectionEvents",
        {
            "timestamp": ctx.now(),
            "fingerprint": fingerprint,
            "ip": ip,
            "userAgent": user_agent[:USER_AGENT_LENGTH],
            "detectionType": detection_type,
            "action": action,
            "metadata": {"previousAttempts": previous},
        },
    )
    return Verdict(action, previous, ip if by_ip > by_fingerprint else fingerprint)


def _action_after(previous: int) -> Action:
    if previous > BLOCKED_AFTER:
        return "blocked"
    return "challenged" if previous > CHALLENGED_AFTER else "allowed"


def _newest(ctx: MutationCtx, index: str, field: str, value: str, before: float | None = None) -> Any:
    """Return the events of one client within the hour, the newest first."""
    since = ctx.now() - HOUR_MS

    def within(q: Any) -> Any:
        from_then_on = q.eq(field, value).gte("timestamp", since)
        return from_then_on if before is None else from_then_on.lt("timestamp", before)

    return ctx.db.query("botDetectionEvents").with_index(index, within).order("desc")


async def _events(ctx: MutationCtx, index: str, field: str, value: str) -> int:
    return 0 if value in NOBODY else len(await _newest(ctx, index, field, value).take(ENOUGH))


async def _minutes_with_events(ctx: MutationCtx, index: str, field: str, value: str) -> int:
    """Count from minute to minute, one event of each: a minute may hold any number of them."""
    minutes, before = 0, None
    while value not in NOBODY and minutes < ENOUGH:
        event = await _newest(ctx, index, field, value, before).first()
        if event is None:
            break
        minutes += 1
        before = minute_of(event["timestamp"])
    return minutes
