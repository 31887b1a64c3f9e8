"""An action that is worth keeping. Tests put a coroutine function in place of `work`."""

from typing import Any

from reactor import ReactorError, action, components, internal, internal_action, internal_mutation, mutation, query
from reactor.components.action_cache import ActionCache, remove_all

MINUTE = 60_000.0
cache = ActionCache(components.action_cache, action=internal.ai.embed, ttl=MINUTE, log=True)
for_ever = ActionCache(components.action_cache, action=internal.ai.embed, name="v1")
one_at_a_time = ActionCache(components.action_cache, action=internal.ai.embed, name="single", single_flight=MINUTE)


async def work(text: str) -> None:
    """Nothing to wait for."""


@internal_mutation
async def note(ctx: Any, text: str) -> Any:
    await ctx.db.insert("runs", {"text": text})
    return await ctx.db.query("runs").count()


@internal_action
async def embed(ctx: Any, text: str, n: float | None = None) -> dict[str, Any]:
    run = await ctx.run_mutation(internal.ai.note, text=text)
    await work(text)
    if text == "bad":
        raise ReactorError("no")
    return {"text": text, "run": run}


@action
async def fetch(ctx: Any, args: Any, options: Any = None) -> Any:
    return (await cache.fetch(ctx, args, **(options or {})))["run"]


@action
async def fetch_for_ever(ctx: Any, args: Any, options: Any = None) -> Any:
    return (await for_ever.fetch(ctx, args, **(options or {})))["run"]


@action
async def fetch_single(ctx: Any, args: Any, options: Any = None) -> Any:
    return (await one_at_a_time.fetch(ctx, args, **(options or {})))["run"]


@mutation
async def remove(ctx: Any, args: Any) -> None:
    await cache.remove(ctx, args)


@mutation
async def remove_name(ctx: Any, batch_size: int) -> None:
    await for_ever.remove_all_for_name(ctx, batch_size=batch_size)


@action
async def remove_everything(ctx: Any, before: Any = None) -> None:
    await remove_all(ctx, components.action_cache, before=before, batch_size=3)


@query
async def runs(ctx: Any) -> Any:
    return await ctx.db.query("runs").count()
