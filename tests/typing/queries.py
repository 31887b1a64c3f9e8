"""What type checkers make of `ctx.db.query`. A line that must not check ends in `# expect: <mypy code>`."""

from typing import Any, assert_type

from reactor.runtime.context import MutationCtx, QueryCtx
from reactor.runtime.decorators import query
from reactor.runtime.queries import Query


@query
async def correct(ctx: QueryCtx) -> None:
    messages = ctx.db.query("messages").with_index("by_channel", lambda q: q.eq("channel", "a").gt("likes", 1))
    liked = messages.filter(lambda q: (q.field("likes") > 3) & ~(q.field("author.name") == "bot") | False)
    assert_type(liked.where(lambda doc: doc["body"].startswith("a")), Query)
    assert_type(await ctx.db.query("messages").order("desc").take(3), list[dict[str, Any]])
    assert_type(await ctx.db.query("messages").first(), dict[str, Any] | None)
    assert_type(await ctx.db.query("messages").filter(lambda q: q.and_(True, q.eq(1, 1))).count(), int)
    assert_type(await ctx.db.query("messages").paginate({"numItems": 1, "cursor": None}), dict[str, Any])
    assert_type(await ctx.db.query("messages").paginate(num_items=1), dict[str, Any])
    assert_type(await ctx.db.system.query("_storage").unique(), dict[str, Any] | None)
    assert_type([document async for document in ctx.db.query("messages")], list[dict[str, Any]])


async def mistaken(ctx: MutationCtx) -> None:
    ctx.db.query("messages").order("up")  # expect: arg-type
    ctx.db.query("messages").with_index("by_channel", lambda q: q.like("a", "b"))  # expect: attr-defined
    ctx.db.query("messages").filter(lambda q: "likes")  # expect: arg-type,return-value
    ctx.db.query("messages").paginate()  # expect: call-overload
    ctx.db.query("messages").paginate({"numItems": 1}, num_items=1)  # expect: call-overload
    await ctx.db.query("messages").take("3")  # expect: arg-type
    ctx.db.system.insert("_storage", {})  # expect: attr-defined
