"""Functions that write what is counted."""

from functions._counted import by_game, imported
from reactor import MutationCtx, components, internal, internal_mutation, mutation
from reactor.components.aggregate import DirectAggregate

direct = DirectAggregate(components.aggregate)


@mutation
async def add_in_turn(ctx: MutationCtx, game: str, points: list[float]) -> float:
    """Insert scores, one after the other; return how many the game has then."""
    for number in points:
        await ctx.db.insert("scores", {"game": game, "player": "ann", "points": number, "cost": 1})
    return await by_game.count(ctx, namespace=game)


@mutation
async def put(ctx: MutationCtx, keys: list[float]) -> None:
    """Put items in, one after the other."""
    for key in keys:
        await direct.insert(ctx, key=key, id=f"id {key}", sum_value=key)


@mutation
async def look_and_put(ctx: MutationCtx, stale: bool) -> list[float]:
    """Write, and read what there is, in a transaction that others may overtake."""
    await direct.insert(ctx, key=-1, id="own")
    seen = await direct.count(ctx, stale=stale)
    return [seen, await direct.count(ctx, stale=stale)]


@internal_mutation
async def repair(ctx: MutationCtx, cursor: str | None = None) -> None:
    """Mend the aggregate of what was imported, a part at a time."""
    cursor = await imported.repair(ctx, "imported", cursor=cursor, page_size=7)
    if cursor is not None:
        await ctx.scheduler.run_after(0, internal.scores.repair, cursor=cursor)


@mutation
async def queue(ctx: MutationCtx, points: list[float]) -> None:
    """Insert scores that are counted later."""
    for number in points:
        await ctx.db.insert("queued", {"game": "chess", "player": "ann", "points": number, "cost": 1})
