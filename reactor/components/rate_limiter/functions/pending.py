"""The functions for limits that are applied asynchronously, and the worker that applies them."""

from typing import Any, Final

from reactor import MutationCtx, components, internal, internal_mutation, mutation, v
from reactor.components.batch_worker import BatchWorker, idle, work
from reactor.components.rate_limiter.configs import TRANSACTIONALLY, config_of
from reactor.components.rate_limiter.functions.limits import ACCOUNT, THROWS, check_rate_limit
from reactor.components.rate_limiter.ledger import Ledger
from reactor.components.rate_limiter.requests import REQUEST, check_count
from reactor.components.rate_limiter.status import STATUS
from reactor.components.rate_limiter.updates import SHARD, UPDATE, by_account, folded

BATCH: Final = 1024
BATCH_CHARACTERS: Final = 1_000_000  # of names and keys: at most a quarter of what one transaction may read
PAUSE_MS: Final = 100  # between two looks at the queue
WORKER: Final = BatchWorker(components.batch_worker, internal.pending.drain)


@mutation(args={**REQUEST, **THROWS}, returns=STATUS)
async def rate_limit(ctx: MutationCtx, /, **request: Any) -> dict[str, Any]:
    """Queue the taking of tokens, if they seem to be there. What others have queued and is not applied is not seen."""
    status: dict[str, Any] = await ctx.stale.run_query(check_rate_limit, request)
    if status["ok"]:
        count = request.get("count", 1)
        await _queue(ctx, "consume", request["name"], request.get("key"), count, request["config"])
    return status


@mutation(args=ACCOUNT, returns=v.null())
async def reset_rate_limit(ctx: MutationCtx, name: str, config: Any, key: str | None = None) -> None:
    """Queue the forgetting of what was taken."""
    await _queue(ctx, "reset", name, key, 0, config)


@mutation(args={**ACCOUNT, "count": v.number()}, returns=v.null())
async def credit(ctx: MutationCtx, name: str, config: Any, count: float, key: str | None = None) -> None:
    """Queue the giving back of tokens, as far as they fit."""
    await _queue(ctx, "credit", name, key, count, config)


@mutation(args={**ACCOUNT, "taken": v.number(), "used": v.number()}, returns=STATUS)
async def settle(
    ctx: MutationCtx, name: str, config: Any, taken: float, used: float, key: str | None = None
) -> dict[str, Any]:
    """Queue the correction of what was taken to what was used."""
    for count in (taken, used):
        check_count(name, count)
    kind = "consume" if used > taken else "credit"
    await _queue(ctx, kind, name, key, abs(used - taken), config)
    return {"ok": True}


@internal_mutation(args={"name": v.string()})
async def drain(ctx: MutationCtx, name: str) -> dict[str, Any]:
    """Apply a batch of updates: one write for each limit and key, however many updates there are."""
    batch: list[dict[str, Any]] = []
    characters, is_all = 0, True
    async for document in ctx.db.query("pendingUpdates"):
        if len(batch) == BATCH or characters > BATCH_CHARACTERS:
            is_all = False
            break
        batch.append(document)
        characters += len(document["update"]["name"]) + len(document["update"].get("key", ""))
    for account, updates in by_account(document["update"] for document in batch):
        await ctx.run_mutation(apply, {**account, "updates": updates})
    for document in batch:
        await ctx.db.delete(document["_id"])
    if not is_all:
        return work()
    # While there is something now and then, the loop goes on: who pings it then writes nothing.
    return work(debounce_ms=PAUSE_MS) if batch else idle()


@internal_mutation(
    args={"name": v.string(), "key": v.optional(v.string()), "updates": v.array(UPDATE)}, returns=v.null()
)
def apply(ctx: Any, name: str, updates: list[dict[str, Any]], key: str | None = None) -> None:
    """Apply the updates of one limit and key."""
    ledger = Ledger(ctx, name, key)
    state = folded(ledger.state(SHARD), updates)
    if state is None:
        ledger.forget()
    else:
        ledger.change(SHARD, state)
        ledger.write()


async def _queue(ctx: MutationCtx, kind: str, name: str, key: str | None, count: float, config: dict[str, Any]) -> None:
    check_count(name, count)
    if config.get("applyUpdates") == TRANSACTIONALLY or config_of(config).shards > 1:
        raise ValueError(f"Rate limit {name} is applied {TRANSACTIONALLY}: it can't be queued")
    update = {"kind": kind, "name": name, "count": count, "config": config, "ts": ctx.now()}
    if key is not None:
        update["key"] = key
    await ctx.db.insert("pendingUpdates", {"update": update})
    await WORKER.ping(ctx)
