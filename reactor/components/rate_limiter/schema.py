"""The component's tables: one document for each limit, key and shard that somebody has taken from; a queue.

The queue is of limits that are applied asynchronously, and is read in the order in which its documents were made.
"""

from reactor import define_schema, define_table, v
from reactor.components.rate_limiter.updates import UPDATE

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
        "pendingUpdates": define_table({"update": UPDATE}),
    }
)
