"""From the schema of the older application to this one: `reactor run migrations:v1_to_v2`.

It may be repeated and interrupted. What the documents of before lack is filled in, and what was logged before there
were totals is counted. Everything new is optional in the schema, so it is pushed first, and callers are served all the
while.
"""

import math
from typing import Any, Final

from functions.model import embedding_logs, request_logs
from functions.model.amounts import AMOUNTS, stored_amount
from functions.model.keys import EMBEDDING_KEYS, PREFIX_LENGTH, find_key
from reactor import MutationCtx, components
from reactor.components.migrations import Migrations

migrations: Final = Migrations(components.migrations)


@migrations.define(table="apiKeys")
async def fill_api_keys(ctx: MutationCtx, key: dict[str, Any]) -> dict[str, Any]:
    """Give a key the time of its creation, and what it is shown by. Its text was never seen: 8 characters of its hash.

    A key without an end stays without one; whoever has it was promised none.
    """
    return {"createdAt": key.get("createdAt", key["_creationTime"]), "prefix": _prefix(key, "key")}


@migrations.define(table="embeddingApiKeys")
async def fill_embedding_keys(ctx: MutationCtx, key: dict[str, Any]) -> dict[str, Any]:
    """Give a key of the embeddings service what it is shown by."""
    return {"prefix": _prefix(key, EMBEDDING_KEYS.hash_field)}


@migrations.define(table="aiRequestLogs")
async def count_request_logs(ctx: MutationCtx, log: dict[str, Any]) -> None:
    """Count a log that was written before there were totals, its amounts in whole units from now on."""
    if not await request_logs.is_counted(ctx, log):
        await ctx.db.without_triggers.patch(log["_id"], amounts := _amounts(log))
        await request_logs.count_log(ctx, {**log, **amounts})


@migrations.define(table="embeddingRequests")
async def count_embedding_requests(ctx: MutationCtx, request: dict[str, Any]) -> None:
    """Count a request that was logged before there were totals, and name its key."""
    if await embedding_logs.is_counted(ctx, request):
        return
    key = await find_key(ctx, EMBEDDING_KEYS, request["apiKeyHash"])
    owner: dict[str, Any] = {"unknownKey": True} if key is None else {"keyId": key.id}
    fields = {**_amounts(request), **owner}
    await ctx.db.without_triggers.patch(request["_id"], fields)
    await embedding_logs.count_request(ctx, {**request, **fields})


v1_to_v2: Final = migrations.runner([fill_api_keys, fill_embedding_keys, count_request_logs, count_embedding_requests])


def _prefix(key: dict[str, Any], hash_field: str) -> str:
    return str(key.get("prefix", key[hash_field][:PREFIX_LENGTH]))


def _amounts(log: dict[str, Any]) -> dict[str, float]:
    """Return the amounts of a log as they are stored today. One that was none, such as NaN, becomes the nearest one."""
    amounts = {}
    for field, amount in AMOUNTS.items():
        if field in log:
            value = 0.0 if math.isnan(log[field]) else min(max(log[field], 0.0), amount.maximum)
            amounts[field] = stored_amount(field, float(round(value)) if field == "tokensUsed" else value)
    return amounts
