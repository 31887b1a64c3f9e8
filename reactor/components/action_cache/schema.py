"""One document for each kept value, and one beside it for each that expires.

`key` stands for the arguments; see `keys`. Expiry is apart from the values, so that finding what has expired reads no
values. A lease is who computes a value at present.
"""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "values": define_table(
            {"name": v.string(), "key": v.string(), "value": v.any(), "metadataId": v.optional(v.id("metadata"))}
        ).index("by_key", ["name", "key"]),
        "metadata": define_table({"valueId": v.id("values"), "expiresAt": v.number()}).index(
            "by_expires_at", ["expiresAt"]
        ),
        "leases": define_table({"name": v.string(), "key": v.string(), "holder": v.string(), "expiresAt": v.number()})
        .index("by_key", ["name", "key"])
        .index("by_expires_at", ["expiresAt"]),
    }
)
