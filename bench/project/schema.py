"""The data of the benchmarks: bank accounts, and channels with messages."""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "accounts": define_table({"name": v.string(), "balance": v.number()}).index("by_name", ["name"]),
        "messages": define_table({"channel": v.string(), "body": v.string(), "number": v.number()})
        .index("by_channel", ["channel"])
        .index("by_number", ["number"]),
    }
)
