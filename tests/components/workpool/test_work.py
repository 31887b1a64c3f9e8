"""Work of each kind runs, its end is told once, and nothing of it is left."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment
from tests.components.workpool.pools import Pool

SUCCESS = "success"


async def test_an_action_that_succeeds_is_forgotten(pool: Pool) -> None:
    work = await pool.one("act", most=0)
    assert await pool.status(work) == {"state": "pending", "previousAttempts": 0}
    await pool.allow(1)
    assert await pool.status(work) == {"state": "finished"}
    assert await pool.effects() == ["job"]
    assert await pool.ends() == [{"kind": SUCCESS, "returnValue": "job"}]
    assert await pool.documents() == {}


async def test_a_mutation_and_a_query(pool: Pool) -> None:
    await pool.one("effect", kind="mutation")
    await pool.settle()
    await pool.one("count", kind="query")
    await pool.settle()
    assert await pool.ends() == [{"kind": SUCCESS, "returnValue": "job"}, {"kind": SUCCESS, "returnValue": 1.0}]
    assert await pool.documents() == {}


async def test_a_mutation_that_fails_leaves_nothing_and_is_not_repeated(pool: Pool) -> None:
    await pool.one("broken", kind="mutation")
    await pool.deployment.finish_all_scheduled_functions()
    assert await pool.effects() == []
    assert await pool.ends() == [{"kind": "failed", "error": "undone"}]
    assert await pool.documents() == {}


async def test_work_is_enqueued_from_actions(pool: Pool, deployment: MemoryDeployment) -> None:
    work = await deployment.action("jobs:enqueue_from_action", name="a")
    await pool.settle()
    assert await pool.effects() == ["a"]
    (end,) = await deployment.run(lambda ctx: ctx.db.query("ends").collect())  # type: ignore[misc]
    assert end["workId"] == work  # type: ignore[index, call-overload]


async def test_enqueueing_is_a_part_of_its_transaction(pool: Pool, deployment: MemoryDeployment) -> None:
    async def enqueue(ctx: Any) -> None:
        await ctx.run_mutation("jobs:enqueue", job="act")
        raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"):
        await deployment.run(enqueue)
    await pool.settle()
    assert (await pool.effects(), await pool.documents()) == ([], {})


@pytest.mark.parametrize("job", ["fail", "fail_for_good"])
async def test_an_action_that_fails_is_not_repeated_without_retries(pool: Pool, job: str) -> None:
    await pool.one(job)
    await pool.deployment.finish_all_scheduled_functions()
    assert await pool.effects() == ["job"]
    ((kind, error),) = [(end["kind"], end["error"]) for end in await pool.ends()]
    assert kind == "failed"
    assert "job" in error


async def test_the_context_and_the_id_come_back(pool: Pool, deployment: MemoryDeployment) -> None:
    work = await pool.one("act", options={"context": {"a": [1, None]}})
    await pool.settle()
    (end,) = await deployment.run(lambda ctx: ctx.db.query("ends").collect())  # type: ignore[misc]
    assert end["workId"] == work  # type: ignore[index, call-overload]
    assert end["context"] == {"a": [1, None]}  # type: ignore[index, call-overload]


async def test_a_context_of_none_is_not_the_absence_of_one(pool: Pool, deployment: MemoryDeployment) -> None:
    await pool.one("act", options={"context": None})
    await pool.settle()
    await pool.one("act")
    await pool.settle()
    ends: Any = await deployment.run(lambda ctx: ctx.db.query("ends").collect())
    assert [end.get("context", "absent") for end in ends] == [None, "absent"]


async def test_kinds_that_are_excluded_are_not_told(pool: Pool) -> None:
    await pool.one("act", options={"exclude_kinds": [SUCCESS]})
    await pool.one("fail", options={"exclude_kinds": [SUCCESS]})
    await pool.settle()
    assert [end["kind"] for end in await pool.ends()] == ["failed"]


async def test_an_on_complete_that_fails_undoes_nothing_but_itself_and_is_called_once_more(pool: Pool) -> None:
    """The first call is in the transaction of the end: of what it wrote, nothing is left."""
    await pool.one("broken", kind="mutation", told=False, options={"on_complete": "jobs:failing_done"})
    await pool.settle()
    assert await pool.documents() == {}
    assert (await pool.effects(), await pool.ends()) == ([], [])
    scheduled: Any = await pool.component.query(lambda ctx: ctx.db.system.query("_scheduled_functions").collect())
    calls = [job["state"]["kind"] for job in scheduled if job["name"] == "jobs.js:failing_done"]
    assert calls == ["failed"]


async def test_an_on_complete_that_failed_may_work_by_itself(pool: Pool) -> None:
    await pool.one("count", kind="query", told=False, most=0, options={"on_complete": "jobs:failing_done"})
    await pool.one("effect", kind="mutation", told=False, most=0, options={"priority": -1})
    await pool.allow(2)
    assert (await pool.effects(), await pool.ends()) == (["job"], ["of the first call"])


@pytest.mark.asyncio
async def test_an_on_complete_that_takes_the_end_with_it_is_called_by_itself(
    folder: Path, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """The action has run: that must be known, whatever its on_complete does."""
    deployment = MemoryDeployment(project, folder)
    deployment.limits = msgspec.structs.replace(deployment.limits, user_seconds=0.1)
    async with deployment:
        pool = Pool(deployment)
        await pool.one("act", retry=True, told=False, options={"on_complete": "jobs:endless_done"})
        await pool.settle()
        assert await pool.effects() == ["job"]
        assert await pool.documents() == {}
    assert "its on_complete can't run with that" in caplog.text


async def test_status_of_many_and_of_what_never_was(pool: Pool) -> None:
    works = await pool.enqueue("gated", "a", "b", most=1)
    await pool.quiet()
    found = await pool.deployment.query("jobs:statuses", works=[*works, "nonsense"])
    assert found == [
        {"state": "running", "previousAttempts": 0},
        {"state": "pending", "previousAttempts": 0},
        {"state": "finished"},
    ]
    await pool.end("a", works[0])
    await pool.quiet()
    await pool.end("b", works[1])


async def test_large_arguments_and_contexts_are_kept_beside(pool: Pool, deployment: MemoryDeployment) -> None:
    large = "x" * 900_000
    await pool.enqueue("count", large, kind="query", most=0, options={"context": large})
    assert await pool.documents() == {"work": 1, "payloads": 2, "pendingStart": 1}
    await pool.allow(1)
    (end,) = await deployment.run(lambda ctx: ctx.db.query("ends").collect())  # type: ignore[misc]
    assert end["context"] == large  # type: ignore[index, call-overload]
    assert end["result"] == {"kind": SUCCESS, "returnValue": 0.0}  # type: ignore[index, call-overload]
    assert await pool.documents() == {}


async def test_small_ones_are_not(pool: Pool) -> None:
    await pool.enqueue("act", "x" * 3000, most=0, options={"context": "x" * 4000})
    assert await pool.documents() == {"work": 1, "pendingStart": 1}


@pytest.mark.parametrize(
    ("names", "options", "what"),
    [
        (["x" * 1_000_000], {}, "arguments of jobs:act take 1000009 bytes"),
        (["x"], {"context": "x" * 1_000_000}, "on_complete context of jobs:act take 1000002 bytes"),
    ],
)
async def test_what_is_too_large_is_refused(pool: Pool, names: list[str], options: Any, what: str) -> None:
    with pytest.raises(ValueError, match=f"The {what}, more than 1000000: keep what is large in documents"):
        await pool.enqueue("act", *names, options=options)


async def test_a_large_batch_goes_in_several_calls(pool: Pool) -> None:
    """From one mutation, whose limits hold for all of them; an action's calls are a transaction each."""
    works = await pool.enqueue("act", *[f"{n}{'x' * 900_000}" for n in range(10)], told=False, most=2)
    assert len(set(works)) == 10
    await pool.settle()
    assert sorted(name[0] for name in await pool.effects()) == [str(n) for n in range(10)]


@pytest.mark.parametrize("value", [-1, 201, 1.5])
async def test_a_parallelism_that_can_not_be_is_refused(pool: Pool, value: float) -> None:
    with pytest.raises(ValueError, match="whole number from 0"):
        await pool.component.mutation("config:update", maxParallelism=value)


async def test_a_high_parallelism_is_warned_of(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    for value in (100, 101):
        caplog.clear()
        await pool.component.mutation("config:update", maxParallelism=value)
        assert ("is high" in caplog.text) == (value == 101)


async def test_the_single_form_of_the_component(pool: Pool, deployment: MemoryDeployment) -> None:
    handle: Any = await deployment.run(lambda ctx: ctx.function_handle("jobs:act"))
    item = {"fnHandle": handle, "fnName": "x", "fnType": "action", "fnArgs": {"name": "a"}, "runAt": 0, "priority": 0}
    work = await pool.component.mutation("work:enqueue", {**item, "maxParallelism": 0})
    assert await pool.status(str(work)) == {"state": "pending", "previousAttempts": 0}
    await pool.allow(1)
    assert await pool.effects() == ["a"]
