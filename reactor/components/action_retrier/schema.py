"""Runs: what is to be done, how often it has failed, and what came of it."""

from reactor import define_schema, define_table, v

result = v.union(
    v.object({"type": v.literal("success"), "returnValue": v.any()}),
    v.object({"type": v.literal("failed"), "error": v.string()}),
    v.object({"type": v.literal("canceled")}),
)

options = v.object(
    {
        "initialBackoffMs": v.number(),
        "base": v.number(),
        "maxFailures": v.integer(),
        "runAt": v.optional(v.number()),
        "runAfter": v.optional(v.number()),
        "onComplete": v.optional(v.string()),
    }
)

state = v.union(
    v.object({"type": v.literal("inProgress"), "schedulerId": v.string(), "startTime": v.number()}),
    v.object({"type": v.literal("completed"), "completedAt": v.number(), "result": result}),
)

schema = define_schema(
    {
        "runs": define_table(
            {
                "functionHandle": v.string(),
                "functionArgs": v.any(),
                "options": options,
                "state": state,
                "numFailures": v.integer(),  # also the number of the attempt that runs or comes next
            }
        ).index("by_state", ["state.type", "state.completedAt"]),
    }
)
