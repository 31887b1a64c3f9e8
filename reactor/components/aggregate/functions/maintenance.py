"""What empties trees, and changes how they are kept."""

from typing import Any

from reactor import MutationCtx, internal, internal_mutation, mutation, undefined, v
from reactor.components.aggregate.trees import Trees
from reactor.components.aggregate.wire import NAMESPACE

SETTINGS = {"maxNodeSize": v.optional(v.integer()), "rootLazy": v.optional(v.boolean())}


@mutation(args={"namespace": NAMESPACE, **SETTINGS}, returns=v.null())
def clear(
    ctx: MutationCtx, namespace: Any = undefined, max_node_size: int | None = None, root_lazy: bool | None = None
) -> None:
    """Take everything out of a namespace. What it was set to stays, unless it is given here."""
    delete_later(ctx, Trees(ctx.db).clear(namespace, max_node_size, root_lazy))


@mutation(args=SETTINGS, returns=v.null())
def clear_all(ctx: MutationCtx, max_node_size: int | None = None, root_lazy: bool | None = None) -> None:
    """Take everything out of every namespace. The absent one keeps the settings for those to come."""
    trees = Trees(ctx.db)
    left = trees.clear(undefined, max_node_size, root_lazy)
    for document in trees.all():
        if "namespace" in document:
            left += trees.clear(document["namespace"], max_node_size, root_lazy)
    delete_later(ctx, left)


@mutation(args={"namespace": NAMESPACE}, returns=v.null())
def make_root_lazy(ctx: MutationCtx, namespace: Any = undefined) -> None:
    """Let the root of a namespace no longer know what its subtrees hold: writers meet less often, reads read more."""
    trees = Trees(ctx.db)
    document = trees.settings(namespace)
    if document is not None:
        trees.make_root_lazy(document)
        trees.flush()


@mutation(returns=v.null())
def make_all_roots_lazy(ctx: MutationCtx) -> None:
    """Let no root know what its subtrees hold."""
    trees = Trees(ctx.db)
    for document in trees.all():
        trees.make_root_lazy(document)
    trees.flush()


@internal_mutation(args={"nodes": v.array(v.string())}, returns=v.null())
def delete_nodes(ctx: MutationCtx, nodes: list[str]) -> None:
    """Delete subtrees that belong to no tree any more, a part at a time."""
    delete_later(ctx, Trees(ctx.db, looks_past_queue=True).delete_nodes(nodes))


def delete_later(ctx: MutationCtx, nodes: list[str]) -> None:
    """Schedule the deletion of subtrees."""
    if nodes:
        ctx.scheduler.run_after(0, internal.maintenance.delete_nodes, {"nodes": nodes})
