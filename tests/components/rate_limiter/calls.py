"""How these tests call the component: as an application does, through `RateLimiter`."""

from typing import Any

from reactor import components
from reactor.components.rate_limiter import FixedWindow, RateLimiter, TokenBucket

LIMITER = RateLimiter(components.rate_limiter)
MINUTE = 60_000
KINDS = (TokenBucket, FixedWindow)


async def do(deployment: Any, method: str, *args: Any, limiter: RateLimiter = LIMITER, **options: Any) -> Any:
    """Call a method in a mutation of its own, and return the Python object that it gives."""
    answers = []

    async def call(ctx: Any) -> None:
        answers.append(await getattr(limiter, method)(ctx, *args, **options))

    await deployment.run(call)
    return answers[-1]


async def rows(deployment: Any, table: str = "rateLimits", component: str = "rate_limiter") -> list[Any]:
    """Return the component's documents, without system fields."""
    found: Any = await deployment.component(component).run(lambda ctx: ctx.db.query(table).collect())
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in found]


async def put(deployment: Any, value: float, *, name: str = "a", shard: int = 0, ts: float | None = None) -> None:
    """Have `value` left in a shard, as of now."""
    row = {"name": name, "shard": shard, "value": value, "ts": deployment.clock.now_ms if ts is None else ts}
    await deployment.component("rate_limiter").run(lambda ctx: ctx.db.insert("rateLimits", row))


def config_of_kind(deployment: Any, kind: Any, *args: Any, **options: Any) -> Any:
    """Return a config; a fixed window begins now."""
    return kind(*args, **options, **({} if kind is TokenBucket else {"start": deployment.clock.now_ms}))
