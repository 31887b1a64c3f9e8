"""One document for each migration that was ever started: how far it is.

`cursor` is where the next batch begins, null at the start of the table. `workerId` is the scheduled function that runs
the next batch; what became of it is in `_scheduled_functions`. `error` is why the last batch failed.
"""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "migrations": define_table(
            {
                "name": v.string(),
                "cursor": v.nullable(v.string()),
                "isDone": v.boolean(),
                "workerId": v.optional(v.string()),
                "error": v.optional(v.string()),
                "processed": v.integer(),
                "latestStart": v.number(),
                "latestEnd": v.optional(v.number()),
            }
        )
        .index("by_name", ["name"])
        .index("by_is_done", ["isDone"])
    }
)
