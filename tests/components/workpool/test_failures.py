"""Retries, cancellation, and jobs that vanish: each piece of work has one end, whatever comes in between."""

import random
from typing import Any

import pytest

from reactor import components
from reactor.components.scheduled import backoff_ms
from reactor.components.workpool import RetryBehavior, Workpool
from tests.components.workpool.pools import Pool

THREE = {"max_attempts": 3, "initial_backoff_ms": 1000.0, "base": 10.0}
COMPLETE = "jobs:complete"


async def lose_wrapper(pool: Pool, work: str) -> None:
    """Take away the scheduled function that runs the attempt."""

    async def lose(ctx: Any) -> None:
        running = await ctx.db.query("running").with_index("by_work", workId=work).unique()
        await ctx.scheduler.cancel(running["scheduledId"])

    await pool.component.run(lose)


# Retries.


async def test_a_failing_action_is_tried_again_so_often_and_so_late(pool: Pool) -> None:
    work = await pool.one("fail", retry=THREE)
    await pool.settle()
    for attempts, nominal in ((1, 1000), (2, 10_000)):
        assert await pool.status(work) == {"state": "pending", "previousAttempts": attempts}
        assert await pool.documents() == {"work": 1, "pendingStart": 1}
        assert await pool.ends() == []
        delay = await pool.pending_time() - pool.deployment.clock.now_ms
        assert nominal * 0.5 <= delay < nominal * 1.5
        await pool.deployment.advance(milliseconds=delay - 1)
        assert len(await pool.effects()) == attempts
        await pool.deployment.advance(milliseconds=2)
        assert len(await pool.effects()) == attempts + 1
    assert [end["kind"] for end in await pool.ends()] == ["failed"]
    assert await pool.documents() == {}


def test_the_waiting_times_are_those_of_the_original() -> None:
    behavior = RetryBehavior().wire()
    assert behavior == {"maxAttempts": 5, "initialBackoffMs": 250, "base": 2}
    random.seed(1)
    for failures, nominal in enumerate((250, 500, 1000, 2000)):
        drawn = [backoff_ms(250, 2, failures) for _ in range(500)]
        assert nominal * 0.5 <= min(drawn) < nominal * 0.55
        assert nominal * 1.45 < max(drawn) < nominal * 1.5


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"initial_backoff_ms": -1.0}, {"base": 0.0}])
def test_a_behavior_that_can_not_be_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        RetryBehavior(**wrong)


@pytest.mark.parametrize(("retry", "attempts"), [(True, 5), (False, 1), (None, 1)])
async def test_the_default_is_five_attempts_if_any(pool: Pool, retry: bool | None, attempts: int) -> None:
    await pool.one("fail", retry=retry)
    await pool.deployment.finish_all_scheduled_functions()
    assert len(await pool.effects()) == attempts
    assert len(await pool.ends()) == 1


async def test_a_pool_may_say_that_actions_are_tried_again_and_how(pool: Pool) -> None:
    behavior = RetryBehavior(max_attempts=2, initial_backoff_ms=0.0)
    stubborn = Workpool(components.workpool, retry_actions_by_default=True, default_retry_behavior=behavior)

    async def enqueue(ctx: Any) -> None:
        await stubborn.enqueue_action(ctx, "jobs:fail", {"name": "by default"})
        await stubborn.enqueue_action(ctx, "jobs:fail", {"name": "not this one"}, retry=False)

    await pool.deployment.run(enqueue)
    await pool.deployment.finish_all_scheduled_functions()
    assert sorted(await pool.effects()) == ["by default", "by default", "not this one"]


async def test_a_non_retryable_error_ends_it(pool: Pool) -> None:
    await pool.one("fail_for_good", retry=True)
    await pool.deployment.finish_all_scheduled_functions()
    assert await pool.effects() == ["job"]
    assert [end["kind"] for end in await pool.ends()] == ["failed"]


async def test_an_action_that_succeeds_late_ends_it(pool: Pool) -> None:
    work = await pool.one("gated", "a", retry=THREE)
    await pool.quiet()
    await pool.end("a", work, "fail")
    pool.deployment.clock.advance(milliseconds=await pool.pending_time() - pool.deployment.clock.now_ms + 1)
    await pool.quiet()
    await pool.end("a", work)
    assert await pool.ends() == [{"kind": "success", "returnValue": "success"}]
    assert await pool.documents() == {}


async def test_an_attempt_that_is_not_the_present_one_is_ignored(pool: Pool) -> None:
    work = await pool.one("gated", "a", retry=THREE)
    await pool.quiet()
    end = {"workId": work, "result": {"kind": "success", "returnValue": 1}, "isFinal": False}
    for attempt in (1, 2):
        await pool.component.mutation(COMPLETE, {**end, "attempt": attempt})
    assert await pool.status(work) == {"state": "running", "previousAttempts": 0}
    await pool.component.mutation(COMPLETE, {**end, "attempt": 0})
    for _ in range(2):
        await pool.component.mutation(COMPLETE, {**end, "attempt": 0})
    assert await pool.ends() == [{"kind": "success", "returnValue": 1.0}]
    pool.gates.waiting["a"].set_result("success")
    await pool.settle()
    assert len(await pool.ends()) == 1


async def test_an_attempt_that_waits_again_does_not_end_twice(pool: Pool) -> None:
    work = await pool.one("fail", retry=THREE)
    await pool.settle()
    end = {"workId": work, "attempt": 1, "result": {"kind": "success", "returnValue": 1}, "isFinal": False}
    await pool.component.mutation(COMPLETE, end)
    assert await pool.status(work) == {"state": "pending", "previousAttempts": 1}


async def test_a_wrapper_of_an_old_attempt_runs_nothing(pool: Pool) -> None:
    transaction = await pool.one("effect", kind="mutation", most=0)
    action = await pool.one("act", most=0)
    await pool.component.mutation("jobs:run_transaction", {"workId": transaction, "attempt": 1})
    await pool.component.action("jobs:run_action", {"workId": action, "attempt": 1})
    assert await pool.effects() == []


# Cancellation.


async def test_what_waits_ends_as_canceled(pool: Pool) -> None:
    work = await pool.one("act", most=0)
    await pool.deployment.mutation("jobs:cancel", work=work)
    assert await pool.ends() == [{"kind": "canceled"}]
    assert await pool.documents() == {}
    await pool.allow(1)
    assert await pool.effects() == []


async def test_what_runs_goes_on_to_its_real_result(pool: Pool) -> None:
    work = await pool.one("gated", "a", retry=THREE)
    await pool.quiet()
    for _ in range(2):
        await pool.deployment.mutation("jobs:cancel", work=work)
    assert await pool.status(work) == {"state": "running", "previousAttempts": 0}
    await pool.end("a", work)
    assert await pool.ends() == [{"kind": "success", "returnValue": "success"}]


async def test_what_was_canceled_while_it_ran_is_not_tried_again(pool: Pool) -> None:
    work = await pool.one("gated", "a", retry=THREE)
    await pool.quiet()
    await pool.deployment.mutation("jobs:cancel", work=work)
    await pool.end("a", work, "fail")
    assert await pool.ends() == [{"kind": "failed", "error": "a"}]
    assert await pool.documents() == {}


async def test_what_waits_for_its_next_attempt_can_be_canceled(pool: Pool) -> None:
    work = await pool.one("fail", retry=THREE)
    await pool.settle()
    await pool.deployment.mutation("jobs:cancel", work=work)
    assert await pool.ends() == [{"kind": "canceled"}]
    await pool.deployment.finish_all_scheduled_functions()
    assert await pool.effects() == ["job"]


async def test_to_cancel_what_has_ended_or_never_was_changes_nothing(pool: Pool) -> None:
    work = await pool.one("act")
    await pool.settle()
    for name in (work, "nonsense"):
        await pool.deployment.mutation("jobs:cancel", work=name)
    assert [end["kind"] for end in await pool.ends()] == ["success"]


async def test_cancel_all_goes_page_by_page(pool: Pool) -> None:
    running = await pool.one("gated", "held", most=1)
    await pool.quiet()
    await pool.enqueue("act", *map(str, range(9)), most=1)
    await pool.deployment.mutation("jobs:cancel_all", limit=4)
    later = await pool.one("effect", "later", kind="mutation", most=1)
    pool.gates.waiting["held"].set_result("success")
    await pool.settle()
    assert sorted(end["kind"] for end in await pool.ends()) == [*["canceled"] * 9, "success", "success"]
    assert await pool.effects() == ["later"]
    assert [await pool.status(work) for work in (running, later)] == [{"state": "finished"}] * 2


async def test_cancel_all_takes_at_least_one_at_a_time(pool: Pool) -> None:
    with pytest.raises(ValueError, match="at least one"):
        await pool.deployment.mutation("jobs:cancel_all", limit=0)


@pytest.mark.parametrize(("is_cancel_first", "at"), [*((True, at) for at in range(1, 9)), (False, 1), (False, 2)])
async def test_a_job_is_started_or_canceled_and_never_both(pool: Pool, is_cancel_first: bool, at: int) -> None:
    """The loop and a cancellation meet at any of their steps: one of them loses its attempt, and sees the other."""
    work = await pool.one("effect", kind="mutation", most=0)
    await pool.settle()
    await pool.component.run(set_most_quietly)
    deployment = pool.deployment
    if is_cancel_first:
        async with deployment.hold("loop:main", {"name": "main"}, at=at, by=pool.component) as held:
            await deployment.mutation("jobs:cancel", work=work)
            await held.finish()
    else:
        async with deployment.hold("jobs:cancel", {"work": work}, at=at) as held:
            await pool.component.mutation("loop:main", name="main")
            await held.finish()
    await pool.settle()
    ends = [end["kind"] for end in await pool.ends()]
    assert (ends, await pool.effects()) in ((["canceled"], []), (["success"], ["job"]))
    assert await pool.documents() == {}


async def set_most_quietly(ctx: Any) -> None:
    found = await ctx.db.query("globals").unique()
    await ctx.db.patch(found["_id"], {"maxParallelism": 1})


# Jobs that vanish.


async def test_a_job_that_vanished_is_missed_after_five_minutes(pool: Pool) -> None:
    work = await pool.one("gated", "a", most=1)
    await pool.quiet()
    await pool.one("effect", kind="mutation", most=1)
    await lose_wrapper(pool, work)
    pool.deployment.clock.advance(minutes=4)
    await pool.quiet()
    assert await pool.status(work) == {"state": "running", "previousAttempts": 0}
    pool.deployment.clock.advance(minutes=1)
    await pool.until(2)
    gone, done = await pool.ends()
    assert gone == {"kind": "failed", "error": "Canceled via scheduler"}
    assert done == {"kind": "success", "returnValue": "job"}
    pool.gates.waiting["a"].set_result("success")  # it was only believed to be gone
    await pool.settle()
    assert len(await pool.ends()) == 2


async def test_one_that_vanished_is_tried_again_if_it_may_be(pool: Pool) -> None:
    work = await pool.one("act", retry=THREE, most=0)
    await pool.component.run(start_in_vain)
    await pool.allow(1)
    assert await pool.status(work) == {"state": "pending", "previousAttempts": 1}
    assert await pool.ends() == []


async def test_what_runs_for_long_is_left_alone(pool: Pool) -> None:
    work = await pool.one("gated", "a")
    await pool.quiet()
    for _ in range(10):
        pool.deployment.clock.advance(minutes=1)
        await pool.quiet()
    assert await pool.status(work) == {"state": "running", "previousAttempts": 0}
    await pool.end("a", work)
    assert await pool.ends() == [{"kind": "success", "returnValue": "success"}]


async def test_more_than_one_look_at_a_time(pool: Pool) -> None:
    """Forty jobs vanish at once; each is found."""
    await pool.enqueue("effect", *map(str, range(40)), kind="mutation", most=0)
    await pool.component.run(start_in_vain)
    await pool.allow(40)
    assert len(await pool.ends()) == 40
    assert await pool.effects() == []


async def start_in_vain(ctx: Any) -> None:
    """Do as the loop does when it starts what waits, but so that it never runs and is missed at once."""
    for pending in await ctx.db.query("pendingStart").collect():
        await ctx.db.delete(pending["_id"])
        job = await ctx.scheduler.run_after(10_000, "jobs:run_transaction", {"workId": "x", "attempt": 0})
        await ctx.scheduler.cancel(job)
        running = {"workId": pending["workId"], "scheduledId": job, "started": ctx.now(), "checkTime": ctx.now()}
        await ctx.db.insert("running", running)
