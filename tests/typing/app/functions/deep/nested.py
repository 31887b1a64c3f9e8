"""A namespace in a folder."""

from _generated import QueryCtx

from reactor import query, v


@query(name="getURL", args={}, returns=v.object({"in": v.bytes(), "maybe": v.optional(v.nullable(v.boolean()))}))
async def get_url(ctx: QueryCtx) -> dict[str, object]:
    return {"in": b""}
