"""What a pool remembers: its work, what of it waits, what of it runs."""

from reactor import define_schema, define_table, v

fn_type = v.union(v.literal("action"), v.literal("mutation"), v.literal("query"))

retry_behavior = v.object({"maxAttempts": v.number(), "initialBackoffMs": v.number(), "base": v.number()})

result_kind = v.union(v.literal("success"), v.literal("failed"), v.literal("canceled"))

result = v.union(
    v.object({"kind": v.literal("success"), "returnValue": v.any()}),
    v.object({"kind": v.literal("failed"), "error": v.string()}),
    v.object({"kind": v.literal("canceled")}),
)

on_complete = v.object(
    {"fnHandle": v.string(), "context": v.optional(v.any()), "excludeKinds": v.optional(v.array(result_kind))}
)

schema = define_schema(
    {
        "globals": define_table({"maxParallelism": v.number()}),
        "work": define_table(
            {
                "fnType": fn_type,
                "fnHandle": v.string(),
                "fnName": v.string(),
                "fnArgs": v.optional(v.any()),  # absent when they are a payload
                "argsId": v.optional(v.id("payloads")),
                "contextId": v.optional(v.id("payloads")),
                "attempts": v.integer(),  # that have ended; also the number of the one that runs or comes next
                "priority": v.number(),
                "onComplete": v.optional(on_complete),
                "retryBehavior": v.optional(retry_behavior),
                "canceled": v.optional(v.boolean()),  # while it ran: it is not tried again
            }
        ),
        "payloads": define_table({"value": v.any()}),
        "pendingStart": define_table(
            {
                "workId": v.id("work"),
                "fnType": fn_type,
                "attempt": v.integer(),
                "isDue": v.boolean(),
                "rank": v.number(),  # the priority, negated: what comes first
                "time": v.number(),  # from which on it may start
            }
        )
        .index("by_work", ["workId"])
        .index("by_time", ["isDue", "time"])
        .index("by_rank", ["isDue", "rank", "time"]),
        "running": define_table(
            {
                "workId": v.id("work"),
                "scheduledId": v.string(),
                "started": v.number(),
                "checkTime": v.number(),  # when to look whether it has vanished
            }
        )
        .index("by_work", ["workId"])
        .index("by_check", ["checkTime"]),
    }
)
