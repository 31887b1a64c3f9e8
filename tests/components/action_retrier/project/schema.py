"""What attempts did, and what the ends of runs said."""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "attempts": define_table({"name": v.string(), "time": v.number()}),
        "ends": define_table({"runId": v.string(), "result": v.any()}),
    }
)
