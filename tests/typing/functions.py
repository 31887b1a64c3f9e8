"""What type checkers make of decorated functions. A line that must not check ends in `# expect: <mypy code>`."""

import asyncio
from typing import Any, assert_type

from reactor.runtime.actions.context import ActionCtx
from reactor.runtime.context import MutationCtx, QueryCtx
from reactor.runtime.decorators import action, mutation, query
from reactor.runtime.references import api
from reactor.schema.validators import v


@query
async def greet(ctx: Any, name: str, times: int = 1) -> str:
    return name * times


@mutation(args={"body": v.string()})
def send(ctx: Any, body: str) -> int:
    return len(body)


@query(args=v.any())
def collect(ctx: Any, /, **args: float) -> float:
    return sum(args.values())


async def correct(ctx: Any) -> None:
    assert_type(await greet(ctx, "a", times=2), str)
    assert_type(send(ctx, body="b"), int)
    assert_type(collect(ctx, ctx=1.0), float)


async def calls(query_ctx: QueryCtx, ctx: MutationCtx) -> None:
    assert_type(await query_ctx.run_query(greet, name="a", times=2), str)
    assert_type(await query_ctx.run_query(greet, {"name": "a"}), str)
    assert_type(await ctx.run_mutation(send, body="b"), int)
    assert_type(await ctx.run_query(collect, a=1.0), float)
    assert_type(await ctx.run_query(api.messages.send, a=1.0), Any)
    assert_type(await ctx.run_mutation("messages:send", {"a": 1.0}), Any)
    query_ctx.run_mutation(send, body="b")  # expect: attr-defined
    query_ctx.run_query(greet, nam="a")  # expect: call-overload


@action
async def act(ctx: ActionCtx, count: int) -> list[str]:
    assert_type(await ctx.run_query(greet, name="a", times=2), str)
    assert_type(await ctx.run_mutation(send, {"body": "b"}), int)
    assert_type(await ctx.run_mutation(send, body="b"), int)
    assert_type(await ctx.run_action(act, count=1), list[str])
    assert_type(await asyncio.gather(ctx.run_query(greet, name="a"), ctx.run_mutation(send, body="b")), tuple[str, int])
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(ctx.run_action(act, count=1)), asyncio.Task[list[str]])
    ctx.db.get("id")  # expect: attr-defined
    return []


async def mistaken(ctx: Any) -> None:
    await greet(ctx, 3)  # expect: arg-type
    await greet(ctx, "a", time=2)  # expect: call-arg
    send(ctx)  # expect: call-arg
    assert_type(send(ctx, "b"), str)  # expect: assert-type
    collect(ctx, a="text")  # expect: arg-type


@query  # expect: arg-type
def without_context() -> None: ...


query(args={}, nam="x")  # expect: call-overload
