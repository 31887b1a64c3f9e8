"""The rate limiter of the application: one for all functions, and how a token of several limits is taken at once."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from functions.ai._catalog import LIMITS, configured
from reactor import MutationCtx, ReactorError, components, internal
from reactor.components.rate_limiter import Config, RateLimiter, config_of, wire_of

limiter: Final = RateLimiter(components.rate_limiter, LIMITS)

API_KEY: Final = "apiKey"  # limits whose configs stand in the documents of keys
EMBEDDING_KEY: Final = "embeddingKey"

_DENIED: Final = "TAKES_DENIED"


class Take(NamedTuple):
    """One token of one limit, of the account `key`. `reason` is what a caller is told when there is none."""

    name: str
    key: str | None
    config: Config
    reason: str


class Denial(NamedTuple):
    """Why there was nothing to take: the limits without a token, as they were asked, and the longest of their waits."""

    names: list[str]
    reason: str
    retry_after: float


def takes_of(variables: Mapping[str, str], *wanted: tuple[str, str | None, str]) -> list[Take]:
    """Return one token each of some of the fifteen limits, given as name, key and reason.

    Raises:
        ReactorError: code `INVALID_SETTING`.
    """
    limits = configured(variables)
    return [Take(name, key, limits[name], reason) for name, key, reason in wanted]


async def take_all(ctx: MutationCtx, takes: Sequence[Take]) -> Denial | None:
    """Take all of `takes`, or nothing: then return why."""
    wire = [{"name": name, "key": key, "config": wire_of(config)} for name, key, config, _ in takes]
    try:
        # A part of its own, so that what it took is undone when a later limit denies.
        await ctx.run_mutation(internal.ai.limits.take_all_or_raise, takes=wire)
    except ReactorError as error:
        if not isinstance(error.data, Mapping) or error.data.get("code") != _DENIED:
            raise
        denied = error.data["denied"]
        return Denial([takes[i].name for i in denied], takes[denied[0]].reason, error.data["retryAfter"])
    return None


async def take_each(ctx: MutationCtx, takes: Sequence[dict[str, Any]]) -> None:
    """Take all of `takes`, in the form that `take_all` gives them.

    Raises:
        ReactorError: some limits have no token. All of them have been asked, so that the longest wait is known.
    """
    denied, waits = [], []
    for position, wanted in enumerate(takes):
        status = await limiter.limit(ctx, wanted["name"], wanted["key"], config=config_of(wanted["config"]))
        if not status.ok:
            denied.append(position)
            waits.append(status.retry_after or 0.0)
    if denied:
        raise ReactorError({"code": _DENIED, "denied": denied, "retryAfter": max(waits)})
