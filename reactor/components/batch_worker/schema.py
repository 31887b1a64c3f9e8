"""Two documents for each loop: what a ping reads changes rarely, what changes with each batch no ping reads."""

from reactor import define_schema, define_table, v

config = v.object({"debounceMs": v.optional(v.number()), "monitorLagMs": v.optional(v.number())})

status = v.union(
    v.object({"kind": v.literal("idle")}),
    v.object({"kind": v.literal("running")}),
    v.object({"kind": v.literal("waiting"), "until": v.number()}),  # until a ping, or this time
    v.object({"kind": v.literal("stopped")}),
)

schema = define_schema(
    {
        "workers": define_table({"name": v.string(), "worker": v.string(), "config": config, "status": status}).index(
            "by_name", ["name"]
        ),
        "loops": define_table(
            {
                "name": v.string(),
                "stepId": v.optional(v.string()),  # the scheduled function that runs the worker next, or did last
                "monitorId": v.optional(v.string()),
                "monitorTime": v.optional(v.number()),
                "cursor": v.optional(v.any()),
                "error": v.optional(v.string()),  # of the last run of the worker, if it failed
            }
        ).index("by_name", ["name"]),
    }
)
