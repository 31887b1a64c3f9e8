"""Queues, and what their workers did."""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "queue": define_table({"item": v.number()}),
        "timers": define_table({"due": v.number()}).index("by_due", ["due"]),
        "batches": define_table({"time": v.number(), "items": v.array(v.number())}),
    }
)
