"""The tables of this project."""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "messages": define_table(
            {
                "channel": v.string(),
                "author": v.string(),
                "body": v.string(),
            }
        ).index("by_channel", ["channel"]),
    }
)
