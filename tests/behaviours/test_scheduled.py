"""Scheduled functions and crons under the virtual clock, through the fixture."""

from typing import Any

import pytest

from reactor.errors import InvalidArgument, LimitExceeded, ReactorError
from reactor.testing.deployment import MemoryDeployment


async def states(deployment: MemoryDeployment) -> Any:
    jobs = await deployment.query(lambda ctx: ctx.db.system.query("_scheduled_functions").collect())
    return [job["state"]["kind"] for job in jobs]  # type: ignore[index, union-attr, call-overload]


async def bodies(deployment: MemoryDeployment) -> Any:
    return await deployment.query("messages:bodies")


async def test_a_mutation_is_pending_and_then_done(deployment: MemoryDeployment) -> None:
    job = await deployment.mutation("jobs:later", body="note", delay=1000)
    assert await states(deployment) == ["pending"]
    assert await bodies(deployment) == []
    await deployment.finish_all_scheduled_functions()
    assert await states(deployment) == ["success"]
    assert await bodies(deployment) == ["note"]
    done: Any = await deployment.query(lambda ctx: ctx.db.system.get(job))
    assert done["args"] == [{"body": "note"}]
    assert done["completedTime"] == done["scheduledTime"] == deployment.clock.now_ms


async def test_an_action_is_pending_in_progress_and_then_done(deployment: MemoryDeployment) -> None:
    async with deployment.subscribe("messages:bodies") as live:
        assert await live.next() == []
        await deployment.mutation("jobs:later", body="act", name="jobs:act")
        assert await states(deployment) == ["pending"]
        deployment.clock.advance(seconds=1)
        assert await live.next() == ["act"]
    await deployment.finish_in_progress_scheduled_functions()
    assert await states(deployment) == ["success"]


async def test_an_action_that_runs_is_in_progress(deployment: MemoryDeployment) -> None:
    async with deployment.subscribe("messages:bodies") as live:
        assert await live.settled() == []
        await deployment.run(lambda ctx: ctx.scheduler.run_after(0, "jobs:hang"))
        assert await live.next() == ["begun"]
    with pytest.raises(TimeoutError, match=r"did not complete after 0\.01 s of real time: jobs\.js:hang\."):
        await deployment.finish_in_progress_scheduled_functions(timeout=0.01)
    assert await states(deployment) == ["inProgress"]


async def test_a_failed_function_is_failed_and_raises_nowhere(
    deployment: MemoryDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    job = await deployment.run(lambda ctx: ctx.scheduler.run_after(5, "jobs:fail"))
    await deployment.finish_all_scheduled_functions()
    failed: Any = await deployment.query(lambda ctx: ctx.db.system.get(job))
    assert failed["state"]["kind"] == "failed"
    assert "out of luck" in failed["state"]["error"]
    assert "scheduled function jobs.js:fail failed" in caplog.text
    assert await bodies(deployment) == []


async def test_a_cancelled_function_does_not_run(deployment: MemoryDeployment) -> None:
    job = await deployment.mutation("jobs:later", body="never")
    await deployment.run(lambda ctx: ctx.scheduler.cancel(job))
    await deployment.finish_all_scheduled_functions()
    assert await states(deployment) == ["canceled"]
    assert await bodies(deployment) == []


async def test_what_a_failing_mutation_scheduled_vanishes(deployment: MemoryDeployment) -> None:
    with pytest.raises(ReactorError, match="PARENT"):
        await deployment.mutation("jobs:later_and_fail", body="never")
    await deployment.finish_all_scheduled_functions()
    assert (await states(deployment), await bodies(deployment)) == ([], [])


async def test_what_a_failed_child_scheduled_vanishes_and_the_rest_runs_after_the_commit(
    deployment: MemoryDeployment,
) -> None:
    await deployment.mutation("jobs:later_in_a_child")
    await deployment.finish_in_progress_scheduled_functions()
    assert await bodies(deployment) == ["parent", "of a child"]
    assert await states(deployment) == ["success"]


async def test_arguments_are_taken_at_the_call(deployment: MemoryDeployment) -> None:
    async def schedule(ctx: Any) -> None:
        args = {"body": "at the call"}
        await ctx.scheduler.run_after(0, "jobs:note", args)
        args["body"] = "changed"

    await deployment.run(schedule)
    await deployment.finish_in_progress_scheduled_functions()
    assert await bodies(deployment) == ["at the call"]


async def test_only_what_is_due_runs(deployment: MemoryDeployment) -> None:
    for minutes in (1, 2, 3):
        await deployment.mutation("jobs:later", body=f"after {minutes}", delay=minutes * 60_000)
    await deployment.advance(minutes=2)
    assert await bodies(deployment) == ["after 1", "after 2"]
    assert await states(deployment) == ["success", "success", "pending"]
    await deployment.finish_in_progress_scheduled_functions()
    assert await states(deployment) == ["success", "success", "pending"]
    await deployment.advance(seconds=59.999)
    assert len(await bodies(deployment)) == 2
    await deployment.advance(milliseconds=1)
    assert len(await bodies(deployment)) == 3


async def test_each_runs_at_its_own_time(deployment: MemoryDeployment) -> None:
    start = deployment.clock.now_ms
    for delay in (90_000, 30_000, 60_000):
        await deployment.run(lambda ctx, delay=delay: ctx.scheduler.run_after(delay, "jobs:note_time"))  # type: ignore[misc]
    await deployment.advance(minutes=5)
    times: Any = await deployment.query(lambda ctx: ctx.db.query("things").collect())
    assert [time["value"] - start for time in times] == [30_000, 60_000, 90_000]
    assert deployment.clock.now_ms == start + 300_000


async def test_chains_run_to_their_end(deployment: MemoryDeployment) -> None:
    await deployment.mutation("jobs:again", delay=0, times=50)
    await deployment.finish_in_progress_scheduled_functions()
    assert len(await bodies(deployment)) == 50
    start = deployment.clock.now_ms
    await deployment.mutation("jobs:again", delay=60_000, times=50)
    await deployment.finish_all_scheduled_functions()
    assert len(await bodies(deployment)) == 100
    assert deployment.clock.now_ms == start + 49 * 60_000
    await deployment.mutation("jobs:again", delay=60_000, times=1000)
    await deployment.advance(hours=10)
    assert (await bodies(deployment)).count("again") == 701, "time that passes has no such limit"


@pytest.mark.parametrize("delay", [0, 1000])
async def test_endless_chains_are_found(deployment: MemoryDeployment, delay: float) -> None:
    await deployment.mutation("jobs:again", delay=delay)
    finish = deployment.finish_all_scheduled_functions
    text = r"too many iterations\. Check for infinitely recursive scheduled functions, .*max_iterations=20"
    with pytest.raises(LimitExceeded, match=text):
        await finish(max_iterations=20)
    if delay == 0:
        with pytest.raises(LimitExceeded, match=r"^finish_in_progress_scheduled_functions: too many iterations"):
            await deployment.finish_in_progress_scheduled_functions(max_iterations=20)
        with pytest.raises(LimitExceeded, match=r"^advance: too many iterations"):
            await deployment.advance(seconds=1)


@pytest.mark.parametrize("delay", [0, 1000])
async def test_iterations_are_counted_exactly(deployment: MemoryDeployment, delay: float) -> None:
    for _ in range(5):
        await deployment.mutation("jobs:again", delay=delay, times=13)
        await deployment.finish_all_scheduled_functions(max_iterations=12)  # the first was called by the test
        await deployment.mutation("jobs:again", delay=delay, times=13)
        with pytest.raises(LimitExceeded):
            await deployment.finish_all_scheduled_functions(max_iterations=11)
        await deployment.finish_all_scheduled_functions()


async def test_many_at_a_time_are_one_iteration(deployment: MemoryDeployment) -> None:
    async def schedule(ctx: Any) -> None:
        for number in range(300):
            await ctx.scheduler.run_after(1000, "jobs:note", body=str(number))

    await deployment.run(schedule)
    await deployment.finish_all_scheduled_functions(max_iterations=1)
    assert set(await bodies(deployment)) == {str(number) for number in range(300)}


async def test_nobodys_identity_goes_with_it(deployment: MemoryDeployment) -> None:
    alice = deployment.with_identity({"name": "Alice"})
    await alice.mutation("users:schedule")
    await alice.action(lambda ctx: ctx.scheduler.run_after(0, "jobs:act", body="of an action"))
    await deployment.finish_in_progress_scheduled_functions()
    messages: Any = await deployment.query(lambda ctx: ctx.db.query("messages").collect())
    assert [message["author"] for message in messages] == ["nobody", "nobody"]


# Crons.


async def test_crons_run_at_their_times_as_time_passes(deployment: MemoryDeployment) -> None:
    await deployment.advance(hours=6, minutes=29)
    assert await bodies(deployment) == []
    await deployment.advance(minutes=1)
    assert await bodies(deployment) == ["good morning"]
    await deployment.advance(days=2)
    assert await bodies(deployment) == ["good morning", "noon"] * 2 + ["good morning"]


async def test_a_cron_is_run_when_a_test_says_so(deployment: MemoryDeployment) -> None:
    assert await deployment.run_cron("noon") is None
    assert await bodies(deployment) == ["noon"]
    with pytest.raises(InvalidArgument, match=r"There is no cron 'noun'. Did you mean 'noon'"):
        await deployment.run_cron("noun")


async def test_crons_run_on_the_way_to_what_is_scheduled(deployment: MemoryDeployment) -> None:
    await deployment.mutation("jobs:later", body="later", delay=10 * 3_600_000)
    await deployment.finish_all_scheduled_functions()
    assert await bodies(deployment) == ["good morning", "later"]


async def test_a_step_of_the_clock_is_a_pause_of_the_server(deployment: MemoryDeployment) -> None:
    deployment.clock.advance(days=3)
    await deployment.finish_in_progress_scheduled_functions()
    assert sorted(await bodies(deployment)) == ["good morning", "noon"], "one run makes up for all"


def test_without_an_event_loop(deployment: MemoryDeployment) -> None:
    with deployment.blocking() as blocking:
        blocking.mutation("jobs:later", {"body": "later", "delay": 1000})
        with blocking.subscribe("messages:bodies") as live:
            assert live.settled() == []
            blocking.finish_in_progress_scheduled_functions()
            assert live.is_unchanged()
            blocking.finish_all_scheduled_functions()
            assert live.settled() == ["later"]
            blocking.run_cron("noon")
            blocking.advance(hours=7)
            assert live.settled() == ["later", "noon", "good morning"]
        blocking.mutation("jobs:again", {"delay": 1000})
        with pytest.raises(LimitExceeded):
            blocking.finish_all_scheduled_functions(max_iterations=5)
        with pytest.raises(InvalidArgument, match="set it back"):
            blocking.advance(seconds=-1)
