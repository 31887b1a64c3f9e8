"""Users whose names are split, step by step."""

from reactor import define_rules, define_schema, define_table, v

schema = define_schema(
    {
        "users": define_table(
            {"name": v.string(), "number": v.number(), "times": v.optional(v.number()), "old": v.optional(v.string())}
        ).index("by_number", ["number"]),
        "secrets": define_table({"text": v.string()}),
    }
)
rules = define_rules({"secrets": {}})
