"""A table of each shape that generated types tell apart."""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "channels": define_table({"name": v.string(), "topic": v.optional(v.string())}).index("by_name", ["name"]),
        "messages": define_table(
            {
                "channel": v.id("channels"),
                "author": v.object({"name": v.string(), "age": v.optional(v.integer())}),
                "body": v.string(),
                "likes": v.int64(),
                "embedding": v.array(v.float64()),
                "kind": v.union(v.literal("text"), v.literal("image")),
                "from": v.null(),
            }
        )
        .index("by_channel", ["channel", "author.name"])
        .search_index("search_body", search_field="body", filter_fields=["channel"])
        .vector_index("by_embedding", vector_field="embedding", dimensions=4),
        "shapes": define_table(
            v.union(
                v.object({"kind": v.literal("circle"), "radius": v.number()}),
                v.object({"kind": v.literal("square"), "side": v.number()}),
            )
        ),
        "things": define_table(v.any()),
    }
)
