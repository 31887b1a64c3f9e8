"""The table of the component: the shards of all counters."""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "counters": define_table({"name": v.string(), "value": v.float64(), "shard": v.integer()}).index(
            "name", ["name", "shard"]
        )
    }
)
