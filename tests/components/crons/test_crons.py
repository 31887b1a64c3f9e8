"""Crons registered at run time: their slots, and what becomes of missed ones, overlaps, failures and lost ones."""

from typing import Any

import pytest

from reactor import ReactorError
from reactor.components.crons import cron, interval
from reactor.testing.deployment import MemoryDeployment

MINUTE = 60_000


async def register(deployment: MemoryDeployment, schedule: Any, **options: Any) -> Any:
    return await deployment.mutation("jobs:register", schedule=schedule, **options)


async def runs(deployment: MemoryDeployment) -> list[float]:
    """When the crons have run, in minutes since the start of the test's clock."""
    found: Any = await deployment.query("jobs:runs")
    start = 1_767_225_600_000
    return [(run["at"] - start) / MINUTE for run in found]


async def jobs(deployment: MemoryDeployment, *states: str) -> int:
    found: Any = await deployment.component("crons").query(
        lambda ctx: ctx.db.system.query("_scheduled_functions").collect()
    )
    return sum(job["state"]["kind"] in states for job in found)


async def occupy(deployment: MemoryDeployment) -> str:
    """Let the last run of the only cron go on for days; return the scheduled function that does."""

    async def change(ctx: Any) -> Any:
        job = await ctx.scheduler.run_after(30 * 24 * 60 * MINUTE, "registry:rearm")
        (row,) = await ctx.db.query("crons").collect()
        await ctx.db.patch(row["_id"], {"executionJobId": job})
        return job

    job: Any = await deployment.component("crons").run(change)
    return str(job)


async def release(deployment: MemoryDeployment, job: str) -> None:
    await deployment.component("crons").run(lambda ctx: ctx.scheduler.cancel(job))


async def test_an_interval_without_drift(deployment: MemoryDeployment) -> None:
    await register(deployment, interval(minutes=5))
    await deployment.advance(minutes=17)
    assert await runs(deployment) == [5, 10, 15]


async def test_a_cron_runs_actions_too(deployment: MemoryDeployment) -> None:
    await register(deployment, cron("*/10 * * * *"), function="jobs:note_slowly")
    await deployment.advance(minutes=25)
    assert await runs(deployment) == [10, 20]


async def test_over_the_end_of_summer_time(deployment: MemoryDeployment) -> None:
    deployment.clock.advance(days=295)  # to 2026-10-23
    await register(deployment, cron("30 2 * * *", tz="Europe/Berlin"))
    await deployment.advance(days=4)
    day, shift = 24 * 60, 60
    first = 295 * day + 30  # 02:30 in Berlin is 00:30 in UTC, and 01:30 from the 25th on
    expected = [first, first + day, first + 2 * day, first + 3 * day + shift]
    assert await runs(deployment) == expected


async def test_a_cron_that_is_years_away(deployment: MemoryDeployment) -> None:
    """The scheduler reaches five years; 2032 is the first year with a 29th of February that is a Sunday."""
    await register(deployment, cron("0 0 29 2 */7"))
    for _ in range(5):
        deployment.clock.advance(days=400)
        await deployment.finish_in_progress_scheduled_functions()
    assert await runs(deployment) == []
    deployment.clock.advance(days=300)
    await deployment.finish_in_progress_scheduled_functions()
    assert len(await runs(deployment)) == 1


async def test_names_are_unique_where_there_are_any(deployment: MemoryDeployment) -> None:
    first = await register(deployment, interval(minutes=1), name="a")
    with pytest.raises(ValueError, match='Cron with name "a" already exists'):
        await register(deployment, interval(minutes=2), name="a")
    unnamed = {await register(deployment, interval(minutes=3)) for _ in range(2)}
    known: Any = await deployment.query("jobs:known")
    assert known[0]["id"] == first
    assert {one["id"] for one in known[1:]} == unnamed
    assert known[0] == {
        "id": first,
        "name": "a",
        "functionHandle": known[0]["functionHandle"],
        "args": {"text": "x"},
        "schedule": {"kind": "interval", "ms": MINUTE},
        "missed": "once",
    }
    assert await deployment.query("jobs:get", name="a") == known[0] == await deployment.query("jobs:get", id=first)
    assert await deployment.query("jobs:get", name="b") is None
    assert await deployment.query("jobs:get", id="nonsense") is None
    with pytest.raises(TypeError, match="by id= or by name="):
        await deployment.query("jobs:get")


async def test_what_is_no_schedule_is_refused(deployment: MemoryDeployment) -> None:
    with pytest.raises(ValueError, match="Interval must be >= 1000ms"):
        await register(deployment, interval(milliseconds=10))
    with pytest.raises(ValueError, match='Invalid cronspec: "often"'):
        await register(deployment, cron("often"))
    assert await deployment.query("jobs:known") == []


async def test_registering_and_deleting_are_a_part_of_the_mutation(deployment: MemoryDeployment) -> None:
    with pytest.raises(ReactorError):
        await deployment.mutation("jobs:register_and_fail", schedule=interval(minutes=1))
    await deployment.advance(minutes=2)
    assert (await runs(deployment), await deployment.query("jobs:known")) == ([], [])
    await register(deployment, interval(minutes=1), name="a")
    with pytest.raises(ReactorError):
        await deployment.mutation("jobs:delete_and_fail", name="a")
    await deployment.advance(minutes=2)
    assert await runs(deployment) == [3, 4]


async def test_deleting(deployment: MemoryDeployment) -> None:
    cron_id = await register(deployment, interval(minutes=1), name="a")
    await deployment.advance(minutes=1)
    job = await occupy(deployment)
    await deployment.mutation("jobs:delete", id=cron_id)
    assert await jobs(deployment, "pending", "inProgress") == 0, "both its scheduled functions are cancelled"
    await deployment.advance(minutes=5)
    assert await runs(deployment) == [1]
    for wrong, text in (({"name": "a"}, 'name "a"'), ({"id": cron_id}, f'id "{cron_id}"'), ({"id": job}, "id")):
        with pytest.raises(ValueError, match=f"Cron with {text}.* not found"):
            await deployment.mutation("jobs:delete", wrong)


async def test_a_run_may_delete_its_own_cron(deployment: MemoryDeployment) -> None:
    await register(deployment, interval(minutes=1), function="jobs:note_once", args={"name": "a"}, name="a")
    await deployment.advance(minutes=5)
    assert await runs(deployment) == [1]
    assert await deployment.query("jobs:known") == []


async def test_a_run_that_fails_is_not_the_last(deployment: MemoryDeployment) -> None:
    await register(deployment, interval(minutes=1), function="jobs:fail", args={})
    await deployment.advance(minutes=3)
    assert await jobs(deployment, "failed") == 3


async def test_runs_never_overlap(deployment: MemoryDeployment) -> None:
    """A slot in which the run before still goes on is left out."""
    await register(deployment, interval(minutes=1))
    await deployment.advance(minutes=1)
    job = await occupy(deployment)
    await deployment.advance(minutes=3)
    await release(deployment, job)
    await deployment.advance(minutes=2)
    assert await runs(deployment) == [1, 5, 6]


@pytest.mark.parametrize(("missed", "made_up"), [("once", 1), ("all", 3), ("skip", 0)])
@pytest.mark.parametrize("schedule", [interval(minutes=10), cron("*/10 * * * *")], ids=["interval", "cron"])
async def test_after_a_time_in_which_the_server_was_down(
    deployment: MemoryDeployment, schedule: Any, missed: str, made_up: int
) -> None:
    """Slots at 10, 20 and 30 minutes; nobody runs until 35."""
    await register(deployment, schedule, missed=missed)
    deployment.clock.advance(minutes=35)
    await deployment.advance(seconds=10)
    found = await runs(deployment)
    assert len(found) == made_up
    assert all(35 <= at < 36 for at in found)
    await deployment.advance(minutes=20)
    assert (await runs(deployment))[made_up:] == [40, 50]


async def test_all_missed_slots_run_one_after_the_other(deployment: MemoryDeployment) -> None:
    await register(deployment, interval(minutes=1), missed="all")
    job = await occupy(deployment)
    deployment.clock.advance(minutes=5, seconds=30)
    await deployment.advance(seconds=20)
    assert await runs(deployment) == [], "they wait for the run before"
    await release(deployment, job)
    await deployment.advance(seconds=9)
    assert len(await runs(deployment)) == 5
    await deployment.advance(minutes=1)
    assert (await runs(deployment))[5:] == [6]


async def test_a_little_late_is_not_missed(deployment: MemoryDeployment) -> None:
    await register(deployment, interval(minutes=10), missed="skip")
    deployment.clock.advance(minutes=15)
    await deployment.finish_in_progress_scheduled_functions()
    assert await runs(deployment) == [15]
    await deployment.advance(minutes=5)
    assert await runs(deployment) == [15, 20]


async def test_the_janitor_arms_lost_crons_again(deployment: MemoryDeployment) -> None:
    """By itself, an hour later at most; what was missed is left out. Those that wait are left alone."""
    await register(deployment, interval(minutes=7), name="lost")
    await register(deployment, interval(minutes=90), name="waiting", args={"text": "y"})

    async def lose(ctx: Any) -> None:
        row = await ctx.db.query("crons").with_index("by_name", name="lost").unique()
        await ctx.scheduler.cancel(row["schedulerJobId"])

    await deployment.component("crons").run(lose)
    await deployment.advance(minutes=60)
    assert await runs(deployment) == []
    await deployment.advance(minutes=16)
    assert await runs(deployment) == [67, 74]
    await deployment.advance(minutes=14)
    assert await runs(deployment) == [67, 74, 81, 88, 90]


async def test_the_janitor_looks_at_all(deployment: MemoryDeployment) -> None:
    async def insert(ctx: Any) -> None:
        for _ in range(250):
            row = {"functionHandle": handle, "args": {"text": "x"}, "schedule": cron("0 1 * * *")}
            await ctx.db.insert("crons", row)

    handle = await deployment.run(lambda ctx: ctx.function_handle("jobs:note"))
    component = deployment.component("crons")
    await component.run(insert)
    await component.mutation("registry:rearm")
    await deployment.finish_in_progress_scheduled_functions()
    assert await jobs(deployment, "pending") == 250
