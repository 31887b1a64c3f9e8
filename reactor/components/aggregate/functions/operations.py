"""Operations, which change trees: at once, or later through the queue."""

from reactor import MutationCtx, components, internal, mutation, v
from reactor.components.aggregate.operations import OPERATION, Operation, apply, check
from reactor.components.aggregate.trees import Trees
from reactor.components.batch_worker import BatchWorker

OPERATIONS_PER_DOCUMENT = 256

# For so long after a batch the loop goes on, so that those who write meanwhile need not wake it, which is a write to
# one document; what they write is done in one batch.
DEBOUNCE_MS = 100.0

drainer = BatchWorker(components.batch_worker, internal.queue.drain, debounce_ms=DEBOUNCE_MS)


@mutation(name="apply", args={"operations": v.array(OPERATION)}, returns=v.null())
def apply_now(ctx: MutationCtx, operations: list[Operation]) -> None:
    """Do operations in order. If one fails, none is done."""
    check(operations)
    trees = Trees(ctx.db)
    for operation in operations:
        apply(trees, operation)
    trees.flush()


@mutation(args={"operations": v.array(OPERATION)}, returns=v.null())
async def enqueue(ctx: MutationCtx, operations: list[Operation]) -> None:
    """Have operations done soon, in order. One that fails then becomes a dead letter."""
    check(operations)
    for start in range(0, len(operations), OPERATIONS_PER_DOCUMENT):
        document = {"operations": operations[start : start + OPERATIONS_PER_DOCUMENT]}
        await ctx.db.insert("pendingOperations", document)
    if operations:
        await drainer.ping(ctx)
