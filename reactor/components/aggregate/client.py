"""What both kinds of aggregates have in common: questions, and the upkeep of their trees."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from reactor import MutationCtx, undefined
from reactor.components.aggregate.bounds import AnyBounds, positions_of
from reactor.components.aggregate.operations import Entry, Operation
from reactor.components.aggregate.positions import Position, before, behind
from reactor.components.aggregate.results import SUM, DeadLetter, Item, Page, Totals, item_of, totals_of
from reactor.components.contexts import ReadCtx, WriteCtx

SumValue = float | Mapping[str, float]
"""What is summed: a number, or several by name."""

Order = Literal["asc", "desc"]


class Aggregate:
    """Counts, sums, ranks and pages of items in the order of their keys, for each namespace by itself.

    Each question costs a few documents for each level of a tree, however many items are counted. `component` is the
    mounted component, such as `components.aggregate`.

    Writes with `later=True` are queued and done soon after; until then questions raise PENDING_OPERATIONS. With
    `stale=True` they look past the queue, and in a mutation at what was there when it began: a change meanwhile is no
    conflict then, and what the mutation itself has written is not seen.
    """

    def __init__(self, component: Any) -> None:
        self.component = component

    # Questions.

    async def count(
        self, ctx: ReadCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> int:
        """Return how many items there are."""
        return (await self.totals(ctx, namespace=namespace, bounds=bounds, stale=stale)).count

    async def sum(
        self,
        ctx: ReadCtx,
        name: str = SUM,
        *,
        namespace: Any = undefined,
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> float:
        """Return the sum of what is summed, or of what is summed under a name."""
        return (await self.totals(ctx, namespace=namespace, bounds=bounds, stale=stale))[name]

    async def totals(
        self, ctx: ReadCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> Totals:
        """Return the count and all sums, for the cost of one of them."""
        return totals_of(await self._ask(ctx, stale, "aggregate_between", _range(namespace, bounds)))

    async def at(
        self,
        ctx: ReadCtx,
        offset: int,
        *,
        namespace: Any = undefined,
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> Item:
        """Return the item at a place: 0 is the first, -1 the last.

        Raises:
            ReactorError: there are fewer items.
            ValueError: `offset must be an integer`.
        """
        asked = {"offset": _offset(offset), **_range(namespace, bounds)}
        return item_of(await self._ask(ctx, stale, "at_offset", asked))

    async def index_of(
        self,
        ctx: ReadCtx,
        key: Any,
        *,
        id: str | None = None,
        order: Order = "asc",
        namespace: Any = undefined,
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> int:
        """Return how many items are before a key, which need not be there; with "desc", how many are behind it."""
        low, high = positions_of(bounds)
        if order == "asc":
            asked = _between(namespace, low, before(key, id))
        else:
            asked = _between(namespace, behind(key, id), high)
        return totals_of(await self._ask(ctx, stale, "aggregate_between", asked)).count

    async def min(
        self, ctx: ReadCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> Item | None:
        """Return the first item, or None."""
        page = await self.paginate(ctx, page_size=1, namespace=namespace, bounds=bounds, stale=stale)
        return page.page[0] if page.page else None

    async def max(
        self, ctx: ReadCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> Item | None:
        """Return the last item, or None."""
        page = await self.paginate(ctx, page_size=1, order="desc", namespace=namespace, bounds=bounds, stale=stale)
        return page.page[0] if page.page else None

    async def random(
        self, ctx: ReadCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> Item | None:
        """Return an item by chance, each with the same probability, or None."""
        size = await self.count(ctx, namespace=namespace, bounds=bounds, stale=stale)
        if not size:
            return None
        return await self.at(ctx, random.randrange(size), namespace=namespace, bounds=bounds, stale=stale)

    async def percentile(
        self,
        ctx: ReadCtx,
        fraction: float,
        *,
        namespace: Any = undefined,
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> Item | None:
        """Return the first item that so large a part of all is not behind, or None: 0.5 is the (lower) median.

        Raises:
            ValueError: `fraction` is not between 0 and 1.
        """
        items = await self.percentiles(ctx, [fraction], namespace=namespace, bounds=bounds, stale=stale)
        return items[0] if items else None

    async def percentiles(
        self,
        ctx: ReadCtx,
        fractions: Sequence[float],
        *,
        namespace: Any = undefined,
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> list[Item]:
        """Return what `percentile` returns for each fraction, or nothing; they share what they read.

        Raises:
            ValueError: one is not between 0 and 1.
        """
        for fraction in fractions:
            if not 0 <= fraction <= 1:
                raise ValueError(f"a percentile is between 0 and 1, not {fraction}")
        asked = {"fractions": list(fractions), **_range(namespace, bounds)}
        return [item_of(item) for item in await self._ask(ctx, stale, "at_fractions", asked)]

    async def paginate(
        self,
        ctx: ReadCtx,
        *,
        order: Order = "asc",
        page_size: int = 100,
        cursor: str | None = None,
        namespace: Any = undefined,
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> Page:
        """Return a page of items. Pass its `cursor` to get the next one.

        Raises:
            ReactorError: the page size is not positive, or the cursor is none.
        """
        asked = {"limit": page_size, "order": order, **_range(namespace, bounds)}
        if cursor is not None:
            asked["cursor"] = cursor
        found = await self._ask(ctx, stale, "paginate", asked)
        return Page([item_of(item) for item in found["page"]], found["cursor"], found["isDone"])

    async def iterate(
        self,
        ctx: ReadCtx,
        *,
        order: Order = "asc",
        page_size: int = 100,
        namespace: Any = undefined,
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> AsyncIterator[Item]:
        """Give all items, reading a page at a time."""
        cursor = None
        while True:
            page = await self.paginate(
                ctx,
                order=order,
                page_size=page_size,
                cursor=cursor,
                namespace=namespace,
                bounds=bounds,
                stale=stale,
            )
            for item in page.page:
                yield item
            if page.is_done:
                return
            cursor = page.cursor

    async def namespaces(self, ctx: ReadCtx, *, page_size: int = 100, stale: bool = False) -> AsyncIterator[Any]:
        """Give all namespaces that items were ever put in. The absent one has no value, and is left out."""
        asked: dict[str, Any] = {"limit": page_size}
        while True:
            found = await self._ask(ctx, stale, "paginate_namespaces", asked)
            for namespace in found["page"]:
                yield namespace
            if found["isDone"]:
                return
            asked["cursor"] = found["cursor"]

    async def totals_batch(
        self, ctx: ReadCtx, ranges: Sequence[tuple[Any, AnyBounds]], *, stale: bool = False
    ) -> list[Totals]:
        """Return what `totals` returns for each namespace and bounds; they share what they read."""
        asked = {"queries": [_range(namespace, bounds) for namespace, bounds in ranges]}
        return [totals_of(held) for held in await self._ask(ctx, stale, "aggregate_between_batch", asked)]

    async def count_batch(
        self, ctx: ReadCtx, ranges: Sequence[tuple[Any, AnyBounds]], *, stale: bool = False
    ) -> list[int]:
        """Return what `count` returns for each namespace and bounds; they share what they read."""
        return [totals.count for totals in await self.totals_batch(ctx, ranges, stale=stale)]

    async def sum_batch(
        self, ctx: ReadCtx, ranges: Sequence[tuple[Any, AnyBounds]], name: str = SUM, *, stale: bool = False
    ) -> list[float]:
        """Return what `sum` returns for each namespace and bounds; they share what they read."""
        return [totals[name] for totals in await self.totals_batch(ctx, ranges, stale=stale)]

    async def at_batch(
        self, ctx: ReadCtx, places: Sequence[tuple[int, Any, AnyBounds]], *, stale: bool = False
    ) -> list[Item]:
        """Return what `at` returns for each offset, namespace and bounds; they share what they read.

        Raises:
            ReactorError: one of the ranges has fewer items.
            ValueError: `offset must be an integer`.
        """
        asked = {
            "queries": [
                {"offset": _offset(offset), **_range(namespace, bounds)} for offset, namespace, bounds in places
            ]
        }
        return [item_of(item) for item in await self._ask(ctx, stale, "at_offset_batch", asked)]

    async def validate(self, ctx: ReadCtx, *, namespace: Any = undefined) -> Totals:
        """Check every rule of the tree; return what it holds. Reads all of it: for tests, and small trees.

        Raises:
            ReactorError: a rule is broken; the text says which.
        """
        return totals_of(await self._ask(ctx, False, "validate", _range(namespace, None)))

    # Maintenance.

    async def clear(
        self,
        ctx: WriteCtx,
        *,
        namespace: Any = undefined,
        max_node_size: int | None = None,
        root_lazy: bool | None = None,
    ) -> None:
        """Take everything out of a namespace, in the time of one write; what was there is deleted afterwards.

        Args:
            namespace: which.
            max_node_size: how many items a node has at most: even, and at least 4. What it was, if not given.
            root_lazy: whether the root leaves it to its subtrees to know what they hold. What it was, if not given.

        Raises:
            ReactorError: the size is odd, or below 4.
        """
        asked = {"namespace": namespace, **_settings(max_node_size, root_lazy)}
        await ctx.run_mutation(self.component.maintenance.clear, asked)

    async def clear_all(
        self, ctx: WriteCtx, *, max_node_size: int | None = None, root_lazy: bool | None = None
    ) -> None:
        """Take everything out of every namespace. The settings hold for namespaces to come, too.

        Raises:
            ReactorError: the size is odd, or below 4.
        """
        await ctx.run_mutation(self.component.maintenance.clear_all, _settings(max_node_size, root_lazy))

    async def make_root_lazy(self, ctx: WriteCtx, *, namespace: Any = undefined) -> None:
        """Let the root of a namespace leave it to its subtrees to know what they hold."""
        await ctx.run_mutation(self.component.maintenance.make_root_lazy, {"namespace": namespace})

    async def make_all_roots_lazy(self, ctx: WriteCtx) -> None:
        """Let every root leave it to its subtrees to know what they hold."""
        await ctx.run_mutation(self.component.maintenance.make_all_roots_lazy, {})

    # Operations that were queued.

    async def count_pending(self, ctx: ReadCtx) -> int:
        """Return how many batches of operations wait."""
        return int(await ctx.run_query(self.component.queue.count_pending, {}))

    async def dead_letters(self, ctx: ReadCtx, limit: int = 100) -> list[DeadLetter]:
        """Return queued operations that failed when their turn came, the oldest first."""
        found = await ctx.run_query(self.component.queue.dead_letters, {"limit": limit})
        return [DeadLetter(**letter) for letter in found]

    async def discard_dead_letters(self, ctx: WriteCtx, limit: int = 1000) -> int:
        """Forget queued operations that failed, the oldest first; return how many."""
        return int(await ctx.run_mutation(self.component.queue.discard_dead_letters, {"limit": limit}))

    # Inside.

    async def _ask(self, ctx: ReadCtx, stale: bool, function: str, args: Mapping[str, Any]) -> Any:
        reference = getattr(self.component.ranges, function)
        if not stale:
            return await ctx.run_query(reference, args)
        args = {**args, "stale": True}
        if isinstance(ctx, MutationCtx):  # others have no other snapshot
            return await ctx.stale.run_query(reference, args)
        return await ctx.run_query(reference, args)

    async def _tell(self, ctx: WriteCtx, operations: Sequence[Operation], later: bool) -> None:
        function = self.component.operations.enqueue if later else self.component.operations.apply
        await ctx.run_mutation(function, {"operations": operations})


def entry(key: Any, id: str, sum_value: SumValue, namespace: Any) -> Entry:
    """Return an item as operations have it."""
    sums = dict(sum_value) if isinstance(sum_value, Mapping) else {SUM: sum_value} if sum_value else {}
    return {"key": key, "id": id, "namespace": namespace, "sums": sums}


def _range(namespace: Any, bounds: AnyBounds) -> dict[str, Any]:
    return _between(namespace, *positions_of(bounds))


def _between(namespace: Any, low: Position | None, high: Position | None) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "k1": undefined if low is None else low,
        "k2": undefined if high is None else high,
    }


def _offset(offset: float) -> int:
    if offset != int(offset):
        raise ValueError("offset must be an integer")
    return int(offset)


def _settings(max_node_size: int | None, root_lazy: bool | None) -> dict[str, Any]:
    return {
        "maxNodeSize": undefined if max_node_size is None else max_node_size,
        "rootLazy": undefined if root_lazy is None else root_lazy,
    }
