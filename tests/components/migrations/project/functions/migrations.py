"""Migrations of all kinds. Tests put a function in place of `look`."""

from typing import Any

from reactor import action, components, internal_mutation, internal_query, mutation, undefined, v
from reactor.components.migrations import Migrations

migrations = Migrations(components.migrations, default_batch_size=3)


def look(document: dict[str, Any]) -> None:
    """Nothing to see."""


@migrations.define(table="users")
async def count(ctx: Any, document: dict[str, Any]) -> dict[str, Any]:
    look(document)
    return {"times": document.get("times", 0) + 1}


@migrations.define(table="users", batch_size=4)
async def forget_old(ctx: Any, document: dict[str, Any]) -> dict[str, Any] | None:
    return {"old": undefined} if "old" in document else None


@migrations.define(
    table="users", custom_range=lambda users: users.with_index("by_number", lambda q: q.gte("number", 5))
)
def shout(ctx: Any, document: dict[str, Any]) -> dict[str, Any]:
    return {"name": document["name"].upper()}


@migrations.define(table="users", parallelize=True)
async def double(ctx: Any, document: dict[str, Any]) -> None:
    current = await ctx.db.get(document["_id"])
    await ctx.db.patch(document["_id"], {"number": current["number"] * 2})


@migrations.define(table="users")
async def clean(ctx: Any, document: dict[str, Any]) -> None:
    await ctx.db.delete(document["_id"])


@migrations.define(table="secrets")
async def reveal(ctx: Any, document: dict[str, Any]) -> dict[str, Any]:
    return {"text": document["text"] + "!"}


checked_mutation = internal_mutation.extend(context=lambda ctx: {"word": "checked"})
checked = Migrations(components.migrations, internal_mutation=checked_mutation)


@checked.define(table="users")
async def with_context(ctx: Any, document: dict[str, Any]) -> dict[str, Any]:
    return {"name": ctx.word}


run = migrations.runner()
run_count = migrations.runner(count)
run_all = migrations.runner([count, forget_old, "shout"])


@mutation
async def start(ctx: Any, name: str, options: Any = None) -> Any:
    return await migrations.run_one(ctx, name, **(options or {}))


@mutation
async def start_from(ctx: Any, cursor: str | None) -> Any:
    return await migrations.run_one(ctx, count, cursor=cursor)


@mutation
async def serially(ctx: Any, names: list[str], reset: bool = False) -> Any:
    return await migrations.run_serially(ctx, names, reset=reset)


@action
async def to_completion(ctx: Any, name: str, reset: bool = False) -> Any:
    return await migrations.run_to_completion(ctx, name, reset=reset)


@internal_query
async def statuses(ctx: Any, names: list[str] | None = None) -> Any:
    return await migrations.status(ctx, migrations=names)


@mutation
async def cancel(ctx: Any, name: str) -> Any:
    return await migrations.cancel(ctx, name)


@mutation
async def cancel_all(ctx: Any) -> Any:
    return await migrations.cancel_all(ctx)


@mutation(args={"handle": v.string()})
async def start_handle(ctx: Any, handle: str) -> Any:
    args = {"name": "x", "fnHandle": handle, "dryRun": False}
    return await ctx.run_mutation(components.migrations.runs.migrate, args)


@internal_mutation(args={"cursor": v.any(), "oneBatchOnly": v.any(), "dryRun": v.any()})
async def stuck(ctx: Any, /, cursor: Any, **options: Any) -> Any:
    return {"continueCursor": "here", "isDone": False, "processed": 0}
