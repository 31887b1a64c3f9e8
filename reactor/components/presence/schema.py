"""Sessions change with every heartbeat, and nobody watches them; `presence` is watched, and changes when users do.

`lastDisconnected` is 0 while a user is online. Tokens stand for a room or a session with those who may only look at the
one or end the other.
"""

from reactor import define_schema, define_table, v

schema = define_schema(
    {
        "presence": define_table(
            {
                "roomId": v.string(),
                "userId": v.string(),
                "online": v.boolean(),
                "lastDisconnected": v.number(),
                "data": v.optional(v.any()),
            }
        )
        .index("by_room_user", ["roomId", "userId"])
        .index("by_user", ["userId", "online", "roomId"])
        .index("by_room", ["roomId", "online", "lastDisconnected"]),
        "sessions": define_table(
            {"roomId": v.string(), "userId": v.string(), "sessionId": v.string(), "deadline": v.number()}
        )
        .index("by_room_user", ["roomId", "userId"])
        .index("by_session_id", ["sessionId"])
        .index("by_deadline", ["deadline"]),
        "roomTokens": define_table({"token": v.string(), "roomId": v.string()})
        .index("by_token", ["token"])
        .index("by_room", ["roomId"]),
        "sessionTokens": define_table({"token": v.string(), "sessionId": v.string()})
        .index("by_token", ["token"])
        .index("by_session_id", ["sessionId"]),
    }
)
