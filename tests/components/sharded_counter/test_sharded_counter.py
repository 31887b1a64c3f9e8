"""Counters spread over shards: what they add up to, and which documents they touch."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor import ReactorError, components
from reactor.components.sharded_counter import ShardedCounter
from reactor.components.sharded_counter.spread import spread
from reactor.testing.deployment import MemoryDeployment
from tests.sizes import size

counter = ShardedCounter(components.sharded_counter)


async def shards_of(deployment: MemoryDeployment, name: str) -> dict[int, float]:
    instance = deployment.component("sharded_counter")
    found: Any = await instance.run(lambda ctx: ctx.db.query("counters").with_index("name", name=name).collect())
    return {int(shard["shard"]): shard["value"] for shard in found}


async def test_adds_and_subtractions_add_up_whatever_the_number_of_shards(deployment: MemoryDeployment) -> None:
    for shards, count in ((1, 10), (16, 5), (3, -5)):
        some = ShardedCounter(components.sharded_counter, shards={"beans": shards})
        await deployment.run(lambda ctx, some=some, count=count: some.add(ctx, "beans", count))
    assert await deployment.run(lambda ctx: counter.count(ctx, "beans")) == 10
    assert await deployment.run(lambda ctx: counter.count(ctx, "others")) == 0


async def test_inc_dec_and_subtract_may_go_below_zero(deployment: MemoryDeployment) -> None:
    async def change(ctx: Any) -> float:
        beans = counter.for_name("beans")
        await beans.inc(ctx)
        await beans.dec(ctx)
        await beans.dec(ctx)
        await beans.subtract(ctx, 3)
        await beans.add(ctx, 1.5)
        return await beans.count(ctx)

    assert await deployment.run(change) == -2.5


async def test_one_mutation_writes_one_shard_and_many_write_many(deployment: MemoryDeployment) -> None:
    """Sticky within a transaction; a shard that is chosen once and for all would make all writers meet there."""

    async def add_ten_times(ctx: Any) -> None:
        for _ in range(10):
            await counter.inc(ctx, "beans")

    await deployment.run(add_ten_times)
    assert sorted((await shards_of(deployment, "beans")).values()) == [10]
    for _ in range(30):
        await deployment.run(add_ten_times)
    shards = await shards_of(deployment, "beans")
    assert len(shards) > 8
    assert sum(shards.values()) == 310
    assert all(shard in range(16) for shard in shards)


async def test_names_do_not_share_their_shard(deployment: MemoryDeployment) -> None:
    async def add_to_many(ctx: Any) -> None:
        for number in range(40):
            await counter.inc(ctx, f"name {number}")

    await deployment.run(add_to_many)
    chosen = {shard for number in range(40) for shard in await shards_of(deployment, f"name {number}")}
    assert len(chosen) > 8


async def test_a_given_shard_is_used(deployment: MemoryDeployment) -> None:
    counters = components.sharded_counter.counters
    asked = {"name": "beans", "count": 2, "shards": 16, "shard": 5}
    assert await deployment.run(lambda ctx: ctx.run_mutation(counters.add, asked)) == 5
    assert await shards_of(deployment, "beans") == {5: 2}


async def test_adding_from_two_mutations_at_a_time_loses_nothing(deployment: MemoryDeployment) -> None:
    """One is held with its shard read and written; the other takes another shard, or makes it run again."""
    attempts = set()
    for _ in range(size(8, 40)):
        async with deployment.hold("beans:add_in_turn", {"counts": [1, 10]}, at=2) as held:
            await deployment.mutation("beans:add_in_turn", counts=[100])
            await held.finish()
            attempts.add(held.attempts)
    assert attempts == {1, 2}, "with two shards, both happen"
    assert await deployment.run(lambda ctx: counter.count(ctx, "beans")) == size(8, 40) * 111


async def test_an_action_adds_in_transactions_of_their_own(deployment: MemoryDeployment) -> None:
    assert await deployment.action("beans:add_in_action", counts=[1.0] * 20) == 20
    assert len(await shards_of(deployment, "beans")) == 2


async def test_two_mounts_never_meet(deployment: MemoryDeployment) -> None:
    others = ShardedCounter(components.others)
    await deployment.run(lambda ctx: counter.add(ctx, "beans", 5))
    assert await deployment.run(lambda ctx: others.count(ctx, "beans")) == 0


async def test_reset_and_rebalance(deployment: MemoryDeployment) -> None:
    many = ShardedCounter(components.sharded_counter, default_shards=100)
    few = ShardedCounter(components.sharded_counter, shards={"beans": 8}, default_shards=3)
    for _ in range(20):
        await deployment.run(lambda ctx: many.add(ctx, "beans", 5))
    await deployment.run(lambda ctx: few.rebalance(ctx, "beans"))
    assert await shards_of(deployment, "beans") == dict.fromkeys(range(4), 13) | dict.fromkeys(range(4, 8), 12)
    assert await deployment.run(lambda ctx: few.count(ctx, "beans")) == 100

    await deployment.run(lambda ctx: few.reset(ctx, "beans"))
    assert await deployment.run(lambda ctx: few.count(ctx, "beans")) == 0
    assert await shards_of(deployment, "beans") == {}


async def test_after_a_rebalance_every_estimate_is_close(deployment: MemoryDeployment) -> None:
    for _ in range(10):
        await deployment.run(lambda ctx: counter.add(ctx, "beans", 163))
    await deployment.run(lambda ctx: counter.rebalance(ctx, "beans"))
    for shards in range(-1, 20):
        estimate = await deployment.run(lambda ctx, shards=shards: counter.estimate_count(ctx, "beans", shards))
        assert estimate == pytest.approx(1630, abs=16)


async def test_an_estimate_ignores_shards_beyond_and_counts_missing_ones_as_zero(deployment: MemoryDeployment) -> None:
    counters = components.sharded_counter.counters

    async def fill(ctx: Any) -> None:
        for shard, value in ((0, 10), (9, 1000)):
            await ctx.run_mutation(counters.add, name="beans", count=value, shards=4, shard=shard)

    await deployment.run(fill)
    few = ShardedCounter(components.sharded_counter, default_shards=4)
    assert await deployment.run(lambda ctx: few.estimate_count(ctx, "beans", 4)) == 10
    ones = {await deployment.run(lambda ctx: few.estimate_count(ctx, "beans")) for _ in range(30)}
    assert ones == {0, 40}


@pytest.mark.parametrize("count", [float("nan"), float("inf")])
async def test_what_is_not_finite_is_refused(deployment: MemoryDeployment, count: float) -> None:
    with pytest.raises(ReactorError, match="only finite numbers"):
        await deployment.run(lambda ctx: counter.add(ctx, "beans", count))


def test_a_counter_without_shards_is_refused() -> None:
    with pytest.raises(ValueError, match="1 shard or more, not 0"):
        ShardedCounter(components.sharded_counter, shards={"beans": 0})


@given(total=st.integers(-(2**53), 2**53), shards=st.integers(1, 200))
def test_what_is_whole_stays_whole(total: int, shards: int) -> None:
    values = spread(float(total), shards)
    assert len(values) == shards
    assert all(value.is_integer() for value in values)
    assert sum(map(int, values)) == total
    assert max(values) - min(values) <= 1


@given(total=st.floats(-1e9, 1e9), shards=st.integers(1, 200))
def test_what_is_not_whole_is_spread_as_evenly(total: float, shards: int) -> None:
    values = spread(total, shards)
    assert sum(values) == pytest.approx(total, abs=1e-3)
    assert max(values) - min(values) <= 1


CHANGES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1000, 1000), st.integers(1, 20)), max_size=30)


@given(changes=CHANGES)
def test_any_updates_equal_those_of_a_map(changes: list[tuple[str, int, int]], make_deployment: Any) -> None:
    expected: dict[str, int] = {}
    with make_deployment().blocking() as deployment:

        async def apply(ctx: Any) -> list[float]:
            for name, count, shards in changes:
                some = ShardedCounter(components.sharded_counter, default_shards=shards)
                await some.add(ctx, name, count)
                if count % 7 == 0:
                    await some.rebalance(ctx, name)
            return [await counter.count(ctx, name) for name in "abc"]

        for name, count, _ in changes:
            expected[name] = expected.get(name, 0) + count
        assert deployment.run(apply) == [expected.get(name, 0) for name in "abc"]
