"""The component's tables: one document for each limit, key and shard that somebody has taken from."""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "rateLimits": define_table(
            {
                "name": v.string(),
                "key": v.optional(v.string()),
                "shard": v.number(),
                "value": v.number(),
                "ts": v.number(),
            }
        ).index("name", ["name", "key", "shard"]),
    }
)
