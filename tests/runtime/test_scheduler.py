"""Scheduled functions: what may be scheduled, when it runs, and what is left of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reactor.engine import publisher
from reactor.errors import (
    ArgumentsInvalid,
    InvalidArgument,
    InvalidFunctionCall,
    LimitExceeded,
    OutcomeUnknown,
    ReactorError,
    SchedulingError,
    WriteConflict,
)
from reactor.limits import Limits
from reactor.testing.clock import VirtualClock
from tests.runtime.hosts import Bench, as_coroutine, as_function, open_bench, project_files, success, value_of
from tests.storage.faults import Fault

FORMS: list[Any] = [as_coroutine, as_function]
JOBS = project_files(
    jobs="""
@internal_mutation
async def add(ctx, name: str, n: int = 0):
    print("adding", name)
    await ctx.db.insert("items", {"name": name, "n": n})

@mutation
def add_blocking(ctx, name: str):
    ctx.scheduler.run_after(0, "jobs:add", name=name)

@mutation
async def fail(ctx, text: str):
    await ctx.db.insert("items", {"name": "undone"})
    raise ReactorError({"text": text})

@query
async def look(ctx):
    return None

@mutation
async def who(ctx):
    identity = await ctx.auth.get_user_identity()
    await ctx.db.insert("items", {"name": "nobody" if identity is None else "somebody"})

@mutation
async def cancel_self(ctx):
    (row,) = await ctx.db.system.query("_scheduled_functions").collect()
    await ctx.db.insert("items", {"name": row["state"]["kind"]})
    await ctx.scheduler.cancel(row["_id"])

@mutation
async def chain(ctx, left: int):
    await ctx.db.insert("items", {"name": "link", "n": left})
    if left:
        await ctx.scheduler.run_after(1000, "jobs:chain", left=left - 1)

@mutation
async def child(ctx):
    await ctx.scheduler.run_after(0, "jobs:add", name="of the child")
    raise ReactorError("no")

@mutation
async def parent(ctx):
    await ctx.scheduler.run_after(0, "jobs:add", name="before")
    try:
        await ctx.run_mutation("jobs:child")
    except ReactorError:
        pass
    await ctx.scheduler.run_after(0, "jobs:add", name="after")
    return len(await ctx.db.system.query("_scheduled_functions").collect())

@mutation
async def cancel(ctx, job: str):
    await ctx.scheduler.cancel(job)
""",
    acts="""
import threading
reached, go_on = threading.Event(), threading.Event()

@action
async def act(ctx, name: str):
    print("acting", name)
    await ctx.run_mutation("jobs:add", name=name)
    return 1

@action
async def break_down(ctx):
    raise ValueError("broken")

@action
async def lasting(ctx):
    before = await ctx.scheduler.run_after(0, "jobs:add", name="before")
    reached.set()
    await asyncio.to_thread(go_on.wait, 20)
    await ctx.scheduler.run_after(0, "jobs:add", name="after")
    await ctx.run_mutation("jobs:add_blocking", name="in a mutation")

@action
def blocking(ctx):
    ctx.scheduler.run_at(ctx.now(), "jobs:add", {"name": "blocking"})
    later = ctx.scheduler.run_after(timedelta(days=1), "jobs:add", {"name": "never"})
    ctx.scheduler.cancel(later)
    raise ValueError("broken")

@action
async def to_nowhere(ctx):
    await ctx.scheduler.run_after(0, "nowhere:f")
""".replace("import threading\n", "import threading\nfrom datetime import timedelta\n"),
)


class Scheduled:
    """A bench whose time passes when told, and what its scheduled functions did."""

    def __init__(self, bench: Bench, clock: VirtualClock) -> None:
        self.bench = bench
        self.clock = clock

    async def run(self, handler: Callable[[Any], Any]) -> Any:
        return await self.bench.run(handler)

    async def schedule(self, path: str, delay: Any = 0, **args: Any) -> str:
        return str(await self.run(as_coroutine(lambda ctx: (yield ctx.scheduler.run_after(delay, path, **args)))))

    async def settle(self) -> None:
        await self.bench.host.scheduler.settled()

    async def pass_time(self, **units: float) -> None:
        self.clock.advance(**units)
        await self.settle()

    async def names(self) -> list[str]:
        """The names of the items, in the order of their creation."""
        items = await self.run(as_coroutine(lambda ctx: (yield ctx.db.query("items").collect())))
        return [item["name"] for item in items]

    async def rows(self) -> list[dict[str, Any]]:
        return list(
            await self.run(as_coroutine(lambda ctx: (yield ctx.db.system.query("_scheduled_functions").collect())))
        )

    async def row(self, job: str) -> dict[str, Any]:
        return dict(await self.run(as_coroutine(lambda ctx: (yield ctx.db.system.get(job)))))

    async def states(self) -> list[str]:
        return [row["state"]["kind"] for row in await self.rows()]


@asynccontextmanager
async def scheduled(tmp_path: Path, **options: Any) -> AsyncIterator[Scheduled]:
    clock = VirtualClock()
    async with open_bench(tmp_path, options.pop("files", JOBS), clock=clock, **options) as bench:
        yield Scheduled(bench, clock)


@pytest.mark.asyncio
async def test_a_job_runs_when_it_is_due_and_not_before(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        await s.schedule("jobs:add", 5000, name="late")
        await s.schedule("jobs:add", timedelta(seconds=2), name="early")
        await s.pass_time(milliseconds=1999)
        assert await s.names() == []
        await s.pass_time(milliseconds=1)
        assert await s.names() == ["early"]
        assert s.bench.host.scheduler.next_due_ns is not None
        await s.pass_time(seconds=10)
        assert await s.names() == ["early", "late"]
        assert s.bench.host.scheduler.next_due_ns is None


@pytest.mark.asyncio
async def test_what_a_job_prints_is_in_the_log_of_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No client called it, so nobody else would ever see it."""
    caplog.set_level("INFO", "reactor.functions")
    async with scheduled(tmp_path) as s:
        await s.schedule("jobs:add", name="a")
        await s.settle()
        await s.schedule("acts:act", name="b")
        await s.settle()
    told = [record.getMessage() for record in caplog.records if record.name == "reactor.functions"]
    assert told == [
        "jobs:add: [LOG] 'adding a'",
        "acts:act: [LOG] 'acting b'",
        "acts:act: [LOG] [jobs:add] 'adding b'",
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("form", FORMS)
async def test_what_applications_see_of_a_job(tmp_path: Path, form: Any) -> None:
    """Exactly the documented fields, whatever else is stored, to `get`, to queries, and to their filters."""
    async with scheduled(tmp_path) as s:
        now = s.clock.now_ms

        def script(ctx: Any) -> Any:
            job = yield ctx.scheduler.run_at(now + 1500, "jobs:add", {"name": "x", "n": 2})
            got = yield ctx.db.system.get(job)
            listed = yield ctx.db.system.query("_scheduled_functions").where(lambda row: len(row) == 6).collect()
            hidden = ctx.db.system.query("_scheduled_functions").filter(lambda q: q.gt(q.field("nextTime"), 0))
            return [job, got, listed, (yield hidden.collect())]

        job, got, listed, found = await s.run(form(script))
        expected = {
            "_id": job,
            "_creationTime": got["_creationTime"],
            "name": "jobs.js:add",
            "args": [{"name": "x", "n": 2.0}],
            "scheduledTime": now + 1500,
            "state": {"kind": "pending"},
        }
        assert got == expected
        assert listed == [expected]
        assert found == []
        await s.pass_time(seconds=2)
        assert await s.row(job) == expected | {"state": {"kind": "success"}, "completedTime": now + 2000}


@pytest.mark.asyncio
async def test_a_time_that_has_passed_means_at_once_and_is_shown_as_asked_for(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        moment = datetime(2025, 12, 31, tzinfo=UTC)
        job = await s.run(as_coroutine(lambda ctx: (yield ctx.scheduler.run_at(moment, "jobs:add", {"name": "x"}))))
        await s.settle()
        row = await s.row(job)
        assert (row["scheduledTime"], row["state"]) == (moment.timestamp() * 1000, {"kind": "success"})
        assert await s.names() == ["x"]


@pytest.mark.asyncio
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((0, "nowhere:f"), SchedulingError, "Attempted to schedule function at nonexistent path: nowhere.js"),
        ((0, "jobs:gone"), SchedulingError, "no exported function gone found in the file: jobs.js. Did you forget to"),
        ((0, "::"), SchedulingError, "not a valid path"),
        ((1e15, "jobs:add"), SchedulingError, "is more than 5 years in the future"),
        ((-1, "jobs:add"), InvalidArgument, "can't be negative"),
        ((float("nan"), "jobs:add"), InvalidArgument, "finite number"),
        (("5", "jobs:add"), InvalidArgument, "finite number"),
        ((True, "jobs:add"), InvalidArgument, "finite number"),
        ((0, 7), InvalidArgument, "names no function"),
        ((0, "jobs:add", {"name": object()}), ArgumentsInvalid, "Invalid arguments for jobs.js:add"),
    ],
)
async def test_what_can_not_be_scheduled(
    tmp_path: Path, form: Any, args: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    async with scheduled(tmp_path) as s:
        with pytest.raises(error, match=text):
            await s.run(form(lambda ctx: (yield ctx.scheduler.run_after(*args))))
        assert await s.rows() == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("time", "error", "text"),
    [
        (0, SchedulingError, "0 is more than 5 years in the past"),
        (datetime(2026, 1, 1), InvalidArgument, "aware datetime"),
        (None, InvalidArgument, "aware datetime"),
    ],
)
async def test_times_that_are_none(tmp_path: Path, time: Any, error: type[Exception], text: str) -> None:
    async with scheduled(tmp_path) as s:
        with pytest.raises(error, match=text):
            await s.run(as_coroutine(lambda ctx: (yield ctx.scheduler.run_at(time, "jobs:add", {"name": "x"}))))


@pytest.mark.asyncio
async def test_five_years_are_as_far_as_it_goes(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        await s.schedule("jobs:add", timedelta(days=5 * 366), name="x")
        with pytest.raises(SchedulingError):
            await s.schedule("jobs:add", timedelta(days=5 * 366, milliseconds=1), name="x")


@pytest.mark.asyncio
async def test_one_mutation_schedules_a_thousand_functions(tmp_path: Path) -> None:
    """What a child had scheduled that was undone does not count."""

    def script(ctx: Any) -> Any:
        with pytest.raises(ReactorError):
            yield ctx.run_mutation("jobs:child")
        for _ in range(1000):
            yield ctx.scheduler.run_after(1, "jobs:add", name="x")
        with pytest.raises(LimitExceeded) as failure:
            yield ctx.scheduler.run_after(1, "jobs:add", name="x")
        return [failure.value.rule, str(failure.value)]

    async with scheduled(tmp_path) as s:
        assert await s.run(as_coroutine(script)) == [
            "TooManyFunctionsScheduled",
            "Too many functions scheduled by this mutation (limit: 1000)",
        ]
        assert len(await s.rows()) == 1000


@pytest.mark.asyncio
async def test_arguments_of_one_mutation_are_bounded_in_total(tmp_path: Path) -> None:
    def script(ctx: Any) -> Any:
        yield ctx.scheduler.run_after(1, "jobs:add", name="x" * (9 << 20))
        with pytest.raises(LimitExceeded, match=r"functions from this mutation \(limit: 16777216 bytes\)") as failure:
            yield ctx.scheduler.run_after(1, "jobs:add", name="x" * (9 << 20))
        return failure.value.rule

    async with scheduled(tmp_path) as s:
        assert await s.run(as_coroutine(script)) == "ScheduledFunctionsArgumentsTooLarge"


@pytest.mark.asyncio
@pytest.mark.parametrize("is_large", [True, False])
async def test_large_arguments_of_one_function_are_warned_of(tmp_path: Path, is_large: bool) -> None:
    size = (4 << 20) - len('{"name":""}') + is_large

    def script(ctx: Any) -> Any:
        yield ctx.scheduler.run_after(1, "jobs:add", name="x" * size)

    async with scheduled(tmp_path) as s:
        warned = [line for line in success(await s.bench.start(as_coroutine(script))).log_lines if "Large" in line]
        warning = (
            "[WARN] Large arguments of the scheduled function jobs.js:add (actual: 4194305 bytes, advised: at most "
        )
        assert [line.startswith(warning + "4194304).") for line in warned] == [True] * is_large


@pytest.mark.asyncio
async def test_arguments_are_looked_at_when_the_function_runs(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule("jobs:add", wrong=1)
        await s.settle()
        state = (await s.row(job))["state"]
        assert state["kind"] == "failed"
        assert "ArgumentValidationError" in state["error"]
        assert await s.names() == []


@pytest.mark.asyncio
async def test_arguments_are_those_of_the_call_whatever_happens_to_them_later(tmp_path: Path) -> None:
    def script(ctx: Any) -> Any:
        args = {"name": "then", "n": 1}
        yield ctx.scheduler.run_after(0, "jobs:add", args)
        args["name"] = "now"

    async with scheduled(tmp_path) as s:
        await s.run(as_coroutine(script))
        await s.settle()
        assert await s.names() == ["then"]


@pytest.mark.asyncio
async def test_a_function_that_raises_fails_its_job_and_leaves_nothing(tmp_path: Path) -> None:
    async with scheduled(tmp_path, redact=True) as s:
        job = await s.schedule("jobs:fail", text="why")
        await s.settle()
        state = (await s.row(job))["state"]
        assert state["kind"] == "failed"
        assert state["error"].startswith('Uncaught ConvexError: {"text":"why"}'), "the application may know"
        assert await s.names() == []


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["jobs:look"])
async def test_a_query_can_be_scheduled_but_not_run(tmp_path: Path, path: str) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule(path)
        await s.settle()
        error = (await s.row(job))["state"]["error"]
        assert error.startswith("Unsupported function type. ")
        assert error.endswith(" Only mutation and action can be scheduled.")


@pytest.mark.asyncio
async def test_a_function_that_is_gone_when_its_time_comes(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule("jobs:fail", 1000, text="")
        await s.bench.push({"functions/jobs.py": "", "functions/acts.py": ""})
        await s.pass_time(seconds=1)
        assert (await s.row(job))["state"] == {
            "kind": "failed",
            "error": "Could not find function for 'jobs.js:fail'.",
        }


@pytest.mark.asyncio
async def test_jobs_of_a_child_that_raised_vanish(tmp_path: Path) -> None:
    """Conformance 13."""
    async with scheduled(tmp_path) as s:
        assert await s.bench.mutation("jobs:parent") == 2
        await s.settle()
        assert await s.names() == ["before", "after"]


@pytest.mark.asyncio
async def test_a_job_runs_as_nobody(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        await s.schedule("jobs:who")
        await s.settle()
        assert await s.names() == ["nobody"]


@pytest.mark.asyncio
async def test_a_mutation_sees_itself_in_progress_and_can_not_cancel_itself(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule("jobs:cancel_self")
        await s.settle()
        state = (await s.row(job))["state"]
        assert state["kind"] == "failed"
        assert "A mutation cannot cancel itself" in state["error"]
        assert await s.names() == []


@pytest.mark.asyncio
async def test_a_job_that_schedules_the_next_one(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        await s.schedule("jobs:chain", left=3)
        await s.settle()
        for count in (1, 2, 3, 4, 4):
            assert len(await s.names()) == count
            await s.pass_time(seconds=1)


@pytest.mark.asyncio
@pytest.mark.parametrize("form", FORMS)
async def test_a_cancelled_job_does_not_run(tmp_path: Path, form: Any) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule("jobs:add", 1000, name="x")
        now = s.clock.now_ms
        await s.run(form(lambda ctx: (yield ctx.scheduler.cancel(job))))
        await s.pass_time(seconds=2)
        await s.run(form(lambda ctx: (yield ctx.scheduler.cancel(job))))
        row = await s.row(job)
        assert (row["state"], row["completedTime"]) == ({"kind": "canceled"}, now)
        assert await s.names() == []


@pytest.mark.asyncio
async def test_cancelling_what_has_ended_changes_nothing(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule("jobs:add", name="x")
        await s.settle()
        before = await s.row(job)
        await s.bench.mutation("jobs:cancel", job=job)
        assert await s.row(job) == before


@pytest.mark.asyncio
@pytest.mark.parametrize("wrong", ["", "x" * 32, 5, None, "of an item"])
async def test_only_ids_of_scheduled_functions_can_be_cancelled(tmp_path: Path, wrong: Any) -> None:
    def script(ctx: Any) -> Any:
        job = (yield ctx.db.insert("items", {"name": "x"})) if wrong == "of an item" else wrong
        yield ctx.scheduler.cancel(job)

    async with scheduled(tmp_path) as s:
        with pytest.raises(InvalidArgument, match="must be an ID on the '_sch"):
            await s.run(as_coroutine(script))


@pytest.mark.asyncio
async def test_a_query_has_no_scheduler(tmp_path: Path) -> None:
    files = project_files(q="@query\nasync def q(ctx):\n    ctx.scheduler\n")
    async with scheduled(tmp_path, files=files) as s:
        with pytest.raises(InvalidFunctionCall, match=r"ctx.scheduler is for mutations and actions"):
            await s.bench.query("q:q")


@pytest.mark.asyncio
async def test_jobs_due_together_run_in_order_and_so_many_at_a_time(tmp_path: Path) -> None:
    async with scheduled(tmp_path, limits=Limits(scheduled_jobs=3)) as s:

        def script(ctx: Any) -> Any:
            for n in range(50):
                yield ctx.scheduler.run_after(1000 - n, "jobs:add", name=f"{n:02}")

        await s.run(as_coroutine(script))
        most = 0
        s.clock.advance(seconds=2)
        while s.bench.host.scheduler.next_due_ns is not None:
            most = max(most, len(s.bench.host.scheduler.application.due.running))
            await s.bench.host.database.durable(s.bench.host.database.applied_ts)
        await s.settle()
        assert await s.names() == [f"{n:02}" for n in reversed(range(50))]
        assert most <= 3


@pytest.mark.asyncio
async def test_finished_jobs_go_after_a_week(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:

        def script(ctx: Any) -> Any:
            for _ in range(250):
                yield ctx.scheduler.run_after(0, "jobs:add", name="x")

        await s.run(as_coroutine(script))
        await s.schedule("jobs:add", timedelta(days=8), name="pending")
        await s.settle()
        await s.pass_time(days=6.9)
        assert len(await s.rows()) == 251
        await s.pass_time(days=0.2)
        while len(await s.rows()) > 1:
            pass
        assert await s.states() == ["pending"]


@pytest.mark.asyncio
async def test_a_job_waits_while_the_disk_does_and_runs_once_after(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule("jobs:add", 1000, name="x")
        s.bench.storage.hold()
        s.clock.advance(seconds=1)
        s.bench.storage.release()
        await s.settle()
        assert await s.names() == ["x"]
        assert (await s.row(job))["state"] == {"kind": "success"}


@pytest.mark.asyncio
async def test_what_was_not_durable_at_the_last_look_is_looked_for_again(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        database = s.bench.host.database
        await s.schedule("jobs:add", 1000, name="later")
        s.bench.storage.hold()
        scheduling = asyncio.ensure_future(s.schedule("jobs:add", name="now"))
        while database.applied_ts == database.durable_ts:  # noqa: ASYNC110
            await asyncio.sleep(0)
        s.clock.advance(seconds=1)  # the other one's alarm
        s.bench.storage.release()
        await scheduling
        async with asyncio.timeout(10):  # `settle` would look by itself
            while await s.names() != ["now", "later"]:
                pass


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNKNOWN_LOST, Fault.UNKNOWN_WRITTEN])
@pytest.mark.parametrize("path", ["jobs:add", "acts:act"])
async def test_whatever_becomes_of_a_commit_there_is_one_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, path: str
) -> None:
    """At most one of an action, whose job then says that nobody knows."""
    monkeypatch.setattr(publisher, "RETRY_SECONDS", (0.0,))
    async with scheduled(tmp_path) as s:
        job = await s.schedule(path, 1000, name="x")
        s.bench.storage.faults.append(fault)
        row: dict[str, Any] = {}
        while not row or row["state"]["kind"] in ("pending", "inProgress"):
            s.clock.advance(seconds=1)
            with suppress(OutcomeUnknown):  # which the look itself may meet
                row = await s.row(job)
        await s.settle()
        if row["state"]["kind"] == "success":
            assert await s.names() == ["x"]
        else:
            assert path == "acts:act"
            assert row["state"]["error"] == "Transient error while executing action"
            assert len(await s.names()) <= 1


@pytest.mark.asyncio
async def test_a_job_that_the_system_fails_is_put_off_longer_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scheduled(tmp_path, limits=Limits(max_commit_attempts=1, exclusive_commit_ms=0)) as s:
        committer = s.bench.host.database.committer
        validate = committer.validate

        def lose(transaction: Any, since: int | None = None) -> None:
            if transaction.reader == "jobs:add":
                raise WriteConflict("lost, as the test asked")
            validate(transaction, since)

        monkeypatch.setattr(committer, "validate", lose)
        job = await s.schedule("jobs:add", name="x")
        await s.settle()
        waits = []
        for _ in range(16):
            due = s.bench.host.scheduler.next_due_ns
            assert due is not None
            waits.append(round((due - s.clock.now_ns()) / 1e9, 3))
            await s.pass_time(seconds=waits[-1])
        assert waits == [min(0.5 * 2**n, 7200) for n in range(16)]
        assert await s.states() == ["pending"]

        monkeypatch.undo()
        await s.pass_time(hours=2)
        assert (await s.row(job))["state"] == {"kind": "success"}
        assert await s.names() == ["x"]


# Actions.


@pytest.mark.asyncio
async def test_an_action_runs_and_its_job_says_so(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule("acts:act", name="by an action")
        await s.settle()
        assert (await s.row(job))["state"] == {"kind": "success"}
        assert await s.names() == ["by an action"]


@pytest.mark.asyncio
async def test_an_action_that_raises_fails_its_job(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        job = await s.schedule("acts:break_down")
        await s.settle()
        state = (await s.row(job))["state"]
        assert state["kind"] == "failed"
        assert state["error"].startswith("Uncaught ValueError: broken")


@pytest.mark.asyncio
async def test_what_a_cancelled_action_schedules_is_cancelled(tmp_path: Path) -> None:
    """Conformance 15: also what the mutations schedule that it goes on to run."""
    async with scheduled(tmp_path) as s:
        job = await s.schedule("acts:lasting")
        acts = s.bench.projects[-1].namespace("acts")
        assert acts is not None
        while not acts.reached.is_set():
            await s.bench.host.database.durable(s.bench.host.database.applied_ts)
            await s.rows()
        assert (await s.row(job))["state"] == {"kind": "inProgress"}
        await s.bench.mutation("jobs:cancel", job=job)
        acts.go_on.set()
        await s.settle()
        assert (await s.row(job))["state"] == {"kind": "canceled"}
        assert await s.names() == ["before"]
        assert await s.states() == ["canceled", "success", "canceled", "canceled"]


@pytest.mark.asyncio
async def test_what_an_action_schedules_stays_whatever_becomes_of_it(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        with pytest.raises(ValueError, match="broken"):
            value_of(await s.bench.submit("action", "acts:blocking"))
        await s.settle()
        assert await s.names() == ["blocking"]
        assert await s.states() == ["success", "canceled"]


@pytest.mark.asyncio
async def test_what_an_action_can_not_schedule(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as s:
        with pytest.raises(SchedulingError, match="nonexistent path"):
            value_of(await s.bench.submit("action", "acts:to_nowhere"))
