"""What an aggregate answers, on items that a test puts in."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from reactor import Int64, ReactorError, components, undefined
from reactor.components.aggregate import Bound, Bounds, DirectAggregate
from reactor.testing.deployment import MemoryDeployment

direct = DirectAggregate(components.aggregate)

Run = Callable[[Any], Awaitable[Any]]


async def fill(deployment: MemoryDeployment, keys: list[Any], namespace: Any = undefined, size: int = 4) -> None:
    """Put in an item of each key; its id is its number, and so is what is summed."""

    async def put(ctx: Any) -> None:
        await direct.clear(ctx, namespace=namespace, max_node_size=size)
        await direct.insert_many(ctx, [(key, f"id {n:03}", n, namespace) for n, key in enumerate(keys)])

    await deployment.run(put)


async def keys_of(deployment: MemoryDeployment, **options: Any) -> list[Any]:
    async def read(ctx: Any) -> list[Any]:
        return [item.key async for item in direct.iterate(ctx, page_size=3, **options)]

    keys: Any = await deployment.run(read)
    return list(keys)


BOUNDED = [
    (None, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    (Bounds(lower=Bound(3)), [3, 4, 5, 6, 7, 8, 9]),
    (Bounds(lower=Bound(3, inclusive=False)), [4, 5, 6, 7, 8, 9]),
    (Bounds(upper=Bound(3)), [0, 1, 2, 3]),
    (Bounds(upper=Bound(3, inclusive=False)), [0, 1, 2]),
    (Bounds(Bound(3), Bound(6)), [3, 4, 5, 6]),
    (Bounds(Bound(3, inclusive=False), Bound(6, inclusive=False)), [4, 5]),
    (Bounds(Bound(3), Bound(3)), [3]),
    (Bounds(Bound(3, inclusive=False), Bound(3)), []),
    (Bounds(Bound(3), Bound(3, inclusive=False)), []),
    (Bounds(Bound(6), Bound(3)), []),
    (Bounds(Bound(2.5), Bound(4.5)), [3, 4]),
    (Bounds(eq=5), [5]),
    (Bounds(eq=5.5), []),
    (Bounds(Bound(3, id="id 003"), Bound(5, id="id 005", inclusive=False)), [3, 4]),
    (Bounds(Bound(3, id="id 003", inclusive=False), Bound(5, id="id 005")), [4, 5]),
    (Bounds(Bound(3, id="id 004"), Bound(5, id="id 004")), [4]),
    ({"lower": {"key": 3, "inclusive": True}, "upper": {"key": 5, "inclusive": False}}, [3, 4]),
    ({"eq": 5}, [5]),
]


@pytest.mark.parametrize(("bounds", "expected"), BOUNDED, ids=str)
async def test_bounds_include_or_exclude_their_ends_in_every_question(
    deployment: MemoryDeployment, bounds: Any, expected: list[int]
) -> None:
    await fill(deployment, list(range(10)))
    await fill(deployment, [3, 4, 5], namespace="other")

    async def ask(ctx: Any) -> None:
        assert await direct.count(ctx, bounds=bounds) == len(expected)
        assert await direct.sum(ctx, bounds=bounds) == sum(expected)
        first, last = await direct.min(ctx, bounds=bounds), await direct.max(ctx, bounds=bounds)
        assert [first and first.key, last and last.key] == [*(expected or [None])[:1], *(expected or [None])[-1:]]
        for place, key in enumerate(expected):
            assert (await direct.at(ctx, place, bounds=bounds)).key == key
            assert (await direct.at(ctx, place - len(expected), bounds=bounds)).key == key
            assert await direct.index_of(ctx, key, bounds=bounds) == place
            assert await direct.index_of(ctx, key, bounds=bounds, order="desc") == len(expected) - 1 - place
        chosen = await direct.random(ctx, bounds=bounds)
        assert (chosen and chosen.key) in (expected or [None])

    await deployment.run(ask)
    assert await keys_of(deployment, bounds=bounds) == expected
    assert await keys_of(deployment, bounds=bounds, order="desc") == expected[::-1]


ARRAYS: list[Any] = [["a"], ["a", 1], ["a", 1, None], ["a", 2], ["a", [1]], ["b"], ["b", 0], ["ba", 1], "a", []]
PREFIXES: list[tuple[list[Any], list[Any]]] = [
    (["a"], [["a"], ["a", 1], ["a", 1, None], ["a", 2], ["a", [1]]]),
    (["a", 1], [["a", 1], ["a", 1, None]]),
    (["a", 1, None], [["a", 1, None]]),
    (["b"], [["b"], ["b", 0]]),
    (["c"], []),
    ([], [[], ["a"], ["a", 1], ["a", 1, None], ["a", 2], ["a", [1]], ["b"], ["b", 0], ["ba", 1]]),
]


@pytest.mark.parametrize(("prefix", "expected"), PREFIXES, ids=str)
async def test_a_prefix_is_all_array_keys_that_begin_with_it(
    deployment: MemoryDeployment, prefix: list[Any], expected: list[Any]
) -> None:
    await fill(deployment, ARRAYS)
    await fill(deployment, [["a", 1]], namespace="other")
    bounds = Bounds(prefix=prefix)

    assert await keys_of(deployment, bounds=bounds) == expected
    assert await deployment.run(lambda ctx: direct.count(ctx, bounds=bounds)) == len(expected)
    eq = await keys_of(deployment, bounds=Bounds(eq=prefix))
    assert eq == [key for key in expected if key == prefix]


async def test_keys_of_every_type_are_in_the_order_of_the_database(deployment: MemoryDeployment) -> None:
    keys = [None, Int64(-5), Int64(7), -1.5, 0, 1, float("inf"), float("nan"), False, True, "", "a", "é", b"", b"a"]
    keys += [[], [1.0], {}, {"a": 1.0}]
    await fill(deployment, keys[::-1])
    found = await keys_of(deployment)
    assert list(map(repr, found)) == [repr(float(key)) if type(key) is int else repr(key) for key in keys]
    # A page ends behind any of them.
    assert list(map(repr, await keys_of(deployment, order="desc"))) == list(map(repr, found[::-1]))


async def test_equal_keys_are_told_apart_by_their_ids(deployment: MemoryDeployment) -> None:
    await fill(deployment, [7] * 9)

    async def ask(ctx: Any) -> None:
        for place in range(9):
            assert (await direct.at(ctx, place)).id == f"id {place:03}"
            assert await direct.index_of(ctx, 7, id=f"id {place:03}") == place
        assert await direct.index_of(ctx, 7) == 0
        assert await direct.index_of(ctx, 7, order="desc") == 0
        assert await direct.count(ctx, bounds=Bounds(eq=7)) == 9

    await deployment.run(ask)


async def test_pages_are_of_the_size_asked_for_and_end_with_an_empty_cursor(deployment: MemoryDeployment) -> None:
    await fill(deployment, list(range(7)))

    async def ask(ctx: Any) -> None:
        first = await direct.paginate(ctx, page_size=3)
        assert [item.key for item in first.page] == [0, 1, 2]
        assert not first.is_done
        rest = await direct.paginate(ctx, page_size=4, cursor=first.cursor)
        assert [item.key for item in rest.page] == [3, 4, 5, 6]
        assert rest.is_done
        assert rest.cursor == ""
        # A cursor leads nowhere that the bounds exclude.
        bounds = Bounds(Bound(4), Bound(5))
        for order in ("asc", "desc"):
            last = await direct.paginate(ctx, order=order, page_size=1)
            inside = await direct.paginate(ctx, order=order, cursor=last.cursor, bounds=bounds)
            assert sorted(item.key for item in inside.page) == [4, 5]
        beyond = await direct.paginate(ctx, cursor="")
        assert (beyond.page, beyond.is_done) == ([], True)
        with pytest.raises(ReactorError, match="limit must be positive"):
            await direct.paginate(ctx, page_size=0)
        for cursor in ("nonsense", "{}", "[1]", "[1,2]", "[" * 100_000, f'[{2**63},"x"]'):
            with pytest.raises(ReactorError, match="invalid cursor"):
                await direct.paginate(ctx, cursor=cursor)

    await deployment.run(ask)


async def test_a_page_goes_on_where_it_was_whatever_was_written_meanwhile(deployment: MemoryDeployment) -> None:
    await fill(deployment, [0, 2, 4, 6])

    async def ask(ctx: Any) -> None:
        page = await direct.paginate(ctx, page_size=2)
        await direct.delete(ctx, key=2, id="id 001")
        await direct.insert(ctx, key=1, id="before")
        await direct.insert(ctx, key=3, id="behind")
        rest = await direct.paginate(ctx, cursor=page.cursor)
        assert [item.key for item in rest.page] == [3, 4, 6]

    await deployment.run(ask)


async def test_percentiles_are_the_first_items_with_so_many_up_to_them(deployment: MemoryDeployment) -> None:
    await fill(deployment, list(range(1, 101)))

    async def ask(ctx: Any) -> None:
        found = await direct.percentiles(ctx, [0, 0.01, 0.5, 0.95, 0.991, 1])
        assert [item.key for item in found] == [1, 1, 50, 95, 100, 100]
        odd = await direct.percentile(ctx, 0.5, bounds=Bounds(Bound(11), Bound(13)))
        assert odd is not None
        assert odd.key == 12
        assert await direct.percentile(ctx, 0.5, namespace="nothing") is None
        assert await direct.percentile(ctx, 0.5, bounds=Bounds(eq=1000)) is None
        for fraction in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="between 0 and 1"):
                await direct.percentile(ctx, fraction)

    await deployment.run(ask)


async def test_chance_gives_every_item_alike(deployment: MemoryDeployment) -> None:
    await fill(deployment, list(range(8)))

    async def draw(ctx: Any) -> list[float]:
        drawn = [await direct.random(ctx) for _ in range(400)]
        return [item.key for item in drawn if item is not None]

    drawn: Any = await deployment.run(draw)
    assert len(drawn) == 400
    assert all(20 <= drawn.count(key) <= 90 for key in range(8)), "50 are expected of each"


async def test_where_nothing_is(deployment: MemoryDeployment) -> None:
    async def ask(ctx: Any) -> None:
        assert await direct.count(ctx) == 0
        assert await direct.sum(ctx) == 0
        assert await direct.index_of(ctx, 5) == 0
        assert [await direct.min(ctx), await direct.max(ctx), await direct.random(ctx)] == [None, None, None]
        assert (await direct.paginate(ctx)).is_done
        with pytest.raises(ReactorError, match="tree is empty"):
            await direct.at(ctx, 0)
        await direct.insert(ctx, key=1, id="a")
        assert (await direct.at(ctx, -1)).key == 1
        for offset in (3, -4):
            with pytest.raises(ReactorError, match="offset exceeded count by 2"):
                await direct.at(ctx, offset)
        with pytest.raises(ValueError, match="offset must be an integer"):
            await direct.at(ctx, 0.5)  # type: ignore[arg-type]

    await deployment.run(ask)


async def test_batches_answer_as_single_questions_do(deployment: MemoryDeployment) -> None:
    await fill(deployment, list(range(30)))
    await fill(deployment, [5, 6], namespace="other")
    ranges: list[Any] = [
        (undefined, None),
        ("other", Bounds(lower=Bound(6))),
        (undefined, Bounds(Bound(3), Bound(20))),
        ("none", None),
    ]

    async def ask(ctx: Any) -> None:
        assert await direct.count_batch(ctx, ranges) == [30, 1, 18, 0]
        assert await direct.sum_batch(ctx, ranges) == [435, 1, 207, 0]
        found = await direct.at_batch(ctx, [(0, undefined, None), (-1, "other", None), (2, *ranges[2])])
        assert [item.key for item in found] == [0, 6, 5]
        assert await direct.at_batch(ctx, []) == []

    await deployment.run(ask)


async def test_a_batch_reads_what_its_questions_share_only_once(deployment: MemoryDeployment) -> None:
    await fill(deployment, list(range(100)))
    bounds = Bounds(Bound(33), Bound(66))

    async def one(ctx: Any) -> None:
        await direct.count(ctx, bounds=bounds)

    async def batch(ctx: Any) -> None:
        await direct.count_batch(ctx, [(undefined, bounds)] * 10)

    with deployment.record_usage() as runs:
        await deployment.run(one)
        await deployment.run(batch)
    assert runs[0].documents_read == runs[1].documents_read


async def test_namespaces_are_listed_and_never_meet(deployment: MemoryDeployment) -> None:
    names: list[Any] = [None, "a", 1, True, [1], {"of": "an object"}]
    for number, name in enumerate(names):
        await fill(deployment, [number] * (number + 1), namespace=name)
    await fill(deployment, [0])

    async def ask(ctx: Any) -> None:
        listed = [name async for name in direct.namespaces(ctx, page_size=2)]
        assert len(listed) == len(names)
        assert all(name in listed for name in names), "and the absent one has no value"
        for number, name in enumerate(names):
            assert await direct.count(ctx, namespace=name) == number + 1
            assert await direct.sum(ctx, namespace=name) == sum(range(number + 1))
        assert await direct.count(ctx) == 1

    await deployment.run(ask)


async def test_several_sums_are_kept_side_by_side(deployment: MemoryDeployment) -> None:
    async def ask(ctx: Any) -> None:
        await direct.clear(ctx, max_node_size=4)
        for number in range(20):
            sums: dict[str, float] = {"cost": number * 1_000_003, "tokens": 2}
            if number == 7:
                sums = {"failed": 1}
            await direct.insert(ctx, key=number, id=f"{number}", sum_value=sums)
        totals = await direct.totals(ctx, bounds=Bounds(lower=Bound(5)))
        assert totals.count == 15
        assert totals.sums == {"cost": sum(n * 1_000_003 for n in range(5, 20) if n != 7), "tokens": 28, "failed": 1}
        assert await direct.sum(ctx, "tokens") == 38
        assert totals["unknown"] == totals.sum == 0
        item = await direct.at(ctx, 7)
        assert (item.sums, item.sum_value) == ({"failed": 1}, 0)
        await direct.delete(ctx, key=7, id="7")
        assert (await direct.totals(ctx)).sums.keys() == {"cost", "tokens"}

    await deployment.run(ask)


async def test_sums_of_whole_numbers_are_exact_and_others_as_exact_as_can_be(deployment: MemoryDeployment) -> None:
    """Rounding step by step would give 0.3000…04, and lose every small number beside a large one."""

    async def ask(ctx: Any) -> None:
        await direct.clear(ctx, max_node_size=4)
        large = [2**53 - 41] + [1] * 40
        for number, value in enumerate(large):
            await direct.insert(ctx, key=number, id=f"{number}", sum_value=value)
        assert await direct.sum(ctx) == 2**53 - 1
        await direct.delete(ctx, key=0, id="0")
        assert await direct.sum(ctx) == 40
        for number in range(10):
            await direct.insert(ctx, key=0.1, id=f"{number}", sum_value=0.1, namespace="tenths")
        assert await direct.sum(ctx, namespace="tenths") == 1.0
        for value in (float("nan"), float("inf")):
            with pytest.raises(ReactorError, match="only finite numbers add up"):
                await direct.insert(ctx, key=1, id="x", sum_value=value)

    await deployment.run(ask)


async def test_two_mounts_never_meet(deployment: MemoryDeployment) -> None:
    await fill(deployment, [1, 2])
    other = DirectAggregate(components.imported)
    assert await deployment.run(lambda ctx: other.count(ctx)) == 0


def test_bounds_of_two_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="give one of the three"):
        Bounds(lower=Bound(1), eq=2)
    with pytest.raises(ValueError, match="give one of the three"):
        Bounds(prefix=[], eq=None)
