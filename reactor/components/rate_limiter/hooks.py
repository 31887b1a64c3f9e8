"""The functions that a browser asks: `getRateLimit` and `getServerTime`, made by `RateLimiter.hook_api`.

An application exports them, and the hook `useRateLimit` of the npm package calls them. What a browser sends is not
trusted: it can name only the limits that it may see, and never bring a config of its own.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple, Protocol

from reactor import MutationCtx, QueryCtx, mutation, query, v
from reactor.components.rate_limiter.configs import Config
from reactor.components.rate_limiter.readings import READING, Reading, wire_reading

Key = str | Callable[[Any, str | None], str | Awaitable[str | None] | None]


class HookApi(NamedTuple):
    """Two functions to export: `get_rate_limit, get_server_time = limiter.hook_api(...)`."""

    get_rate_limit: Any
    get_server_time: Any


class Readable(Protocol):
    """What readings come from."""

    async def get_value(
        self, ctx: Any, name: str, key: str | None = None, *, sample_shards: int = 1, config: Config | None = None
    ) -> Reading:
        """Return what was left after the last change."""


def make_hook_api(
    limiter: Readable, name: str, key: Key | None, names: Collection[str], sample_shards: int, config: Config | None
) -> HookApi:
    """Return the functions for the limit `name`, and for others in `names` if a client asks for them."""
    shown = {name, *names}

    @query(
        args={
            "name": v.optional(v.string()),
            "key": v.optional(v.string()),
            "sampleShards": v.optional(v.number()),
            "config": v.optional(v.any()),  # the hook of the npm package may send one; it is not looked at
        },
        returns=READING,
    )
    async def get_rate_limit(ctx: QueryCtx, /, **asked: Any) -> dict[str, Any]:
        wanted = asked.get("name", name)
        if wanted not in shown:
            raise ValueError(f"Rate limit {wanted} is not shown to clients: name it in hook_api(names=)")
        owner = await _key_for(ctx, key, asked.get("key"))
        sample = int(asked.get("sampleShards", sample_shards))
        given = config if wanted == name else None
        return wire_reading(await limiter.get_value(ctx, wanted, owner, sample_shards=sample, config=given))

    @mutation(args={}, returns=v.number())
    async def get_server_time(ctx: MutationCtx) -> float:
        return ctx.now()

    return HookApi(get_rate_limit, get_server_time)


async def _key_for(ctx: QueryCtx, key: Key | None, given: str | None) -> str | None:
    if key is None:
        if given is not None:
            raise ValueError(
                "To allow client-provided key, provide a key function: hook_api(name, key=lambda ctx, key: ...), which "
                "says what this caller may see"
            )
        return None
    if isinstance(key, str):
        return key
    owner = key(ctx, given)
    return owner if owner is None or isinstance(owner, str) else await owner
