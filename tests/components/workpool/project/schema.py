"""What jobs did, and what their ends said."""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "effects": define_table({"name": v.string(), "time": v.number()}),
        "ends": define_table({"workId": v.string(), "result": v.any(), "context": v.optional(v.any())}),
    }
)
