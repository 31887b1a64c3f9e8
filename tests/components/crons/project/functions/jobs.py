"""Crons registered by tests, and what they run."""

from typing import Any

from reactor import ReactorError, components, internal, internal_action, internal_mutation, mutation, query
from reactor.components.crons import Crons

crons = Crons(components.crons)


@internal_mutation
async def note(ctx: Any, text: str) -> None:
    await ctx.db.insert("runs", {"text": text, "at": ctx.now()})


@internal_action
async def note_slowly(ctx: Any, text: str) -> None:
    await ctx.run_mutation(internal.jobs.note, text=text)


@internal_mutation
async def note_once(ctx: Any, name: str) -> None:
    await ctx.db.insert("runs", {"text": name, "at": ctx.now()})
    await crons.delete(ctx, name=name)


@internal_mutation
async def fail(ctx: Any) -> None:
    raise ReactorError("no")


@mutation
async def register(
    ctx: Any,
    schedule: Any,
    function: str = "jobs:note",
    args: Any = None,
    name: str | None = None,
    missed: Any = "once",
) -> str:
    return await crons.register(ctx, schedule, function, args or {"text": "x"}, name=name, missed=missed)


@mutation
async def register_and_fail(ctx: Any, schedule: Any) -> None:
    await crons.register(ctx, schedule, note, {"text": "x"})
    raise ReactorError("no")


@mutation
async def delete_and_fail(ctx: Any, name: str) -> None:
    await crons.delete(ctx, name=name)
    raise ReactorError("no")


@mutation
async def delete(ctx: Any, id: str | None = None, name: str | None = None) -> None:
    await crons.delete(ctx, id=id, name=name)


@query
async def known(ctx: Any) -> Any:
    return await crons.list(ctx)


@query
async def get(ctx: Any, id: str | None = None, name: str | None = None) -> Any:
    return await crons.get(ctx, id=id, name=name)


@query
async def runs(ctx: Any) -> Any:
    return await ctx.db.query("runs").collect()
