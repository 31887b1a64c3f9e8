"""The tables of the AI-service backend: what was asked of which provider, by whom, and who was let in.

Numbers are float64 and times are milliseconds since the Unix epoch, unless a name says otherwise. A user is named by a
plain string in every table: the subject of an identity or the owner of a key. Used by `functions/`.
"""

from functions.model.embedding_logs import keep_totals as keep_embedding_totals
from functions.model.request_logs import keep_totals
from reactor import define_schema, define_table, define_triggers, v

detection_type = v.union(
    v.literal("bot_useragent"), v.literal("ai_scraper"), v.literal("suspicious_pattern"), v.literal("rate_limit")
)
bot_action = v.union(v.literal("blocked"), v.literal("challenged"), v.literal("allowed"))

KEY_FIELDS = {  # what keys of both kinds have; documents of before these fields lack them
    "createdAt": v.optional(v.number()),
    "prefix": v.optional(v.string()),  # the first characters of the key
    "rotatedAt": v.optional(v.number()),
    "alertedDays": v.optional(v.number()),  # how long before its end it was alerted last
    "previousHash": v.optional(v.string()),  # the secret before the last rotation, good until `previousExpiresAt`
    "previousExpiresAt": v.optional(v.number()),
}

schema = define_schema(
    {
        "aiRequestLogs": define_table(
            {
                "timestamp": v.number(),  # may be back-filled, so it is not the time of creation
                "provider": v.string(),
                "model": v.string(),
                "userId": v.optional(v.string()),
                "fingerprint": v.string(),
                "ip": v.string(),
                "success": v.boolean(),
                "error": v.optional(v.string()),
                "tokensUsed": v.optional(v.number()),
                "latencyMs": v.number(),
                "cost": v.optional(v.number()),
                "requestId": v.optional(v.string()),  # of who logs; the same one is logged once
            }
        )
        .index("by_timestamp", ["timestamp"])
        .index("by_provider", ["provider", "timestamp"])
        .index("by_fingerprint", ["fingerprint", "timestamp"])
        .index("by_user", ["userId", "timestamp"])
        .index("by_ip", ["ip", "timestamp"])
        .index("by_model", ["model", "timestamp"])
        .index("by_request_id", ["requestId"]),
        # What the logs of one provider within one minute come to: kept with every write of a log, never written alone.
        "aiRequestMinutes": define_table(
            {
                "provider": v.string(),
                "minute": v.number(),  # its first millisecond
                "requests": v.integer(),
                "successes": v.integer(),
                "latencyMicros": v.integer(),  # microseconds
                "tokens": v.integer(),
                "costMicros": v.integer(),  # millionths
                "latencies": v.record(v.string(), v.integer()),  # requests per bucket of functions/model/histogram
            }
        )
        .index("by_provider", ["provider", "minute"])
        .index("by_minute", ["minute"]),
        "botDetectionEvents": define_table(
            {
                "timestamp": v.number(),
                "fingerprint": v.string(),
                "ip": v.string(),
                "userAgent": v.string(),
                "detectionType": detection_type,
                "action": bot_action,
                "metadata": v.optional(v.any()),
            }
        )
        .index("by_timestamp", ["timestamp"])
        .index("by_fingerprint", ["fingerprint", "timestamp"])
        .index("by_ip", ["ip", "timestamp"]),
        "apiKeys": define_table(
            {
                "key": v.string(),  # SHA-256, lower-case hex; the key itself is shown once and never stored
                "name": v.string(),
                "userId": v.string(),
                "scopes": v.array(v.string()),
                "rateLimit": v.optional(v.object({"requests": v.number(), "period": v.number()})),  # period in seconds
                "lastUsed": v.optional(v.number()),
                "expiresAt": v.optional(v.number()),
                "active": v.boolean(),
                **KEY_FIELDS,
            }
        )
        .index("by_key", ["key"])
        .index("by_previous_hash", ["previousHash"])
        .index("by_expiry", ["active", "expiresAt"])
        .index("by_user", ["userId"]),
        "embeddingApiKeys": define_table(
            {
                "keyHash": v.string(),  # SHA-256, lower-case hex
                "name": v.string(),
                "lastUsed": v.optional(v.number()),
                "requestCount": v.number(),  # those before the counter of the key took over
                "active": v.boolean(),
                "rateLimit": v.object({"requests": v.number(), "windowSeconds": v.number()}),
                "expiresAt": v.optional(v.number()),
                **KEY_FIELDS,
                "createdAt": v.number(),
            }
        )
        .index("by_key_hash", ["keyHash"])
        .index("by_previous_hash", ["previousHash"])
        .index("by_expiry", ["active", "expiresAt"]),
        "embeddingRequests": define_table(
            {
                "requestId": v.string(),
                "apiKeyHash": v.string(),
                "timestamp": v.number(),
                "batchSize": v.number(),
                "latencyMs": v.number(),
                "tokensUsed": v.number(),
                "success": v.boolean(),
                "error": v.optional(v.string()),
                "model": v.string(),
                "keyId": v.optional(v.id("embeddingApiKeys")),  # stays the same when the key is rotated
                "unknownKey": v.optional(v.boolean()),  # there was no key with that hash
            }
        )
        .index("by_timestamp", ["timestamp"])
        .index("by_request_id", ["requestId"])
        .index("by_api_key", ["apiKeyHash", "timestamp"]),
        "embeddingAdmissions": define_table(  # let in, and not logged yet
            {"keyId": v.id("embeddingApiKeys"), "requestId": v.string(), "timestamp": v.number()}
        )
        .index("by_timestamp", ["timestamp"])
        .index("by_key", ["keyId", "requestId"]),
        "embeddingAuthFailures": define_table(
            {
                "keyHash": v.string(),
                "timestamp": v.number(),
                "ip": v.optional(v.string()),
                "userAgent": v.optional(v.string()),
            }
        )
        .index("by_timestamp", ["timestamp"])
        .index("by_key", ["keyHash", "timestamp"])
        .index("by_ip", ["ip", "timestamp"]),
        "keyUsage": define_table(  # of keys of both kinds, by the hour
            {
                "keyId": v.string(),
                "timestamp": v.number(),  # the first millisecond of the hour
                "requests": v.integer(),
                "refused": v.integer(),  # of them: out of scope, or over the limit
                "addresses": v.array(v.string()),
            }
        )
        .index("by_key", ["keyId", "timestamp"])
        .index("by_timestamp", ["timestamp"]),
        "alerts": define_table(
            {
                "timestamp": v.number(),
                "kind": v.union(
                    v.literal("bot_attack"),
                    v.literal("auth_failures"),
                    v.literal("key_expiring"),
                    v.literal("key_anomaly"),
                    v.literal("limit_exhausted"),
                ),
                "severity": v.union(v.literal("info"), v.literal("warning"), v.literal("critical")),
                "subject": v.string(),
                "data": v.any(),
                "acknowledgedAt": v.optional(v.number()),
            }
        )
        .index("by_timestamp", ["timestamp"])
        .index("by_acknowledged", ["acknowledgedAt", "timestamp"])
        .index("by_kind_subject", ["kind", "subject", "timestamp"]),
        "auditLog": define_table(
            {
                "timestamp": v.number(),
                "actor": v.string(),
                "action": v.string(),
                "target": v.string(),
                "data": v.any(),
            }
        )
        .index("by_timestamp", ["timestamp"])
        .index("by_target", ["target", "timestamp"]),
    }
)

triggers = define_triggers({"aiRequestLogs": keep_totals, "embeddingRequests": keep_embedding_totals})
