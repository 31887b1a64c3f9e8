"""What applications use: aggregates over items they name themselves, or over the documents of a table."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reactor import MutationCtx, QueryCtx, undefined
from reactor.components.aggregate.bounds import AnyBounds, positions_of
from reactor.components.aggregate.positions import Position, before, behind

SUM = "sum"
"""The name of the sum of an aggregate that has only one, and does not name it."""

SumValue = float | Mapping[str, float]
"""What is summed: a number, or several by name."""

Document = Mapping[str, Any]
Order = Literal["asc", "desc"]


@dataclass(frozen=True)
class Item:
    """An item of an aggregate. Of its numbers, those that are 0 are left out of `sums`."""

    key: Any
    id: str
    sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def sum_value(self) -> float:
        """The number that is summed, where it has no name."""
        return self.sums.get(SUM, 0.0)


@dataclass(frozen=True)
class Totals:
    """What a range holds. Sums that are 0 are left out; asking for one by `totals["cost"]` gives 0."""

    count: int
    sums: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.sums.get(name, 0.0)

    @property
    def sum(self) -> float:
        """The sum that has no name."""
        return self[SUM]


@dataclass(frozen=True)
class Page:
    """A page of items. `cursor` is where the next one begins."""

    page: list[Item]
    cursor: str
    is_done: bool


class Aggregate:
    """Counts, sums, ranks and pages of items in the order of their keys, for each namespace by itself.

    Each question costs a few documents for each level of a tree, however many items are counted. `component` is the
    mounted component, such as `components.aggregate`. `stale=True` reads what was there when the transaction began: a
    later change is no conflict then, and what the transaction itself has written is not seen.
    """

    def __init__(self, component: Any) -> None:
        self.component = component

    # Questions.

    async def count(
        self, ctx: QueryCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> int:
        """Return how many items there are."""
        return (await self.totals(ctx, namespace=namespace, bounds=bounds, stale=stale)).count

    async def sum(
        self,
        ctx: QueryCtx,
        name: str = SUM,
        *,
        namespace: Any = undefined,
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> float:
        """Return the sum of what is summed, or of what is summed under a name."""
        return (await self.totals(ctx, namespace=namespace, bounds=bounds, stale=stale))[name]

    async def totals(
        self, ctx: QueryCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> Totals:
        """Return the count and all sums, for the cost of one of them."""
        return _totals(await self._ask(ctx, stale, "aggregate_between", _range(namespace, bounds)))

    async def at(
        self,
        ctx: QueryCtx,
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
        return _item(await self._ask(ctx, stale, "at_offset", asked))

    async def index_of(
        self,
        ctx: QueryCtx,
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
        return _totals(await self._ask(ctx, stale, "aggregate_between", asked)).count

    async def min(
        self, ctx: QueryCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> Item | None:
        """Return the first item, or None."""
        page = await self.paginate(ctx, page_size=1, namespace=namespace, bounds=bounds, stale=stale)
        return page.page[0] if page.page else None

    async def max(
        self, ctx: QueryCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> Item | None:
        """Return the last item, or None."""
        page = await self.paginate(ctx, page_size=1, order="desc", namespace=namespace, bounds=bounds, stale=stale)
        return page.page[0] if page.page else None

    async def random(
        self, ctx: QueryCtx, *, namespace: Any = undefined, bounds: AnyBounds = None, stale: bool = False
    ) -> Item | None:
        """Return an item by chance, each with the same probability, or None."""
        size = await self.count(ctx, namespace=namespace, bounds=bounds, stale=stale)
        if not size:
            return None
        return await self.at(ctx, random.randrange(size), namespace=namespace, bounds=bounds, stale=stale)

    async def percentile(
        self,
        ctx: QueryCtx,
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
        ctx: QueryCtx,
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
        return [_item(item) for item in await self._ask(ctx, stale, "at_fractions", asked)]

    async def paginate(
        self,
        ctx: QueryCtx,
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
        return Page([_item(item) for item in found["page"]], found["cursor"], found["isDone"])

    async def iterate(
        self,
        ctx: QueryCtx,
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

    async def namespaces(self, ctx: QueryCtx, *, page_size: int = 100, stale: bool = False) -> AsyncIterator[Any]:
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
        self, ctx: QueryCtx, ranges: Sequence[tuple[Any, AnyBounds]], *, stale: bool = False
    ) -> list[Totals]:
        """Return what `totals` returns for each namespace and bounds; they share what they read."""
        asked = {"queries": [_range(namespace, bounds) for namespace, bounds in ranges]}
        return [_totals(held) for held in await self._ask(ctx, stale, "aggregate_between_batch", asked)]

    async def count_batch(
        self, ctx: QueryCtx, ranges: Sequence[tuple[Any, AnyBounds]], *, stale: bool = False
    ) -> list[int]:
        """Return what `count` returns for each namespace and bounds; they share what they read."""
        return [totals.count for totals in await self.totals_batch(ctx, ranges, stale=stale)]

    async def sum_batch(
        self, ctx: QueryCtx, ranges: Sequence[tuple[Any, AnyBounds]], name: str = SUM, *, stale: bool = False
    ) -> list[float]:
        """Return what `sum` returns for each namespace and bounds; they share what they read."""
        return [totals[name] for totals in await self.totals_batch(ctx, ranges, stale=stale)]

    async def at_batch(
        self, ctx: QueryCtx, places: Sequence[tuple[int, Any, AnyBounds]], *, stale: bool = False
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
        return [_item(item) for item in await self._ask(ctx, stale, "at_offset_batch", asked)]

    async def validate(self, ctx: QueryCtx, *, namespace: Any = undefined) -> Totals:
        """Check every rule of the tree; return what it holds. Reads all of it: for tests, and small trees.

        Raises:
            ReactorError: a rule is broken; the text says which.
        """
        return _totals(await self._ask(ctx, False, "validate", _range(namespace, None)))

    # Maintenance.

    async def clear(
        self,
        ctx: MutationCtx,
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
        self, ctx: MutationCtx, *, max_node_size: int | None = None, root_lazy: bool | None = None
    ) -> None:
        """Take everything out of every namespace. The settings hold for namespaces to come, too.

        Raises:
            ReactorError: the size is odd, or below 4.
        """
        await ctx.run_mutation(self.component.maintenance.clear_all, _settings(max_node_size, root_lazy))

    async def make_root_lazy(self, ctx: MutationCtx, *, namespace: Any = undefined) -> None:
        """Let the root of a namespace leave it to its subtrees to know what they hold."""
        await ctx.run_mutation(self.component.maintenance.make_root_lazy, {"namespace": namespace})

    async def make_all_roots_lazy(self, ctx: MutationCtx) -> None:
        """Let every root leave it to its subtrees to know what they hold."""
        await ctx.run_mutation(self.component.maintenance.make_all_roots_lazy, {})

    # Inside.

    async def _ask(self, ctx: QueryCtx, stale: bool, function: str, args: Mapping[str, Any]) -> Any:
        reference = getattr(self.component.btree, function)
        if stale and isinstance(ctx, MutationCtx):  # a query has no other snapshot
            return await ctx.stale.run_query(reference, args)
        return await ctx.run_query(reference, args)

    async def _tell(self, ctx: MutationCtx, function: str, args: Mapping[str, Any]) -> None:
        await ctx.run_mutation(getattr(self.component.public, function), args)


class DirectAggregate(Aggregate):
    """An aggregate of items that the application names: each has a key, an id, and what is summed of it."""

    async def insert(
        self, ctx: MutationCtx, *, key: Any, id: str, sum_value: SumValue = 0, namespace: Any = undefined
    ) -> None:
        """Put an item in.

        Raises:
            ReactorError: there is one with this key and id, or a number is not finite.
        """
        await self._tell(ctx, "insert", _entry(key, id, sum_value, namespace))

    async def delete(self, ctx: MutationCtx, *, key: Any, id: str, namespace: Any = undefined) -> None:
        """Take an item out.

        Raises:
            ReactorError: DELETE_MISSING_KEY, there is none with this key and id.
        """
        await self._tell(ctx, "delete", {"key": key, "id": id, "namespace": namespace})

    async def replace(
        self,
        ctx: MutationCtx,
        *,
        current_key: Any,
        key: Any,
        id: str,
        sum_value: SumValue = 0,
        current_namespace: Any = undefined,
        namespace: Any = undefined,
    ) -> None:
        """Give an item another key, namespace, or what is summed.

        Raises:
            ReactorError: DELETE_MISSING_KEY, there is none with this key and id.
        """
        current = {"key": current_key, "id": id, "namespace": current_namespace}
        await self._tell(ctx, "replace", {"current": current, "new": _entry(key, id, sum_value, namespace)})

    async def insert_if_does_not_exist(
        self, ctx: MutationCtx, *, key: Any, id: str, sum_value: SumValue = 0, namespace: Any = undefined
    ) -> None:
        """Put an item in; if it is there, only give it what is summed."""
        await self.insert_many_if_do_not_exist(ctx, [(key, id, sum_value, namespace)])

    async def delete_if_exists(self, ctx: MutationCtx, *, key: Any, id: str, namespace: Any = undefined) -> None:
        """Take an item out, if it is there."""
        await self._tell(ctx, "delete_if_exists", {"key": key, "id": id, "namespace": namespace})

    async def replace_or_insert(
        self,
        ctx: MutationCtx,
        *,
        current_key: Any,
        key: Any,
        id: str,
        sum_value: SumValue = 0,
        current_namespace: Any = undefined,
        namespace: Any = undefined,
    ) -> None:
        """Give an item another key, namespace, or what is summed; put it in, if it is not there."""
        current = {"key": current_key, "id": id, "namespace": current_namespace}
        await self._tell(ctx, "replace_or_insert", {"current": current, "new": _entry(key, id, sum_value, namespace)})

    async def insert_many(self, ctx: MutationCtx, items: Sequence[tuple[Any, str, SumValue, Any]]) -> None:
        """Put many items in, given as (key, id, sum value, namespace).

        Raises:
            ReactorError: there is one with this key and id, or a number is not finite.
        """
        await self._tell(ctx, "insert_many", {"items": [_entry(*item) for item in items]})

    async def insert_many_if_do_not_exist(
        self, ctx: MutationCtx, items: Sequence[tuple[Any, str, SumValue, Any]]
    ) -> None:
        """Put many items in, given as (key, id, sum value, namespace); those that are there get what is summed."""
        await self._tell(ctx, "insert_many_if_not_existing", {"items": [_entry(*item) for item in items]})


class TableAggregate(Aggregate):
    """An aggregate of the documents of a table.

    Every change of the table must be told: by the methods here beside each write, or by a trigger. What is written past
    them, such as an import, is not counted.
    """

    def __init__(
        self,
        component: Any,
        *,
        sort_key: Callable[[Document], Any],
        sum_value: Callable[[Document], SumValue] | None = None,
        namespace: Callable[[Document], Any] | None = None,
    ) -> None:
        """Tell what of a document counts.

        Args:
            component: the mounted component.
            sort_key: the key of a document. Ids decide between equal ones.
            sum_value: what is summed: a number, or several by name.
            namespace: the namespace that a document belongs to.
        """
        super().__init__(component)
        self._sort_key = sort_key
        self._sum_value = sum_value
        self._namespace = namespace

    async def insert(self, ctx: MutationCtx, document: Document) -> None:
        """Count a document that was inserted.

        Raises:
            ReactorError: it is counted already, or a number is not finite.
        """
        await self._tell(ctx, "insert", self._entry(document))

    async def delete(self, ctx: MutationCtx, document: Document) -> None:
        """Stop counting a document, as it was before it was deleted.

        Raises:
            ReactorError: DELETE_MISSING_KEY, it is not counted.
        """
        await self._tell(ctx, "delete", self._place(document))

    async def replace(self, ctx: MutationCtx, old: Document, new: Document) -> None:
        """Count a document as it is now instead of as it was.

        Raises:
            ReactorError: DELETE_MISSING_KEY, it is not counted as it was.
        """
        await self._tell(ctx, "replace", {"current": self._place(old), "new": self._entry(new)})

    async def insert_if_does_not_exist(self, ctx: MutationCtx, document: Document) -> None:
        """Count a document; if it is counted, only update what is summed."""
        await self.insert_many_if_do_not_exist(ctx, [document])

    async def delete_if_exists(self, ctx: MutationCtx, document: Document) -> None:
        """Stop counting a document, if it is counted."""
        await self._tell(ctx, "delete_if_exists", self._place(document))

    async def replace_or_insert(self, ctx: MutationCtx, old: Document, new: Document) -> None:
        """Count a document as it is now, whether or not it is counted as it was."""
        await self._tell(ctx, "replace_or_insert", {"current": self._place(old), "new": self._entry(new)})

    async def insert_many(self, ctx: MutationCtx, documents: Sequence[Document]) -> None:
        """Count many documents, for much less than one by one: for tables that are filled in batches.

        Raises:
            ReactorError: one is counted already, or a number is not finite.
        """
        await self._tell(ctx, "insert_many", {"items": [self._entry(document) for document in documents]})

    async def insert_many_if_do_not_exist(self, ctx: MutationCtx, documents: Sequence[Document]) -> None:
        """Count many documents, some of which may be counted: for filling an aggregate while the table is in use."""
        items = [self._entry(document) for document in documents]
        await self._tell(ctx, "insert_many_if_not_existing", {"items": items})

    async def index_of_doc(
        self,
        ctx: QueryCtx,
        document: Document,
        *,
        order: Order = "asc",
        bounds: AnyBounds = None,
        stale: bool = False,
    ) -> int:
        """Return how many documents of its namespace are before a document; with "desc", how many behind it."""
        place = self._place(document)
        return await self.index_of(
            ctx,
            place["key"],
            id=place["id"],
            order=order,
            namespace=place["namespace"],
            bounds=bounds,
            stale=stale,
        )

    def _place(self, document: Document) -> dict[str, Any]:
        namespace = undefined if self._namespace is None else self._namespace(document)
        return {"key": self._sort_key(document), "id": document["_id"], "namespace": namespace}

    def _entry(self, document: Document) -> dict[str, Any]:
        sum_value = 0 if self._sum_value is None else self._sum_value(document)
        return {**self._place(document), "sums": _sums(sum_value)}


def _sums(sum_value: SumValue) -> Mapping[str, float]:
    return sum_value if isinstance(sum_value, Mapping) else {SUM: sum_value} if sum_value else {}


def _entry(key: Any, id: str, sum_value: SumValue, namespace: Any) -> dict[str, Any]:
    return {"key": key, "id": id, "namespace": namespace, "sums": _sums(sum_value)}


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


def _item(item: Mapping[str, Any]) -> Item:
    return Item(item["key"], item["id"], item["sums"])


def _totals(held: Mapping[str, Any]) -> Totals:
    return Totals(int(held["count"]), held["sums"])
