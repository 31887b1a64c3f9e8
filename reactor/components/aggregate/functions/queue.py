"""Operations that are done later: the worker of the queue, and what it could not do."""

from typing import Any

from reactor import MutationCtx, QueryCtx, ReactorError, internal_mutation, mutation, query, v
from reactor.components.aggregate.operations import OPERATION, apply
from reactor.components.aggregate.trees import Trees
from reactor.components.batch_worker import idle, work

# Each touches two or three documents for each level of a tree, of some 2 KB each: far from the limits of a mutation.
OPERATIONS_PER_CYCLE = 256


@internal_mutation(args={"name": v.string(), "cursor": v.optional(v.any())})
def drain(ctx: MutationCtx, name: str, cursor: Any = None) -> dict[str, Any]:
    """Do what has waited longest."""
    trees = Trees(ctx.db, looks_past_queue=True)
    done = 0
    documents: Any = ctx.db.query("pendingOperations")
    for document in documents:
        operations = document["operations"]
        if done and done + len(operations) > OPERATIONS_PER_CYCLE:
            break
        for operation in operations:
            try:
                apply(trees, operation)
            except ReactorError as error:
                ctx.db.insert("deadLetterOperations", {"operation": operation, "error": error.data})
        ctx.db.delete(document["_id"])
        done += len(operations)
    trees.flush()
    return work() if done else idle()


@query(returns=v.integer())
def count_pending(ctx: QueryCtx) -> int:
    """Return how many batches of operations wait."""
    waiting: Any = ctx.db.query("pendingOperations").count()
    return int(waiting)


@query(
    args={"limit": v.integer()},
    returns=v.array(v.object({"operation": OPERATION, "error": v.any(), "time": v.number()})),
)
def dead_letters(ctx: QueryCtx, limit: int) -> list[dict[str, Any]]:
    """Return operations that failed, the oldest first."""
    found: Any = ctx.db.query("deadLetterOperations").take(limit)
    return [
        {"operation": letter["operation"], "error": letter["error"], "time": letter["_creationTime"]}
        for letter in found
    ]


@mutation(args={"limit": v.integer()}, returns=v.integer())
def discard_dead_letters(ctx: MutationCtx, limit: int) -> int:
    """Forget operations that failed, the oldest first; return how many."""
    found: Any = ctx.db.query("deadLetterOperations").take(limit)
    for letter in found:
        ctx.db.delete(letter["_id"])
    return len(found)
