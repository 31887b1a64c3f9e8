"""Loops that drain queues: what is added is worked on once and in time, and what is idle costs nothing."""

from typing import Any

import pytest

from reactor.testing.deployment import MemoryDeployment


async def batches(deployment: MemoryDeployment) -> list[Any]:
    found: Any = await deployment.run(lambda ctx: ctx.db.query("batches").collect())
    return [row["items"] for row in found]


async def times(deployment: MemoryDeployment, since: float) -> list[float]:
    found: Any = await deployment.run(lambda ctx: ctx.db.query("batches").collect())
    return [row["time"] - since for row in found]


async def unfinished(deployment: MemoryDeployment) -> list[str]:
    """Names of what is scheduled."""
    found: Any = await deployment.component("batch_worker").query(
        lambda ctx: ctx.db.system.query("_scheduled_functions").collect()
    )
    return sorted(row["name"] for row in found if row["state"]["kind"] in ("pending", "inProgress"))


async def step_of(ctx: Any, name: str) -> str:
    loop = await ctx.db.query("loops").with_index("by_name", name=name).unique()
    return str(loop["stepId"])


async def test_a_queue_is_drained_in_batches(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:add", items=[1, 2, 3, 4])
    await deployment.mutation("queue:add", items=[5])
    await deployment.finish_in_progress_scheduled_functions()
    assert await batches(deployment) == [[1, 2, 3], [4, 5]]
    assert await deployment.query("queue:status", loop="drainer") == {"kind": "idle"}


async def test_an_idle_loop_costs_nothing(deployment: MemoryDeployment) -> None:
    """Only the monitor is left, once, and it does not come back."""
    await deployment.mutation("queue:add", items=[1])
    await deployment.finish_in_progress_scheduled_functions()
    assert await unfinished(deployment) == ["steps.js:monitor"]
    await deployment.mutation("queue:add", items=[2])
    await deployment.finish_in_progress_scheduled_functions()
    assert await unfinished(deployment) == ["steps.js:monitor"]
    await deployment.advance(minutes=1)
    assert await unfinished(deployment) == []
    await deployment.mutation("queue:add", items=[3])
    await deployment.finish_all_scheduled_functions()
    assert await batches(deployment) == [[1], [2], [3]]


async def test_a_ping_is_a_part_of_its_transaction(deployment: MemoryDeployment) -> None:
    with pytest.raises(ValueError, match="undone"):
        await deployment.mutation("queue:add", items=[1], fail=True)
    assert await deployment.query("queue:status", loop="drainer") is None
    assert await unfinished(deployment) == []


@pytest.mark.parametrize("at", range(1, 6))
async def test_an_item_that_comes_while_a_step_finds_nothing_is_found(deployment: MemoryDeployment, at: int) -> None:
    """Whoever adds it sees a loop that runs, and leaves it alone; the step, which has seen no item, must run again."""
    await deployment.mutation("queue:add", items=[0], loop="slow")
    await deployment.finish_in_progress_scheduled_functions()
    component = deployment.component("batch_worker")
    async with deployment.hold("steps:step", {"name": "slow"}, at=at, by=component) as held:
        await deployment.mutation("queue:add", items=[1], loop="slow")
        await held.finish()
    assert held.attempts == 2
    assert await batches(deployment) == [[0], [1]]


@pytest.mark.parametrize("at", range(1, 5))
async def test_an_item_that_is_added_while_its_loop_goes_idle_wakes_it(deployment: MemoryDeployment, at: int) -> None:
    await deployment.mutation("queue:add", items=[0], loop="slow")
    await deployment.finish_in_progress_scheduled_functions()
    async with deployment.hold("queue:add", {"items": [1], "loop": "slow"}, at=at) as held:
        await deployment.advance(seconds=5)
        assert await deployment.query("queue:status", loop="slow") == {"kind": "idle"}
        await held.finish()
    await deployment.finish_in_progress_scheduled_functions()
    assert await batches(deployment) == [[0], [1]]


async def test_batches_keep_their_distance(deployment: MemoryDeployment) -> None:
    begin = deployment.clock.now_ms
    await deployment.mutation("queue:add", items=[1, 2, 3, 4], loop="slow")
    await deployment.advance(seconds=1)
    await deployment.mutation("queue:add", items=[5], loop="slow")
    await deployment.advance(seconds=1)
    assert await batches(deployment) == [[1, 2, 3]]
    await deployment.advance(seconds=30)
    assert await batches(deployment) == [[1, 2, 3], [4, 5]]
    assert await times(deployment, begin) == [0, 5000]


async def test_a_worker_that_raises_is_called_again_at_the_cadence_of_the_monitor(deployment: MemoryDeployment) -> None:
    begin = deployment.clock.now_ms
    await deployment.mutation("queue:add", items=[1, -1], loop="slow")
    await deployment.advance(seconds=1)
    found: Any = await deployment.query("queue:status", loop="slow")
    assert found == {"kind": "running", "error": "ValueError: a bad item"}
    await deployment.advance(seconds=9)
    assert await batches(deployment) == []

    async def mend(ctx: Any) -> None:
        for row in await ctx.db.query("queue").collect():
            if row["item"] == -1:
                await ctx.db.delete(row["_id"])

    await deployment.run(mend)
    await deployment.advance(seconds=9)
    assert await times(deployment, begin) == [18000]
    assert await batches(deployment) == [[1]]
    await deployment.advance(seconds=5)
    assert await deployment.query("queue:status", loop="slow") == {"kind": "idle"}


async def test_a_worker_that_answers_nothing_is_told_so(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:ping_wrong")
    await deployment.finish_in_progress_scheduled_functions()
    status: Any = await deployment.component("batch_worker").query("loops:status", name="wrong")
    assert status["error"] == "TypeError: A worker returns work(...) or idle(...), not None"


async def test_a_step_that_is_lost_is_found_by_the_monitor(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:add", items=[1, 2, 3, 4], loop="slow")
    await deployment.finish_in_progress_scheduled_functions()

    async def lose(ctx: Any) -> None:
        await ctx.scheduler.cancel(await step_of(ctx, "slow"))

    await deployment.component("batch_worker").run(lose)
    await deployment.advance(seconds=8)
    assert await batches(deployment) == [[1, 2, 3]]
    await deployment.advance(seconds=1)
    assert await batches(deployment) == [[1, 2, 3], [4]]


async def test_the_monitor_follows_a_loop_that_waits(deployment: MemoryDeployment) -> None:
    """Without looking every minute whether it still does, and not so far behind that a wake-up would miss it."""
    now = deployment.clock.now_ms
    await deployment.mutation("queue:set_timer", due=now + 3_600_000)
    found: Any = await deployment.component("batch_worker").run(lambda ctx: ctx.db.query("loops").first())
    assert found["monitorTime"] == now + 3_660_000
    await deployment.mutation("queue:set_timer", due=now + 1000)
    found = await deployment.component("batch_worker").run(lambda ctx: ctx.db.query("loops").first())
    assert found["monitorTime"] == now + 61_000
    assert await unfinished(deployment) == ["steps.js:monitor", "steps.js:step"]


async def test_it_sleeps_until_the_earliest_deadline(deployment: MemoryDeployment) -> None:
    """An earlier one interrupts the wait, a later one does not."""
    begin = deployment.clock.now_ms
    for seconds in (50, 20, 90):
        await deployment.mutation("queue:set_timer", due=begin + seconds * 1000)
    assert await deployment.query("queue:status", loop="clock") == {"kind": "waiting", "until": begin + 20_000}
    await deployment.advance(seconds=30)
    await deployment.mutation("queue:set_timer", due=begin + 40_000)
    await deployment.advance(seconds=70)
    assert await times(deployment, begin) == [20_000, 40_000, 50_000, 90_000]
    assert await deployment.query("queue:status", loop="clock") == {"kind": "idle"}
    assert await unfinished(deployment) == ["steps.js:monitor"]


async def test_a_deadline_beyond_the_scheduler_is_cut(deployment: MemoryDeployment) -> None:
    begin = deployment.clock.now_ms
    await deployment.mutation("queue:set_timer", due=begin + 400 * 86_400_000)
    await deployment.advance(days=399)
    assert await batches(deployment) == []
    await deployment.advance(days=1)
    assert await times(deployment, begin) == [400 * 86_400_000]


async def test_stop_and_start(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:add", items=[1, 2, 3, 4], loop="slow")
    await deployment.finish_in_progress_scheduled_functions()
    await deployment.mutation("queue:stop", loop="slow")
    await deployment.mutation("queue:add", items=[5], loop="slow")
    await deployment.advance(minutes=5)
    assert await batches(deployment) == [[1, 2, 3]]
    assert await unfinished(deployment) == []
    for _ in range(2):
        await deployment.mutation("queue:start", loop="slow")
    await deployment.finish_in_progress_scheduled_functions()
    assert await batches(deployment) == [[1, 2, 3], [4, 5]]


async def test_stop_and_start_of_what_is_not_there(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:stop", loop="slow")
    await deployment.mutation("queue:start", loop="slow")
    assert await deployment.query("queue:status", loop="slow") is None


async def test_a_worker_stops_its_own_loop(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:add", items=[-2, 1, 2, 3])
    await deployment.advance(minutes=5)
    assert await batches(deployment) == [[-2, 1, 2]]
    assert await deployment.query("queue:status", loop="drainer") == {"kind": "stopped"}


async def test_a_worker_that_restarts_its_loop_has_one_step_ahead(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:add", items=[-4, 1, 2, 3], loop="slow")
    await deployment.finish_in_progress_scheduled_functions()
    assert (await unfinished(deployment)).count("steps.js:step") == 1
    assert await batches(deployment) == [[-4, 1, 2], [3]]


async def test_what_a_worker_adds_itself_is_worked_on(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:add", items=[-3])
    await deployment.finish_in_progress_scheduled_functions()
    assert await batches(deployment) == [[-3], [100]]


async def test_the_cursor_is_kept(deployment: MemoryDeployment) -> None:
    for _ in range(2):
        await deployment.mutation("queue:ping", loop="counter")
        await deployment.finish_in_progress_scheduled_functions()
    assert await batches(deployment) == [[0], [1], [2]] * 2


async def test_a_loop_goes_on_where_a_crash_has_left_it(deployment: MemoryDeployment) -> None:
    await deployment.mutation("queue:add", items=[1, 2, 3, 4], loop="slow")
    await deployment.finish_in_progress_scheduled_functions()
    async with deployment.fork() as reopened:
        await reopened.advance(seconds=5)
        assert await batches(reopened) == [[1, 2, 3], [4]]
    assert await batches(deployment) == [[1, 2, 3]]


async def test_settings_change_with_the_next_ping(deployment: MemoryDeployment) -> None:
    component = deployment.component("batch_worker")
    worker: Any = await deployment.run(lambda ctx: ctx.function_handle("queue:drain"))
    for lag in (1.0, 2.0):
        await component.mutation("loops:ping", {"name": "x", "worker": worker, "config": {"monitorLagMs": lag}})
    found: Any = await component.run(lambda ctx: ctx.db.query("workers").unique())
    assert found["config"] == {"monitorLagMs": 2.0}
