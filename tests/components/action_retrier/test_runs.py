"""Runs end once, after so many attempts at the right times, whatever is canceled, lost or raised on the way."""

import random
from typing import Any

import pytest

from reactor.testing.deployment import MemoryDeployment

OK = {"type": "success", "returnValue": "a"}
CANCELED = {"type": "canceled"}
FINISH = "attempts:finish"


async def attempts(deployment: MemoryDeployment) -> list[float]:
    rows: Any = await deployment.run(lambda ctx: ctx.db.query("attempts").collect())
    return [row["time"] for row in rows]


async def ends(deployment: MemoryDeployment) -> list[Any]:
    rows: Any = await deployment.run(lambda ctx: ctx.db.query("ends").collect())
    return [row["result"] for row in rows]


async def documents(deployment: MemoryDeployment) -> list[Any]:
    rows: Any = await deployment.component("action_retrier").run(lambda ctx: ctx.db.query("runs").collect())
    return list(rows)


async def scheduled(deployment: MemoryDeployment, kind: str = "pending") -> list[str]:
    rows: Any = await deployment.component("action_retrier").query(
        lambda ctx: ctx.db.system.query("_scheduled_functions").collect()
    )
    return sorted(row["name"] for row in rows if row["state"]["kind"] == kind)


async def test_an_action_that_succeeds_runs_once(deployment: MemoryDeployment) -> None:
    run = await deployment.mutation("jobs:run")
    assert await deployment.query("jobs:status", run=run) == {"type": "inProgress"}
    await deployment.finish_in_progress_scheduled_functions()
    assert await deployment.query("jobs:status", run=run) == {"type": "completed", "result": OK}
    await deployment.advance(minutes=10)
    assert len(await attempts(deployment)) == 1
    assert await ends(deployment) == [OK]
    assert await scheduled(deployment) == await scheduled(deployment, "failed") == []


@pytest.mark.parametrize(("failures", "is_success"), [(1, True), (4, True), (5, False), (9, False)])
async def test_it_is_tried_again_four_times(deployment: MemoryDeployment, failures: int, is_success: bool) -> None:
    await deployment.mutation("jobs:run", failures=failures)
    await deployment.finish_all_scheduled_functions()
    times = await attempts(deployment)
    assert len(times) == min(failures + 1, 5)
    for nominal, before, after in zip((500, 1000, 2000, 4000), times, times[1:], strict=False):
        assert nominal * 0.5 <= after - before < nominal * 1.5 + 1
    assert await ends(deployment) == [OK if is_success else {"type": "failed", "error": "a failed 5"}]


async def test_settings_of_one_run(deployment: MemoryDeployment) -> None:
    options = {"initial_backoff_ms": 10_000.0, "base": 3.0, "max_failures": 1}
    await deployment.mutation("jobs:run", failures=9, options=options)
    await deployment.finish_all_scheduled_functions()
    first, second = await attempts(deployment)
    assert 15_000 <= second - first < 45_001


@pytest.mark.parametrize("wrong", [{"base": 0.0}, {"initial_backoff_ms": -1.0}, {"max_failures": -1}])
async def test_settings_that_can_not_be_are_refused(deployment: MemoryDeployment, wrong: Any) -> None:
    with pytest.raises(ValueError, match="base is above 0"):
        await deployment.mutation("jobs:run", options=wrong)


async def test_it_runs_at_its_time(deployment: MemoryDeployment) -> None:
    begin = deployment.clock.now_ms
    await deployment.mutation("jobs:run", name="a", at=begin + 3_600_000)
    await deployment.mutation("jobs:run", name="b", after=1_800_000)
    await deployment.mutation("jobs:run", name="c", at=begin - 5)
    await deployment.finish_in_progress_scheduled_functions()
    assert (await scheduled(deployment)).count("attempts.js:heartbeat") == 3
    await deployment.advance(hours=2)
    assert [time - begin for time in await attempts(deployment)] == [0, 1_800_000, 3_600_000]


async def test_a_run_is_a_part_of_its_transaction(deployment: MemoryDeployment) -> None:
    async def run(ctx: Any) -> None:
        await ctx.run_mutation("jobs:run")
        raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"):
        await deployment.run(run)
    assert await documents(deployment) == []
    assert await scheduled(deployment) == []


async def test_an_on_complete_that_fails_is_logged_and_the_run_has_ended(
    deployment: MemoryDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    run = await deployment.mutation("jobs:run", told="failing_done")
    await deployment.finish_all_scheduled_functions()
    assert await deployment.query("jobs:status", run=run) == {"type": "completed", "result": OK}
    assert await ends(deployment) == []
    assert len(await attempts(deployment)) == 1
    assert f"on_complete of run {run} failed: ValueError('not now')" in caplog.text


async def test_nobody_need_be_told(deployment: MemoryDeployment) -> None:
    component = deployment.component("action_retrier")
    handle: Any = await deployment.run(lambda ctx: ctx.function_handle("jobs:fail_first"))
    options = {"initialBackoffMs": 1, "base": 1, "maxFailures": 0}
    call = {"functionHandle": handle, "functionArgs": {"name": "a", "failures": 0}, "options": options}
    run = await component.mutation("runs:start", call)
    await deployment.finish_in_progress_scheduled_functions()
    assert await component.query("runs:status", runId=run) == {"type": "completed", "result": OK}


# Cancellation, in each order with the rest.


async def test_what_has_not_begun_is_canceled(deployment: MemoryDeployment) -> None:
    run = await deployment.mutation("jobs:run", after=1000)
    assert [await deployment.mutation("jobs:cancel", run=run) for _ in range(2)] == [True, False]
    assert await scheduled(deployment) == ["attempts.js:heartbeat"]
    await deployment.advance(minutes=10)
    assert await attempts(deployment) == []
    assert await ends(deployment) == [CANCELED]
    assert await scheduled(deployment) == []


async def test_what_waits_for_its_next_attempt_is_canceled(deployment: MemoryDeployment) -> None:
    run = await deployment.mutation("jobs:run", failures=9)
    await deployment.finish_in_progress_scheduled_functions()
    assert await deployment.mutation("jobs:cancel", run=run)
    await deployment.finish_all_scheduled_functions()
    assert len(await attempts(deployment)) == 1
    assert await ends(deployment) == [CANCELED]


async def test_to_cancel_what_has_ended_or_never_was_changes_nothing(deployment: MemoryDeployment) -> None:
    run = await deployment.mutation("jobs:run")
    await deployment.finish_in_progress_scheduled_functions()
    for name in (run, "nonsense"):
        assert await deployment.mutation("jobs:cancel", run=name) is False
    assert await ends(deployment) == [OK]


@pytest.mark.parametrize("is_cancel_held", [True, False])
@pytest.mark.parametrize("kind", ["success", "failed"])
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_run_is_canceled_or_ends_and_never_both(
    deployment: MemoryDeployment, is_cancel_held: bool, kind: str, at: int
) -> None:
    """The end of an attempt and a cancellation meet: whoever commits later sees the other, and lets it be."""
    run = await deployment.mutation("jobs:run", after=1_000_000)
    result = OK if kind == "success" else {"type": "failed", "error": "no"}
    finish = {"runId": run, "attempt": 0, "result": result}
    component = deployment.component("action_retrier")
    if is_cancel_held:
        async with deployment.hold("runs:cancel", {"runId": run}, at=at, by=component) as held:
            await component.mutation(FINISH, finish)
            was_canceled = await held.finish()
        assert was_canceled == (kind == "failed"), "a failure is followed by another attempt, which can be canceled"
    else:
        async with deployment.hold(FINISH, finish, at=min(at, 2), by=component) as held:
            assert await component.mutation("runs:cancel", runId=run)
            await held.finish()
    assert held.attempts == 2
    await deployment.finish_all_scheduled_functions()
    canceled = not is_cancel_held or kind == "failed"
    assert await ends(deployment) == [CANCELED if canceled else OK]
    assert await attempts(deployment) == []


async def test_an_attempt_that_is_not_the_present_one_is_dropped(deployment: MemoryDeployment) -> None:
    run = await deployment.mutation("jobs:run", failures=1)
    await deployment.finish_in_progress_scheduled_functions()
    component = deployment.component("action_retrier")
    for attempt in (0, 2):
        await component.mutation(FINISH, runId=run, attempt=attempt, result={"type": "failed", "error": "late"})
        await component.action("attempts:execute", runId=run, attempt=attempt)
    assert len(await attempts(deployment)) == 1
    await deployment.finish_all_scheduled_functions()
    await component.mutation(FINISH, runId=run, attempt=1, result={"type": "failed", "error": "late"})
    assert await ends(deployment) == [OK]


# The heartbeat.


async def lose(deployment: MemoryDeployment, change: Any) -> None:
    async def lose(ctx: Any) -> None:
        run = await ctx.db.query("runs").first()
        await change(ctx, run)

    await deployment.component("action_retrier").run(lose)


async def test_an_attempt_whose_scheduled_function_was_canceled_cancels_the_run(deployment: MemoryDeployment) -> None:
    await deployment.mutation("jobs:run", after=1000)
    await lose(deployment, lambda ctx, run: ctx.scheduler.cancel(run["state"]["schedulerId"]))
    await deployment.advance(seconds=16)
    assert await ends(deployment) == [CANCELED]
    assert await attempts(deployment) == []


async def test_an_attempt_whose_scheduled_function_failed_is_repeated(deployment: MemoryDeployment) -> None:
    """As after a crash; the failure counts."""
    await deployment.mutation("jobs:run", options={"max_failures": 1}, after=1000)

    async def fail(ctx: Any, run: Any) -> None:
        job = await ctx.scheduler.run_after(0, "attempts:execute", {"nonsense": 1})
        await ctx.scheduler.cancel(run["state"]["schedulerId"])
        await ctx.db.patch(run["_id"], {"state": {**run["state"], "schedulerId": job}})

    begin = deployment.clock.now_ms
    await lose(deployment, fail)
    await deployment.finish_in_progress_scheduled_functions()
    await deployment.advance(seconds=5)
    assert await attempts(deployment) == []
    await deployment.advance(seconds=13)
    (time,) = await attempts(deployment)
    assert 1000 + 5000 + 250 <= time - begin < 1000 + 15_000 + 751
    assert await ends(deployment) == [OK]


async def test_one_that_is_lost_after_the_last_failure_ends_the_run(deployment: MemoryDeployment) -> None:
    await deployment.mutation("jobs:run", options={"max_failures": 0}, after=1000)

    async def fail(ctx: Any, run: Any) -> None:
        job = await ctx.scheduler.run_after(0, "attempts:execute", {"nonsense": 1})
        await ctx.scheduler.cancel(run["state"]["schedulerId"])
        await ctx.db.patch(run["_id"], {"state": {**run["state"], "schedulerId": job}})

    await lose(deployment, fail)
    await deployment.advance(minutes=1)
    assert await ends(deployment) == [{"type": "failed", "error": "Transient error when executing action"}]
    assert await scheduled(deployment) == []


async def test_one_that_succeeded_without_a_word_is_a_bug(
    deployment: MemoryDeployment, caplog: pytest.LogCaptureFixture
) -> None:
    await deployment.mutation("jobs:run", after=1000)

    async def succeed(ctx: Any, run: Any) -> None:
        job = await ctx.scheduler.run_after(0, "cleaning:forget")
        await ctx.scheduler.cancel(run["state"]["schedulerId"])
        await ctx.db.patch(run["_id"], {"state": {**run["state"], "schedulerId": job}})

    await lose(deployment, succeed)
    await deployment.advance(minutes=1)
    assert "has succeeded without saying how it ended" in caplog.text


async def test_heartbeats_come_every_five_to_fifteen_seconds(deployment: MemoryDeployment) -> None:
    """While an attempt waits behind others, say; they go on as long as it is to come."""
    run: Any = await deployment.mutation("jobs:run", after=1_000_000)
    component = deployment.component("action_retrier")

    async def next_beat() -> float:
        rows: Any = await component.query(lambda ctx: ctx.db.system.query("_scheduled_functions").collect())
        return max(float(row["scheduledTime"]) for row in rows if row["name"] == "attempts.js:heartbeat")

    due = deployment.clock.now_ms + 1_000_000
    assert 5000 <= await next_beat() - due < 15_000
    random.seed(0)
    waits = []
    for _ in range(40):
        await component.mutation("attempts:heartbeat", runId=run)
    rows: Any = await component.query(lambda ctx: ctx.db.system.query("_scheduled_functions").collect())
    waits = [row["scheduledTime"] - due for row in rows if row["name"] == "attempts.js:heartbeat"]
    assert 5000 <= min(waits) < 7000
    assert 13_000 < max(waits) < 15_000


# Cleaning up.


async def test_cleanup_takes_runs_that_have_ended(deployment: MemoryDeployment) -> None:
    run = await deployment.mutation("jobs:run")
    with pytest.raises(ValueError, match="is in progress"):
        await deployment.mutation("jobs:cleanup", run=run)
    await deployment.finish_in_progress_scheduled_functions()
    await deployment.mutation("jobs:cleanup", run=run)
    assert await documents(deployment) == []
    for call in (deployment.mutation("jobs:cleanup", run=run), deployment.query("jobs:status", run=run)):
        with pytest.raises(ValueError, match="not found"):
            await call


async def test_runs_are_forgotten_a_week_after_their_end(deployment: MemoryDeployment) -> None:
    await deployment.mutation("jobs:run", name="old")
    await deployment.mutation("jobs:run", name="waiting", after=30 * 86_400_000)
    await deployment.advance(days=6)
    await deployment.mutation("jobs:run", name="new")
    assert len(await documents(deployment)) == 3
    await deployment.advance(days=2)
    assert [run["functionArgs"]["name"] for run in await documents(deployment)] == ["waiting", "new"]


async def test_they_are_forgotten_page_by_page(deployment: MemoryDeployment) -> None:
    component = deployment.component("action_retrier")

    async def fill(ctx: Any) -> None:
        options = {"initialBackoffMs": 1, "base": 1, "maxFailures": 0}
        completed = {"type": "completed", "completedAt": 0, "result": CANCELED}
        run = {"functionHandle": "", "functionArgs": {}, "options": options, "state": completed, "numFailures": 0}
        for _ in range(1500):
            await ctx.db.insert("runs", run)

    await component.run(fill)
    await deployment.run_cron("action_retrier/forget old runs")
    await deployment.finish_in_progress_scheduled_functions()
    assert await documents(deployment) == []
