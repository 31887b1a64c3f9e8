"""The tables of the component: a tree for each namespace, the nodes of all trees, and operations that wait."""

from reactor import define_schema, define_table, v
from reactor.components.aggregate.operations import OPERATION

columns = v.record(v.string(), v.array(v.float64()))
"""Numbers by name, each a list as long as that of what they belong to."""

schema = define_schema(
    {
        "btree": define_table(
            {
                "root": v.id("btreeNode"),
                "namespace": v.optional(v.any()),
                "maxNodeSize": v.integer(),
                "isRootLazy": v.boolean(),
            }
        ).index("by_namespace", ["namespace"]),
        # Items are kept by column: `keys[i]`, `ids[i]` and each `sums[name][i]` are one item. So are subtrees, with
        # `counts` and `totals` beside them, which a lazy root does not have.
        "btreeNode": define_table(
            {
                "keys": v.array(v.any()),
                "ids": v.array(v.string()),
                "sums": columns,
                "subtrees": v.array(v.string()),
                "counts": v.optional(v.array(v.float64())),
                "totals": v.optional(columns),
            }
        ),
        "pendingOperations": define_table({"operations": v.array(OPERATION)}),
        "deadLetterOperations": define_table({"operation": OPERATION, "error": v.any()}),
    }
)
