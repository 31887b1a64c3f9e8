"""Running migrations: one batch per transaction, the next one scheduled by the one before.

Promises that what a batch changed and how far its migration is are one commit, so that neither a crash nor an error
loses or repeats a document; and that no two runs of one migration are under way at a time. Other code calls these by
their names; applications use `Migrations`.
"""

from typing import Any, Final

from reactor import MutationCtx, QueryCtx, ReactorError, internal, internal_mutation, mutation, query, undefined, v
from reactor.components.scheduled import is_under_way

HANDLE: Final = "function://"
MAX_STATUSES: Final = 100
DELETED_AT_ONCE: Final = 100

FUNCTION: Final = {"name": v.string(), "fnHandle": v.string()}
STATUS: Final = v.object(
    {
        "name": v.string(),
        "cursor": v.nullable(v.string()),
        "processed": v.integer(),
        "isDone": v.boolean(),
        "state": v.union(*map(v.literal, ("inProgress", "success", "failed", "canceled", "unknown"))),
        "error": v.optional(v.string()),
        "latestStart": v.number(),
        "latestEnd": v.optional(v.number()),
        "batchSize": v.optional(v.integer()),
        "next": v.optional(v.array(v.string())),
    }
)

Document = dict[str, Any]


@mutation(
    args={
        **FUNCTION,
        "cursor": v.optional(v.nullable(v.string())),
        "batchSize": v.optional(v.integer()),
        "next": v.optional(v.array(v.object(FUNCTION))),
        "oneBatchOnly": v.optional(v.boolean()),
        "reset": v.optional(v.boolean()),
        "dryRun": v.boolean(),
    },
    returns=STATUS,
)
async def migrate(
    ctx: MutationCtx,
    name: str,
    fn_handle: str,
    dry_run: bool,
    cursor: Any = undefined,
    batch_size: int | None = None,
    next: list[Document] | None = None,
    one_batch_only: bool = False,
    reset: bool = False,
) -> Document:
    """Start a migration or go on with it: run one batch, and schedule the next one; return its status.

    Without `cursor` it goes on where it was, and one that is done is left alone; null begins again, a text begins
    there. When it is done, the first of `next` that is not done follows; with `reset` all of them, each from its start.
    When one of them is under way already, nothing happens and its status is returned.

    Raises:
        ReactorError: `{"kind": "DRY RUN", "status": …}`; always with `dryRun`, so that nothing stays.
        ValueError: the batch size is no positive number, or a handle is none.
    """
    if batch_size is not None and batch_size <= 0:
        raise ValueError(f"The batch size of migration {name!r} must be greater than 0, not {batch_size}.")
    for called in ({"name": name, "fnHandle": fn_handle}, *(next or ())):
        if not called["fnHandle"].startswith(HANDLE):
            raise ValueError(
                f"The function of migration {called['name']!r} is named by a handle, from ctx.function_handle(), "
                f"not {called['fnHandle']!r}."
            )
        status = await _status(ctx, called["name"], await _find(ctx, called["name"]))
        if status["state"] == "inProgress":
            return status
    if reset and cursor is undefined:
        cursor = None
    document = await _begun(ctx, name, cursor)
    worker = {"name": name, "fnHandle": fn_handle, "next": next or [], "reset": reset}
    if batch_size is not None:
        worker["batchSize"] = batch_size
    if not document["isDone"]:
        document = await _batch(ctx, document, fn_handle, batch_size, dry_run)
    if not dry_run and not one_batch_only:
        document = await _go_on(ctx, document, worker)
    status = await _status(ctx, name, document)
    if dry_run:
        raise ReactorError({"kind": "DRY RUN", "status": status})
    return status


@internal_mutation(
    args={
        **FUNCTION,
        "batchSize": v.optional(v.integer()),
        "next": v.array(v.object(FUNCTION)),
        "reset": v.boolean(),
    },
    returns=v.null(),
)
async def step(
    ctx: MutationCtx,
    name: str,
    fn_handle: str,
    next: list[Document],
    reset: bool,
    batch_size: int | None = None,
) -> None:
    """Run the next batch of a migration that is under way. It does nothing when the migration was cleared."""
    document = await _find(ctx, name)
    if document is None:
        return
    document = await _batch(ctx, document, fn_handle, batch_size, dry_run=False)
    worker = {"name": name, "fnHandle": fn_handle, "next": next, "reset": reset}
    if batch_size is not None:
        worker["batchSize"] = batch_size
    await _go_on(ctx, document, worker)


@query(
    args={"names": v.optional(v.array(v.string())), "limit": v.optional(v.integer())},
    returns=v.array(STATUS),
)
async def get_status(ctx: QueryCtx, names: list[str] | None = None, limit: int = MAX_STATUSES) -> list[Document]:
    """Return the status of the migrations named, in that order, else of the latest ones, the newest first."""
    if names is not None:
        return [await _status(ctx, name, await _find(ctx, name)) for name in names]
    documents = await ctx.db.query("migrations").order("desc").take(limit)
    return [await _status(ctx, document["name"], document) for document in documents]


@mutation(args={"name": v.string()}, returns=STATUS)
async def cancel(ctx: MutationCtx, name: str) -> Document:
    """Stop a migration behind the batch that runs; return its status. It can be started again, and goes on there.

    Raises:
        ValueError: no migration of this name was ever started.
    """
    document = await _find(ctx, name)
    if document is None:
        raise ValueError(f"Migration {name!r} not found: none of this name was ever started.")
    return await _cancelled(ctx, document)


@mutation(args={}, returns=v.array(STATUS))
async def cancel_all(ctx: MutationCtx) -> list[Document]:
    """Stop every migration that is under way; return their statuses."""
    stopped = []
    async for document in ctx.db.query("migrations").with_index("by_is_done", isDone=False):
        if (await _status(ctx, document["name"], document))["state"] == "inProgress":
            stopped.append(await _cancelled(ctx, document))
    return stopped


@mutation(args={"before": v.optional(v.number())}, returns=v.null())
async def clear_all(ctx: MutationCtx, before: float | None = None) -> None:
    """Forget all migrations, or those first started before a time. Started again, they begin anew."""
    documents = ctx.db.query("migrations")
    if before is not None:
        documents = documents.with_index("by_creation_time", lambda q: q.lt("_creationTime", before))
    found = await documents.take(DELETED_AT_ONCE)
    for document in found:
        await ctx.db.delete(document["_id"])
    if len(found) == DELETED_AT_ONCE:
        await ctx.scheduler.run_after(0, clear_all, {} if before is None else {"before": before})


async def _find(ctx: QueryCtx, name: str) -> Document | None:
    return await ctx.db.query("migrations").with_index("by_name", name=name).unique()


async def _job(ctx: QueryCtx, document: Document) -> Document | None:
    """Return the scheduled function that runs the next batch, or did; None when it is forgotten."""
    worker = document.get("workerId")
    return None if worker is None else await ctx.db.system.get(worker)


async def _status(ctx: QueryCtx, name: str, document: Document | None) -> Document:
    if document is None:
        return {
            "name": name,
            "cursor": None,
            "processed": 0,
            "isDone": False,
            "state": "unknown",
            "latestStart": 0.0,
        }
    status = {field: value for field, value in document.items() if not field.startswith("_") and field != "workerId"}
    status["state"] = "unknown"
    if document["isDone"]:
        return {**status, "cursor": None, "state": "success"}
    if "error" in document:
        return {**status, "state": "failed"}
    job = await _job(ctx, document)
    if job is not None:
        kind = job["state"]["kind"]
        (given,) = job["args"]
        status["state"] = "inProgress" if is_under_way(job) else "canceled" if kind == "canceled" else "failed"
        if kind == "failed":
            status["error"] = job["state"]["error"]
        if "batchSize" in given:
            status["batchSize"] = given["batchSize"]
        if given["next"]:
            status["next"] = [following["name"] for following in given["next"]]
    return status


async def _begun(ctx: MutationCtx, name: str, cursor: Any) -> Document:
    """Return the document of a migration about to run a batch: from `cursor`, or from where it was."""
    document = await _find(ctx, name)
    if document is not None and cursor is undefined:
        return document
    beginning = {
        "name": name,
        "cursor": None if cursor is undefined else cursor,
        "isDone": False,
        "processed": 0,
        "latestStart": ctx.now(),
    }
    if document is None:
        return {**beginning, "_id": await ctx.db.insert("migrations", beginning)}
    await ctx.db.replace(document["_id"], beginning)
    return {**beginning, "_id": document["_id"]}


async def _batch(
    ctx: MutationCtx, document: Document, fn_handle: str, batch_size: int | None, dry_run: bool
) -> Document:
    """Run one batch as a part of this transaction, and write down how far the migration is then.

    A batch that raises has changed nothing; why is written down, and the migration stops before it.
    """
    name = document["name"]
    args: Document = {"cursor": document["cursor"], "oneBatchOnly": True, "dryRun": dry_run}
    if batch_size is not None:
        args["batchSize"] = batch_size
    try:
        result = await ctx.run_mutation(fn_handle, args)
    except Exception as error:
        data = getattr(error, "data", None)
        if dry_run:
            if not isinstance(data, dict) or data.get("kind") != "DRY RUN":
                raise
            result = data["result"]
        else:
            print(f"Migration {name!r} failed: {error}")
            return await _saved(ctx, document, {"error": str(error), "workerId": undefined})
    changes = {
        "cursor": result["continueCursor"],
        "isDone": result["isDone"],
        "processed": document["processed"] + int(result["processed"]),
        "error": undefined,
        "workerId": undefined,
    }
    if result["isDone"]:
        changes["latestEnd"] = ctx.now()
    return await _saved(ctx, document, changes)


async def _go_on(ctx: MutationCtx, document: Document, worker: Document) -> Document:
    """Schedule the next batch, or what follows a migration that is done."""
    if "error" in document:
        return document
    if not document["isDone"]:
        return await _scheduled(ctx, document, worker)
    for position, following in enumerate(worker["next"]):
        name, reset = following["name"], worker["reset"]
        known = await _find(ctx, name)
        if known is not None and known["isDone"] and not reset:
            continue
        if (await _status(ctx, name, known))["state"] != "inProgress":
            begun = await _begun(ctx, name, None if reset else undefined)
            await _scheduled(ctx, begun, {**following, "next": worker["next"][position + 1 :], "reset": reset})
        break
    return document


async def _scheduled(ctx: MutationCtx, document: Document, worker: Document) -> Document:
    job = await ctx.scheduler.run_after(0, internal.runs.step, worker)
    return await _saved(ctx, document, {"workerId": job, "error": undefined})


async def _saved(ctx: MutationCtx, document: Document, changes: Document) -> Document:
    await ctx.db.patch(document["_id"], changes)
    return {field: value for field, value in {**document, **changes}.items() if value is not undefined}


async def _cancelled(ctx: MutationCtx, document: Document) -> Document:
    if "workerId" in document:
        await ctx.scheduler.cancel(document["workerId"])
    return await _status(ctx, document["name"], document)
