"""What changes an aggregate: by hand, by triggers, from mutations that run at a time, and anew."""

from typing import Any

import pytest

from reactor import ReactorError, components, undefined
from reactor.components.aggregate import Bound, Bounds, DirectAggregate, TableAggregate
from reactor.components.aggregate.trees import NODES_PER_DELETION
from reactor.testing.deployment import MemoryDeployment

direct = DirectAggregate(components.aggregate)
by_game = TableAggregate(
    components.games,
    namespace=lambda score: score["game"],
    sort_key=lambda score: score["points"],
    sum_value=lambda score: {"points": score["points"], "cost": score["cost"]},
)
by_player = TableAggregate(
    components.players, sort_key=lambda score: [score["player"], score["points"]], sum_value=lambda score: score["cost"]
)
imported = TableAggregate(
    components.imported, namespace=lambda score: score["game"] or None, sort_key=lambda score: score["points"]
)


def score(points: float, game: str = "chess", player: str = "ann", cost: int = 1) -> dict[str, Any]:
    return {"game": game, "player": player, "points": points, "cost": cost}


async def nodes_of(deployment: MemoryDeployment, instance: str = "aggregate") -> list[dict[str, Any]]:
    nodes: Any = await deployment.component(instance).run(lambda ctx: ctx.db.query("btreeNode").collect())
    return list(nodes)


# By hand.


async def test_what_is_there_or_is_not_is_told_by_its_error(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        await direct.insert(ctx, key=1, id="a")
        with pytest.raises(ReactorError, match=r"key \[1.0, 'a'\] already exists in node ") as twice:
            await direct.insert(ctx, key=1, id="a", sum_value=5)
        assert isinstance(twice.value.data, str)
        for missing in ({"key": 1, "id": "b"}, {"key": 2, "id": "a"}, {"key": 1, "id": "a", "namespace": "x"}):
            with pytest.raises(ReactorError) as error:
                await direct.delete(ctx, **missing)
            assert error.value.data["code"] == "DELETE_MISSING_KEY"
            assert set(error.value.data) == {"code", "message"}
        with pytest.raises(ReactorError) as error:
            await direct.replace(ctx, current_key=2, key=3, id="a")
        assert error.value.data["code"] == "DELETE_MISSING_KEY"
        await direct.insert(ctx, key=9, id="a")
        with pytest.raises(ReactorError, match="already exists"):
            await direct.replace(ctx, current_key=1, key=9, id="a")
        assert [item.key async for item in direct.iterate(ctx)] == [1, 9]
        assert [name async for name in direct.namespaces(ctx)] == [], "asking makes no namespace"

    await deployment.run(write)


async def test_replace_moves_an_item_also_to_another_namespace(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        await direct.insert(ctx, key=1, id="a", sum_value=5)
        await direct.replace(ctx, current_key=1, key=2, id="a", sum_value=7)
        assert await direct.sum(ctx, bounds=Bounds(eq=2)) == await direct.sum(ctx) == 7
        await direct.replace(ctx, current_key=2, key=2, id="a", sum_value=9)
        assert (await direct.totals(ctx)).sum == 9
        await direct.replace(ctx, current_key=2, key=3, id="a", sum_value=1, namespace="other")
        assert [await direct.count(ctx), await direct.sum(ctx, namespace="other")] == [0, 1]

    await deployment.run(write)


async def test_idempotent_writes_give_the_same_when_told_twice(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        for _ in range(2):
            await direct.insert_if_does_not_exist(ctx, key=1, id="a", sum_value=5)
            assert (await direct.totals(ctx)).sums == {"sum": 5}
        for _ in range(2):
            await direct.replace_or_insert(ctx, current_key=1, key=2, id="a", sum_value=6)
            assert [(item.key, item.sum_value) async for item in direct.iterate(ctx)] == [(2, 6)]
        for _ in range(2):
            await direct.delete_if_exists(ctx, key=2, id="a")
            await direct.delete_if_exists(ctx, key=2, id="a", namespace="never")
            assert await direct.count(ctx) == 0

    await deployment.run(write)


async def test_of_many_all_are_put_in_or_none(deployment: MemoryDeployment) -> None:
    items: list[Any] = [(key, f"{key}", 1, undefined) for key in range(50)]

    async def write(ctx: Any) -> None:
        await direct.insert(ctx, key=30, id="30")
        with pytest.raises(ReactorError, match="already exists"):
            await direct.insert_many(ctx, items)
        assert await direct.count(ctx) == 1
        await direct.insert_many_if_do_not_exist(ctx, items)
        assert (await direct.validate(ctx)).count == 50

    await deployment.run(write)


async def test_many_documents_are_taken_out_or_none(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        scores = [{"_id": f"{points}", **score(points)} for points in range(50)]
        await imported.insert_many(ctx, scores[:40])
        with pytest.raises(ReactorError, match="DELETE_MISSING_KEY"):
            await imported.delete_many(ctx, scores[30:])
        assert await imported.count(ctx, namespace="chess") == 40
        await imported.delete_many(ctx, scores[10:40])
        assert (await imported.validate(ctx, namespace="chess")).count == 10

    await deployment.run(write)


# By triggers.


async def test_a_trigger_counts_whoever_writes(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        ids = [await ctx.db.insert("scores", score(points, cost=points * 2)) for points in range(20)]
        await ctx.db.patch(ids[3], {"points": 100})
        await ctx.db.patch(ids[4], {"game": "go", "player": "bob"})
        await ctx.db.replace(ids[5], score(5, cost=1000))
        await ctx.db.delete(ids[6])
        left = await ctx.db.query("scores").collect()
        for game in ("chess", "go"):
            totals = await by_game.totals(ctx, namespace=game)
            assert totals.count == len([s for s in left if s["game"] == game])
            assert totals["cost"] == sum(s["cost"] for s in left if s["game"] == game)
            assert totals["points"] == sum(s["points"] for s in left if s["game"] == game)
        bob = Bounds(prefix=["bob"])
        assert [await by_player.count(ctx), await by_player.count(ctx, bounds=bob)] == [19, 1]
        third = await ctx.db.get(ids[3])
        assert await by_game.index_of_doc(ctx, third) == 17
        assert await by_game.index_of_doc(ctx, third, order="desc") == 0

    await deployment.run(write)


async def test_a_change_of_what_does_not_count_does_not_touch_the_tree(deployment: MemoryDeployment) -> None:
    """A table has more fields than those that are counted, and their writers should not meet in its tree."""
    made = await deployment.run(lambda ctx: ctx.db.without_triggers.insert("scores", score(1)))
    await deployment.run(lambda ctx: ctx.db.patch(made, {"player": "zoe"}))  # not counted, which nobody notices
    with pytest.raises(ReactorError):
        await deployment.run(lambda ctx: ctx.db.patch(made, {"points": 2}))


async def test_a_trigger_that_can_not_count_refuses_the_write(deployment: MemoryDeployment) -> None:
    made = await deployment.run(lambda ctx: ctx.db.without_triggers.insert("scores", score(1)))
    with pytest.raises(ReactorError) as missing:
        await deployment.run(lambda ctx: ctx.db.delete(made))
    assert missing.value.data["code"] == "DELETE_MISSING_KEY"
    assert await deployment.run(lambda ctx: ctx.db.get(made)) is not None


async def test_an_idempotent_trigger_counts_what_was_not(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        made = await ctx.db.without_triggers.insert("scores", score(1))
        await by_game.insert(ctx, await ctx.db.get(made))
        assert await by_player.count(ctx) == 0
        await ctx.db.patch(made, {"points": 2})
        assert await by_player.count(ctx) == 1

    await deployment.run(write)


# At a time.


@pytest.mark.parametrize("root_lazy", [True, False])
async def test_mutations_at_a_time_lose_nothing(deployment: MemoryDeployment, root_lazy: bool) -> None:
    async def prepare(ctx: Any) -> None:
        await direct.clear(ctx, max_node_size=4, root_lazy=root_lazy)

    await deployment.run(prepare)
    for turn in range(10):
        async with deployment.hold("scores:put", {"keys": [turn, 100 + turn, 200 + turn]}, at=3) as held:
            await deployment.mutation("scores:put", keys=[turn + 0.5, 100.5 + turn])
            await held.finish()
            assert held.attempts == 2
        totals: Any = await deployment.run(lambda ctx: totals_of(ctx))
        assert totals == [5 * (turn + 1), sum(3 * n + 300 + 2 * n + 101 for n in range(turn + 1))]


async def totals_of(ctx: Any) -> list[float]:
    totals = await direct.validate(ctx)
    return [totals.count, totals.sum]


@pytest.mark.parametrize(("root_lazy", "attempts"), [(True, 1), (False, 2)])
async def test_under_a_lazy_root_writers_of_different_parts_do_not_meet(
    deployment: MemoryDeployment, root_lazy: bool, attempts: int
) -> None:
    async def prepare(ctx: Any) -> None:
        await direct.clear(ctx, max_node_size=4, root_lazy=root_lazy)
        await direct.insert_many(ctx, [(float(key), f"{key}", 1, undefined) for key in range(100)])

    await deployment.run(prepare)
    async with deployment.hold("scores:put", {"keys": [0.5, 0.6]}, at=2) as held:
        await deployment.mutation("scores:put", keys=[99.5])
        await held.finish()
        assert held.attempts == attempts
    assert await deployment.run(lambda ctx: direct.count(ctx)) == 103


@pytest.mark.parametrize(("stale", "expected", "attempts"), [(True, [100, 100], 1), (False, [102, 102], 2)])
async def test_a_stale_question_sees_no_own_writes_and_depends_on_nothing(
    deployment: MemoryDeployment, stale: bool, expected: list[int], attempts: int
) -> None:
    async def prepare(ctx: Any) -> None:
        await direct.clear(ctx, max_node_size=4)
        await direct.insert_many(ctx, [(float(key), f"{key}", 1, undefined) for key in range(100)])

    await deployment.run(prepare)
    async with deployment.hold("scores:look_and_put", {"stale": stale}, at=3) as held:
        await deployment.mutation("scores:put", keys=[99.5])
        assert await held.finish() == expected
        assert held.attempts == attempts
    assert await deployment.run(lambda ctx: direct.count(ctx)) == 102


# Anew.


async def test_clear_empties_one_namespace_and_keeps_its_settings(deployment: MemoryDeployment) -> None:
    async def prepare(ctx: Any) -> None:
        await direct.clear(ctx, namespace="a")  # nothing is there
        await direct.clear(ctx, namespace="a", max_node_size=4, root_lazy=False)
        await direct.insert_many(ctx, [(float(key), f"{key}", 1, "b") for key in range(300)])

    await deployment.run(prepare)
    for part in range(2):  # more nodes than go at a time
        items = [(float(key), f"{key}", 1, "a") for key in range(part * 900, part * 900 + 900)]
        await deployment.run(lambda ctx, items=items: direct.insert_many(ctx, items))
    assert len(await nodes_of(deployment)) > NODES_PER_DELETION + 100  # those of "b" are far fewer
    for _ in range(2):
        await deployment.run(lambda ctx: direct.clear(ctx, namespace="a"))
    await deployment.finish_all_scheduled_functions()

    async def ask(ctx: Any) -> list[int]:
        await direct.insert_many(ctx, [(float(key), f"{key}", 1, "a") for key in range(5)])
        return [(await direct.validate(ctx, namespace=name)).count for name in ("a", "b")]

    assert await deployment.run(ask) == [5, 300]
    roots: Any = await deployment.component("aggregate").run(lambda ctx: ctx.db.query("btree").collect())
    settings = {root["namespace"]: (root["maxNodeSize"], root["isRootLazy"]) for root in roots}
    assert settings == {"a": (4, False), "b": (16, True)}
    await deployment.run(lambda ctx: direct.clear_all(ctx))
    await deployment.finish_all_scheduled_functions()
    assert len(await nodes_of(deployment)) == 3, "no node of the cleared trees is left"


async def test_clear_all_sets_how_namespaces_to_come_are_kept(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        await direct.insert(ctx, key=1, id="a", namespace="old")
        await direct.clear_all(ctx, max_node_size=6, root_lazy=False)
        await direct.insert(ctx, key=1, id="a", namespace="new")
        await direct.insert(ctx, key=1, id="a")
        counts = [await direct.count(ctx, namespace=name) for name in ("old", "new", undefined)]
        assert counts == [0, 1, 1]

    await deployment.run(write)
    roots: Any = await deployment.component("aggregate").run(lambda ctx: ctx.db.query("btree").collect())
    assert [(root["maxNodeSize"], root["isRootLazy"]) for root in roots] == [(6, False)] * 3


@pytest.mark.parametrize("size", [2, 3, 5, 0])
async def test_sizes_that_no_tree_can_have_are_refused(deployment: MemoryDeployment, size: int) -> None:
    with pytest.raises(ReactorError, match=f"maxNodeSize must be even and at least 4, not {size}"):
        await deployment.run(lambda ctx: direct.clear(ctx, max_node_size=size))


async def test_roots_can_be_made_lazy_at_any_time(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        await direct.clear_all(ctx, max_node_size=4, root_lazy=False)
        for namespace in ("a", "b", "c"):
            await direct.insert_many(ctx, [(float(key), f"{key}", 1, namespace) for key in range(30)])
        await direct.make_root_lazy(ctx, namespace="a")
        await direct.make_root_lazy(ctx, namespace="never")

    await deployment.run(write)
    assert len([node for node in await nodes_of(deployment) if node["subtrees"] and "counts" not in node]) == 1
    await deployment.run(lambda ctx: direct.make_all_roots_lazy(ctx))
    assert len([node for node in await nodes_of(deployment) if node["subtrees"] and "counts" not in node]) == 3

    async def ask(ctx: Any) -> None:
        for namespace in ("a", "b", "c"):
            await direct.insert(ctx, key=3.5, id="x", sum_value=1, namespace=namespace)
            totals = await direct.validate(ctx, namespace=namespace)
            assert [totals.count, totals.sum] == [31, 31]

    await deployment.run(ask)


async def test_repair_brings_an_aggregate_in_line_with_its_table(deployment: MemoryDeployment) -> None:
    """Written past it: documents that are not counted, some counted as they were, and some that are gone."""

    async def spoil(ctx: Any) -> None:
        for number in range(40):
            made = await ctx.db.insert("imported", score(number, game=["", "chess", "go"][number % 3]))
            if number % 2:
                await imported.insert(ctx, await ctx.db.get(made))
            if number % 5 == 0:
                await ctx.db.patch(made, {"points": number + 1000, "game": "go"})
            if number % 7 == 0:
                await ctx.db.delete(made)

    await deployment.run(spoil)
    await deployment.mutation("scores:repair")
    await deployment.finish_all_scheduled_functions()

    async def compare(ctx: Any) -> None:
        left = await ctx.db.query("imported").collect()
        for game in ("", "chess", "go"):
            expected = sorted((s["points"], s["_id"]) for s in left if s["game"] == game)
            found = [(item.key, item.id) async for item in imported.iterate(ctx, namespace=game or None)]
            assert found == expected
            await imported.validate(ctx, namespace=game or None)
        with pytest.raises(ReactorError, match="invalid cursor"):
            await imported.repair(ctx, "imported", cursor="[1]")

    await deployment.run(compare)


async def test_counted_are_those_that_stand_where_they_should(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        made = []
        for number in range(40):
            document_id = await ctx.db.insert("imported", score(number % 3, game=["", "chess", "go"][number % 3]))
            made.append(await ctx.db.get(document_id))
        told, moved = made[::2], {**made[0], "points": 77}
        await imported.insert_many(ctx, told)
        assert await imported.counted(ctx, [*made, moved]) == told
        assert await imported.counted(ctx, []) == []

    await deployment.run(write)


# Later.


async def test_queued_writes_are_done_in_order_and_questions_wait_for_them(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        await direct.insert(ctx, key=2, id="b", later=True)
        await direct.replace(ctx, current_key=2, key=3, id="b", sum_value=5, later=True)
        await direct.delete(ctx, key=1, id="a", later=True)
        calls: list[Any] = [
            direct.count(ctx),
            direct.at(ctx, 0),
            direct.min(ctx),
            direct.percentile(ctx, 0.5),
            direct.count_batch(ctx, []),
            direct.insert(ctx, key=7, id="c"),
            direct.delete_if_exists(ctx, key=1, id="a"),
            direct.clear(ctx),
        ]
        for call in calls:
            with pytest.raises(ReactorError) as pending:
                await call
            assert pending.value.data["code"] == "PENDING_OPERATIONS"
        assert await direct.count_pending(ctx) == 3
        assert await direct.count(ctx, stale=True) == 1

    await deployment.run(lambda ctx: direct.insert(ctx, key=1, id="a"))
    await deployment.run(write)
    await deployment.finish_all_scheduled_functions()

    async def done(ctx: Any) -> None:
        assert [(item.key, item.id, item.sum_value) async for item in direct.iterate(ctx)] == [(3, "b", 5)]
        assert await direct.count_pending(ctx) == 0

    await deployment.run(done)


async def test_what_fails_becomes_a_dead_letter_and_nothing_else_does(deployment: MemoryDeployment) -> None:
    async def write(ctx: Any) -> None:
        await direct.insert(ctx, key=1, id="a", later=True)
        await direct.delete(ctx, key=5, id="gone", later=True)
        await direct.insert(ctx, key=1, id="a", later=True)
        await direct.replace(ctx, current_key=9, key=2, id="a", later=True)
        await direct.insert_many(ctx, [(float(n), f"{n}", 1, undefined) for n in range(2, 700)], later=True)
        await direct.delete(ctx, key=699, id="699", later=True)
        with pytest.raises(ReactorError, match="only finite numbers"):
            await direct.insert(ctx, key=1, id="x", sum_value=float("nan"), later=True)

    await deployment.run(write)
    await deployment.finish_all_scheduled_functions()

    async def done(ctx: Any) -> None:
        assert (await direct.validate(ctx)).count == 698
        letters = await direct.dead_letters(ctx)
        assert [letter.operation["kind"] for letter in letters] == ["delete", "insert", "replace"]
        assert letters[0].operation["current"] == {"key": 5, "id": "gone"}
        assert letters[0].error["code"] == "DELETE_MISSING_KEY"
        assert "already exists" in letters[1].error
        assert await direct.discard_dead_letters(ctx) == 3
        assert await direct.dead_letters(ctx) == []

    await deployment.run(done)


async def test_writers_that_queue_do_not_meet(deployment: MemoryDeployment) -> None:
    """Once the loop runs, a mutation only adds to the queue."""

    async def write(ctx: Any) -> None:
        await ctx.db.insert("queued", score(1))

    await deployment.run(write)
    await deployment.advance()
    async with deployment.hold("scores:queue", {"points": [2, 3]}, at=2) as held:
        await deployment.mutation("scores:queue", points=[4, 5])
        await held.finish()
        assert held.attempts == 1
    await deployment.finish_all_scheduled_functions()
    queued = TableAggregate(components.queued, sort_key=lambda document: document["points"])
    assert await deployment.run(lambda ctx: queued.count(ctx, bounds=Bounds(lower=Bound(2)))) == 4
