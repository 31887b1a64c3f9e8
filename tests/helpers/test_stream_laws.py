"""Streams, judged by a full scan: whatever is filtered, joined and merged, every page size gives the same items."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor import Int64, undefined
from reactor.helpers.streams import Stream, get_page, merged, stream
from reactor.helpers.streams.keys import comparable, read_cursor, write_cursor
from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import BlockingMemoryDeployment, MemoryDeployment
from reactor.values.order import compare
from tests.runtime.projects import write
from tests.sizes import size

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "items": define_table({"a": v.any(), "b": v.optional(v.any()), "c": v.object({"d": v.integer()})})
        .index("by_a_b", ["a", "b"]).index("by_b", ["b"]).index("by_d", ["c.d"]),
    "parents": define_table({"a": v.any(), "rank": v.integer()}).index("by_rank", ["rank"]),
})
"""
VALUES: list[Any] = [None, Int64(1), Int64(-3), 0.0, -0.0, 1.5, float("inf"), True, False, "", "a", "ab", b"\x00", b"x"]
VALUES += [[], [1.0], ["a", None], {}, {"x": 1.0}]
values = st.sampled_from(VALUES)
items = st.lists(
    st.fixed_dictionaries(
        {"a": st.sampled_from(VALUES[:6]), "c": st.builds(lambda d: {"d": d}, st.integers(0, 3))},
        optional={"b": values},
    ),
    max_size=size(9, 14),
)
Document = dict[str, Any]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockingMemoryDeployment]:
    folder: Path = write(tmp_path_factory.mktemp("streams"), {"schema.py": SCHEMA, "functions/empty.py": ""})
    project = ProjectLoader(folder).load()
    with MemoryDeployment(project, folder).blocking() as opened:
        yield opened
    project.release()


def holds(deployment: BlockingMemoryDeployment, items: list[Document], check: Callable[[Any], Any]) -> None:
    """Put `items` into the tables, in two commits, and run `check` in a mutation that sees some as its own writes."""

    async def fill(ctx: Any) -> None:
        for table in ("items", "parents"):
            for document in await ctx.db.query(table).collect():
                await ctx.db.delete(document["_id"])
        for item in items[::2]:
            await ctx.db.insert("items", item)

    async def check_all(ctx: Any) -> None:
        for item in items[1::2]:
            await ctx.db.insert("items", item)
        for rank, a in enumerate(VALUES[3::-1]):
            await ctx.db.insert("parents", {"a": a, "rank": rank // 2})
        await check(ctx)

    deployment.run(fill)
    deployment.run(check_all)


def in_order(documents: list[Document], fields: list[str], *, is_reverse: bool = False) -> list[Document]:
    """Sort by the engine's own comparison, of what documents have in `fields`."""

    def compared(one: Document, other: Document) -> int:
        for field in (*fields, "_creationTime", "_id"):
            if verdict := compare(at(one, field), at(other, field)):
                return verdict
        return 0

    return sorted(documents, key=functools.cmp_to_key(compared), reverse=is_reverse)


def at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name, undefined)
    return float(document) if type(document) is int else document


async def is_read_as(make: Callable[[], Stream], wanted: list[Any]) -> None:
    """Check every way to read a stream, and pages of every size, each read again with its end."""
    assert await make().collect() == wanted
    assert await make().first() == (wanted[0] if wanted else None)
    assert await make().take(2) == wanted[:2]
    for count in sorted({1, 2, 3, len(wanted), len(wanted) + 1} - {0}):
        found: list[Any] = []
        cursor = None
        while True:
            options = {"numItems": count, "cursor": cursor}
            page = await make().paginate(options)
            again = await make().paginate({**options, "endCursor": page["continueCursor"]})
            assert again == page
            found += page["page"]
            if page["isDone"]:
                break
            assert len(page["page"]) == count, "a page is full unless it is the last"
            cursor = page["continueCursor"]
        assert found == wanted
        assert (await make().paginate({"numItems": 1, "cursor": page["continueCursor"]}))["page"] == []
        found, cursor = [], None
        while page := await make().paginate({"numItems": 99, "cursor": cursor, "maximumRowsRead": count}):
            found, cursor = found + page["page"], page["continueCursor"]
            if page["isDone"]:
                break
        assert found == wanted, "also when a number of rows ends the page"


def bounded(document: Document, field: str, bounds: list[tuple[str, Any]]) -> bool:
    tests = {"gt": lambda x: x > 0, "gte": lambda x: x >= 0, "lt": lambda x: x < 0, "lte": lambda x: x <= 0}
    return all(tests[operator](compare(at(document, field), value)) for operator, value in bounds)


few = settings(max_examples=size(25, 1000))
bounds = st.tuples(
    st.lists(st.tuples(st.sampled_from(["gt", "gte"]), values), max_size=1),
    st.lists(st.tuples(st.sampled_from(["lt", "lte"]), values), max_size=1),
).map(lambda both: both[0] + both[1])
orders = st.sampled_from(["asc", "desc"])


def ranged(field: str, bounds: list[tuple[str, Any]], *equal: tuple[str, Any]) -> Callable[[Any], Any]:
    def build(q: Any) -> Any:
        for name, value in equal:
            q = q.eq(name, value)
        for operator, value in bounds:
            q = getattr(q, operator)(field, value)
        return q

    return build


@few
@given(items=items, bounds=bounds, order=orders, keeps=st.integers(0, 3), fixed=st.none() | st.sampled_from(VALUES[:4]))
def test_a_filtered_range_is_a_filtered_scan(
    deployment: BlockingMemoryDeployment, items: list[Document], bounds: Any, order: Any, keeps: int, fixed: Any
) -> None:
    async def check(ctx: Any) -> None:
        scanned = await ctx.db.query("items").collect()
        kept = [document for document in scanned if document["c"]["d"] >= keeps and bounded(document, "b", bounds)]

        def by_b() -> Stream:
            begun = stream(ctx.db).query("items").with_index("by_b", ranged("b", bounds)).order(order)
            return begun.filter_with(lambda document: document["c"]["d"] >= keeps)

        def of_one() -> Stream:
            narrow = ranged("b", bounds, ("a", fixed))
            begun = stream(ctx.db).query("items").order(order).with_index("by_a_b", narrow)
            return begun.filter_with(lambda document: document["c"]["d"] >= keeps).map(lambda document: document["_id"])

        await is_read_as(by_b, in_order(kept, ["b"], is_reverse=order == "desc"))
        same = [document for document in kept if compare(document["a"], fixed) == 0]
        await is_read_as(of_one, [one["_id"] for one in in_order(same, ["b"], is_reverse=order == "desc")])

    holds(deployment, items, check)


@few
@given(items=items, order=orders, keeps=st.integers(0, 2), chosen=st.lists(st.sampled_from(VALUES[:6]), min_size=1))
def test_a_merged_filtered_stream_is_a_sorted_scan(
    deployment: BlockingMemoryDeployment, items: list[Document], order: Any, keeps: int, chosen: list[Any]
) -> None:
    async def check(ctx: Any) -> None:
        def part(a: Any) -> Stream:
            one = stream(ctx.db).query("items").with_index("by_a_b", a=a).order(order)
            return one.filter_with(lambda document: document["c"]["d"] >= keeps)

        def all_of_them() -> Stream:
            whole = stream(ctx.db).query("items").with_index("by_b").order(order)
            return merged([*map(part, chosen), whole.filter_with(lambda document: document["c"]["d"] == 0)], ["b"])

        scanned = await ctx.db.query("items").collect()
        wanted = [
            document
            for document in scanned
            if document["c"]["d"] == 0
            or (document["c"]["d"] >= keeps and any(compare(document["a"], a) == 0 for a in chosen))
        ]
        await is_read_as(all_of_them, in_order(wanted, ["b"], is_reverse=order == "desc"))

    holds(deployment, items, check)


@few
@given(items=items, order=orders, keeps=st.integers(0, 2))
def test_a_join_is_two_loops(
    deployment: BlockingMemoryDeployment, items: list[Document], order: Any, keeps: int
) -> None:
    async def check(ctx: Any) -> None:
        def children(parent: Document) -> Stream:
            return stream(ctx.db).query("items").with_index("by_a_b", a=parent["a"]).order(order)

        def joined() -> Stream:
            parents = stream(ctx.db).query("parents").with_index("by_rank").order(order)
            kept = parents.filter_with(lambda parent: parent["rank"] >= keeps)
            return kept.flat_map(children, ["a", "b"]).filter_with(lambda item: item["c"]["d"] > 0)

        parents = in_order(await ctx.db.query("parents").collect(), ["rank"], is_reverse=order == "desc")
        scanned = in_order(await ctx.db.query("items").collect(), ["b"], is_reverse=order == "desc")
        wanted = [
            item
            for parent in parents
            if parent["rank"] >= keeps
            for item in scanned
            if compare(item["a"], parent["a"]) == 0 and item["c"]["d"] > 0
        ]
        await is_read_as(joined, wanted)

    holds(deployment, items, check)


@few
@given(items=items, order=orders, keeps=st.integers(0, 2))
def test_distinct_keeps_the_first_of_each(
    deployment: BlockingMemoryDeployment, items: list[Document], order: Any, keeps: int
) -> None:
    async def check(ctx: Any) -> None:
        def firsts() -> Stream:
            whole = stream(ctx.db).query("items").with_index("by_a_b").order(order)
            return whole.filter_with(lambda item: item["c"]["d"] >= keeps).distinct(["a"])

        wanted: list[Document] = []
        for item in in_order(await ctx.db.query("items").collect(), ["a", "b"], is_reverse=order == "desc"):
            if item["c"]["d"] >= keeps and not (wanted and compare(wanted[-1]["a"], item["a"]) == 0):
                wanted.append(item)
        await is_read_as(firsts, wanted)
        pairs = stream(ctx.db).query("items").with_index("by_a_b").order(order).distinct(["b", "a"])
        found = [(comparable(item["a"]), comparable(at(item, "b"))) for item in await pairs.collect()]
        scanned = await ctx.db.query("items").collect()
        every = {(comparable(item["a"]), comparable(at(item, "b"))) for item in scanned}
        assert found == sorted(every, reverse=order == "desc")

    holds(deployment, items, check)


@given(items=items, order=orders, count=st.integers(1, 5), most=st.none() | st.integers(1, 6))
def test_pages_of_an_index_lie_between_their_keys(
    deployment: BlockingMemoryDeployment, items: list[Document], order: Any, count: int, most: int | None
) -> None:
    async def check(ctx: Any) -> None:
        scanned = in_order(await ctx.db.query("items").collect(), ["c.d"], is_reverse=order == "desc")
        found: list[Document] = []
        key = None
        while True:
            page = await get_page(
                ctx.db, "items", index="by_d", start_key=key, order=order, target_max_rows=count, absolute_max_rows=most
            )
            assert len(page.page) == len(page.index_keys) <= min(count, most or count)
            if page.page:
                again = await get_page(
                    ctx.db, "items", index="by_d", start_key=key, end_key=page.index_keys[-1], order=order
                )
                assert (again.page, again.has_more) == (page.page, False)
                first = page.index_keys[0]
                one = await get_page(
                    ctx.db, "items", index="by_d", start_key=first, start_inclusive=True, end_key=first, order=order
                )
                assert one.page == page.page[:1]
                none = await get_page(
                    ctx.db, "items", index="by_d", start_key=first, end_key=first, end_inclusive=False, order=order
                )
                assert none.page == []
            found += page.page
            if not page.has_more:
                break
            key = page.index_keys[-1]
        assert found == scanned

    holds(deployment, items, check)


nested = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.builds(Int64, st.integers(-(2**63), 2**63 - 1)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, max_size=3),
    max_leaves=6,
)


@given(nested, nested)
def test_keys_sort_as_the_database_does(a: Any, b: Any) -> None:
    assert (comparable(a) < comparable(b)) == (compare(a, b) < 0)
    assert (comparable(a) == comparable(b)) == (compare(a, b) == 0)
    assert comparable(undefined) < comparable(a)


@given(st.lists(nested | st.just(undefined), min_size=1, max_size=4))
def test_a_cursor_is_the_key_it_was_made_of(key: list[Any]) -> None:
    read = read_cursor(write_cursor(tuple(key)), len(key))
    assert read is not None
    assert [comparable(value) for value in read] == [comparable(value) for value in key]
    assert [type(value) for value in read] == [type(value) for value in key]
