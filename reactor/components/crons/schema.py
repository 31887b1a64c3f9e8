"""One document for each cron that is registered.

`schedulerJobId` is the scheduled function that waits for the next slot, `executionJobId` the one that ran last.
"""

from reactor import define_schema, define_table, v
from reactor.components.crons.schedules import MISSED, SCHEDULE

schema = define_schema(
    {
        "crons": define_table(
            {
                "name": v.optional(v.string()),
                "functionHandle": v.string(),
                "args": v.any(),
                "schedule": SCHEDULE,
                "missed": v.optional(MISSED),
                "schedulerJobId": v.optional(v.string()),
                "executionJobId": v.optional(v.string()),
            }
        ).index("by_name", ["name"])
    }
)
