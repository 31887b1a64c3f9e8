"""The rate limiter of the application: one for all functions, and how a token of several limits is taken at once."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from functions.model.limits import FAILED_AUTH, IP, LIMITS, SUSPICIOUS, USER, configured
from reactor import MutationCtx, components
from reactor.components.rate_limiter import Config, RateLimiter

limiter: Final = RateLimiter(components.rate_limiter, LIMITS)
limiter_of_clients: Final = RateLimiter(
    components.rate_limiter, {name: LIMITS[name] for name in (USER, IP, SUSPICIOUS, FAILED_AUTH)}
)
"""That of the limits of single clients, for sweeping: no environment variable changes what they allow."""

API_KEY_LIMIT: Final = "apiKey"  # limits whose configs stand in the documents of keys
EMBEDDING_KEY_LIMIT: Final = "embeddingKey"


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
    wanted = [(name, {"key": key, "config": config}) for name, key, config, _ in takes]
    answer = await limiter.limit_all(ctx, wanted)
    if answer.ok:
        return None
    denied = [take for take, status in zip(takes, answer.statuses, strict=True) if not status.ok]
    return Denial([take.name for take in denied], denied[0].reason, answer.retry_after or 0.0)
