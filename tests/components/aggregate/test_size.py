"""What questions and writes cost: as many documents as the tree has levels, however many items it holds."""

import math
import random
from typing import Any

import pytest

from reactor import components, undefined
from reactor.components.aggregate import Bound, Bounds, DirectAggregate
from reactor.components.aggregate.trees import DEFAULT_MAX_NODE_SIZE
from reactor.testing.deployment import MemoryDeployment
from tests.sizes import size

direct = DirectAggregate(components.aggregate)
ITEMS = size(6_000, 100_000)
BATCH = 1000
LEVELS = math.ceil(math.log(ITEMS, DEFAULT_MAX_NODE_SIZE / 2))  # where every node is as empty as it may be
TREE = 1  # the document of the tree


def price(number: int) -> int:
    """Return micro-units, as an application sums them."""
    return (number * 7_919_003) % 50_000_000


@pytest.mark.parametrize("root_lazy", [True, False])
async def test_a_range_reads_two_documents_for_each_level(deployment: MemoryDeployment, root_lazy: bool) -> None:
    """The keys ascend, as times do: the worst case, which leaves every node half empty."""
    root = DEFAULT_MAX_NODE_SIZE + 1 if root_lazy else 0  # subtrees of a lazy root are looked at

    async def put(ctx: Any, start: int) -> None:
        items = [(float(n), f"id {n}", {"price": price(n)}, undefined) for n in range(start, start + BATCH)]
        await direct.insert_many(ctx, items)

    await deployment.run(lambda ctx: direct.clear(ctx, root_lazy=root_lazy))
    for start in range(0, ITEMS, BATCH):
        await deployment.run(lambda ctx, start=start: put(ctx, start))
    rng = random.Random(7)
    prices = [price(n) for n in range(ITEMS)]
    for _ in range(20):
        low, high = sorted(rng.sample(range(ITEMS), 2))
        bounds = Bounds(Bound(low), Bound(high, inclusive=False))

        async def ask(ctx: Any, bounds: Bounds = bounds) -> list[float]:
            totals = await direct.totals(ctx, bounds=bounds)
            return [totals.count, totals["price"]]

        with deployment.record_usage() as runs:
            assert await deployment.run(ask) == [high - low, sum(prices[low:high])]
        assert runs[0].documents_read <= TREE + 2 * LEVELS + root

    with deployment.record_usage() as runs:
        await deployment.run(lambda ctx: direct.count(ctx))
        await deployment.run(lambda ctx: direct.count(ctx, bounds=Bounds(eq=ITEMS / 2)))
        await deployment.run(lambda ctx: direct.insert(ctx, key=ITEMS / 2, id="one more"))
        await deployment.run(lambda ctx: percentiles_of(ctx))
    assert runs[0].documents_read <= TREE + 1 + root, "all of it is known at the root"
    assert runs[1].documents_read <= TREE + 2 * LEVELS
    assert runs[2].documents_written <= LEVELS + 1, "a path, and what one split adds"
    assert runs[3].documents_read <= TREE + 3 * LEVELS + root, "the three share the root and its subtrees"


async def percentiles_of(ctx: Any) -> None:
    found = await direct.percentiles(ctx, [0.5, 0.95, 0.99])
    assert [item.key for item in found] == pytest.approx([f * ITEMS for f in (0.5, 0.95, 0.99)], abs=2)


async def test_a_node_is_far_from_the_limit_of_a_document(deployment: MemoryDeployment) -> None:
    """Keys as long as names of things are, and three sums: a few KB of the 1 MiB that a document may have."""
    sums = {"cost": 1.5, "tokens": 2, "failed": 1}
    items = [([f"name of some thing {n:08}", float(n)], f"{n:032}", sums, undefined) for n in range(BATCH)]
    await deployment.run(lambda ctx: direct.insert_many(ctx, items))
    with deployment.record_usage() as runs:
        await deployment.run(lambda ctx: direct.insert(ctx, key=["name", 0.5], id=f"{0:032}", sum_value=sums))
    assert runs[0].bytes_written / runs[0].documents_written < 4096
