"""Scheduling, cancelling, time, conflicts and crashes in any order, against a model that is a dict."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from reactor.limits import Limits
from reactor.runtime.calls import Call
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.storage.interface import AppendOutcome, Persistence, Record
from reactor.storage.memory import MemoryPersistence
from reactor.testing.clock import VirtualClock
from reactor.testing.deployment import SharedProject
from tests.runtime import evidence
from tests.runtime.hosts import SeededRng, as_coroutine, project_files, value_of
from tests.runtime.projects import write
from tests.sizes import size
from tests.storage.faults import FaultyPersistence

FILES = project_files(
    jobs="""
@internal_mutation
async def add(ctx, name: str):
    await ctx.db.insert("items", {"name": name})

@mutation
async def fail(ctx, name: str):
    await ctx.db.insert("items", {"name": name})
    raise ReactorError("no")

@mutation
async def again(ctx, name: str, delay: float):
    await ctx.db.insert("items", {"name": name})
    await ctx.scheduler.run_after(delay, "jobs:add", name=name + "+")

@mutation
async def bump(ctx, name: str):
    counter = await ctx.db.query("counters").first()
    await ctx.db.insert("items", {"name": name})
    if counter is None:
        await ctx.db.insert("counters", {"value": 1})
    else:
        await ctx.db.patch(counter["_id"], {"value": counter["value"] + 1})

@action
async def act(ctx, name: str):
    from tests.runtime import evidence
    evidence.began[name] += 1
    await ctx.run_mutation("jobs:add", name=name)

@action
async def nothing(ctx):
    pass
"""
)
ENDS = {"add": "success", "fail": "failed", "again": "success", "bump": "success", "act": "success"}
IN_ONE_PIECE = {"add", "again"}  # nothing of others happens between their beginning and their commit
DELAYS = st.sampled_from([0, 0, 1, 500, 1000, 60_000])
TRANSIENT = {"kind": "failed", "error": "Transient error while executing action"}
TICK = 0.01  # seconds: more than a slice, and less than any limit

_folder = TemporaryDirectory()
_projects: list[Project] = []


def project() -> Project:
    """The project of all runs, loaded once."""
    if not _projects:
        _projects.append(ProjectLoader(write(Path(_folder.name), FILES)).load())
    return SharedProject(_projects[0])


class TickingClock(VirtualClock):
    """Monotonic time moves by `tick` at each look: with one, every slice is used up at once, and mutations interleave.

    Without one a mutation runs in one piece, however slow the machine is.
    """

    tick = 0.0
    _seconds = 0.0

    def monotonic(self) -> float:
        self._seconds += self.tick
        return self._seconds


class MortalPersistence(FaultyPersistence):
    """Storage of a process that dies at one of its appends; `left` is then what the next process finds."""

    def __init__(self, inner: MemoryPersistence) -> None:
        super().__init__(inner)
        self.memory = inner
        self.left: MemoryPersistence | None = None
        self.died = asyncio.Event()
        self.buried = asyncio.Event()  # its objects may come to their end
        self._appends = -1
        self._is_written = False

    def die_at(self, append: int, is_written: bool) -> None:
        """Let so many appends pass, and the next one never return, whether it was written or not."""
        self._appends, self._is_written = append, is_written

    def die(self) -> None:
        """Write nothing more."""
        self.left = self.left or self.memory.fork()
        self.died.set()

    async def append(self, batch: Sequence[Record], after: int) -> AppendOutcome:
        self._appends -= 1
        if self._appends != -1 or self.left is not None:
            return await super().append(batch, after)
        if not self._is_written:
            self.die()
            await self.buried.wait()
            return await super().append(batch, after)
        outcome = await super().append(batch, after)
        self.die()
        await self.buried.wait()
        return outcome


class Machine(RuleBasedStateMachine):
    """The model: of each job its kind, when it is due, its state, and how often it took effect."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = TickingClock()
        self.model: dict[str, dict[str, Any]] = {}  # by name, in the order in which they were scheduled
        self.ids: dict[str, str] = {}
        self.uncertain: set[str] = set()  # actions that may have been cut short
        self.order: list[str] = []  # effects of jobs that run in one piece
        self.loose: set[str] = set()  # jobs that may be overtaken, while what they write to is loaded after a start
        self.bumps = 0  # by clients
        self.count = 0
        self.processes = 0
        evidence.began = Counter()
        self.loop.run_until_complete(self._open(MemoryPersistence()))

    async def _open(self, memory: MemoryPersistence) -> None:
        self.storage = MortalPersistence(memory)
        self.host = await self._host(self.storage)
        await self.host.push(project())

    async def _host(self, storage: Persistence) -> Host:
        self.processes += 1
        return await Host.open(
            storage,
            clock=self.clock,
            alarms=self.clock,
            rng=SeededRng(self.processes),
            # A batch of its own for each commit: the process can die between any two.
            limits=Limits(cron_splay_seconds=0, scheduled_jobs=2, batch_commits=1),
        )

    def submit(self, script: Any) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.host.executor.submit_handler(as_coroutine(script), Call("run", b"{}", internal=True), done.set_result)
        return done

    def run(self, script: Any) -> Any:
        async def run() -> Any:
            return value_of(await self.submit(script))

        return self.loop.run_until_complete(run())

    def name(self) -> str:
        self.count += 1
        return f"job{self.count}"

    def expect(self, name: str, kind: str, due_ms: float, delay: float) -> None:
        self.model[name] = {"kind": kind, "due": due_ms, "state": "pending", "effects": 0, "delay": delay}

    def pass_in_model(self) -> None:
        """Everything that is due runs, one after the other; what that schedules, too."""
        while due := [name for name, job in self.model.items() if self.is_due(job)]:
            name = min(due, key=lambda name: self.model[name]["due"])  # the first of those of one time
            self.end_in_model(name, ENDS[self.model[name]["kind"]])
            job = self.model[name]
            if job["effects"] and self.is_in_order(name):
                self.order.append(name)
            if job["kind"] == "again":
                self.loose |= {f"{name}+"} if name in self.loose else set()
                self.expect(f"{name}+", "add", self.clock.now_ms + job["delay"], 0)

    def end_in_model(self, name: str, state: str) -> None:
        job = self.model[name]
        job["state"] = state
        job["effects"] = int(state == "success")

    def is_in_order(self, name: str) -> bool:
        return self.model[name]["kind"] in IN_ONE_PIECE and name not in self.loose

    def is_due(self, job: dict[str, Any]) -> bool:
        return bool(job["state"] == "pending" and job["due"] <= self.clock.now_ms)

    @rule(target=jobs, kind=st.sampled_from(sorted(ENDS)), delay=DELAYS, inner=DELAYS)
    def schedule_one(self, kind: str, delay: float, inner: float) -> str:
        name = self.schedule([(kind, delay)], inner)[0]
        self.settle()
        return name

    def schedule(self, wanted: list[tuple[str, float]], inner: float = 0) -> list[str]:
        """Schedule jobs in one mutation; return their names."""
        names = [self.name() for _ in wanted]

        def script(ctx: Any) -> Any:
            ids = []
            for name, (kind, delay) in zip(names, wanted, strict=True):
                args = {"name": name} | ({"delay": float(inner)} if kind == "again" else {})
                ids.append((yield ctx.scheduler.run_after(delay, f"jobs:{kind}", args)))
            return ids

        self.ids |= dict(zip(names, self.run(script), strict=True))
        for name, (kind, delay) in zip(names, wanted, strict=True):
            self.expect(name, kind, self.clock.now_ms + delay, inner)
        return names

    @rule()
    def schedule_and_roll_back(self) -> None:
        def script(ctx: Any) -> Any:
            yield ctx.scheduler.run_after(0, "jobs:add", name="never")
            raise ValueError

        try:
            self.run(script)
        except ValueError:
            return
        raise AssertionError("it raises")

    @rule(delays=st.lists(st.integers(1, 4), min_size=2, max_size=8), kind=st.sampled_from(sorted(IN_ONE_PIECE)))
    def burst(self, delays: list[int], kind: str) -> None:
        """Jobs that are due together run in the order of their times."""
        self.schedule([(kind, delay) for delay in delays])
        self.advance(4)

    @rule(name=jobs)
    def cancel(self, name: str) -> None:
        self.cancel_job(name)

    def cancel_job(self, name: str) -> None:
        self.run(lambda ctx: (yield ctx.scheduler.cancel(self.ids[name])))
        if self.model[name]["state"] == "pending":
            self.end_in_model(name, "canceled")

    @rule(kind=st.sampled_from(sorted(ENDS)), delay=st.sampled_from([1, 1000]))
    def schedule_and_cancel(self, kind: str, delay: float) -> None:
        self.cancel_job(*self.schedule([(kind, delay)]))

    @rule(turns=st.integers(0, 10))
    def schedule_while_the_disk_waits(self, turns: int) -> None:
        """What is not durable yet is not overtaken by what is due later."""
        self.schedule([("add", 2)])
        first = self.name()

        async def schedule() -> None:
            self.storage.hold()
            waiting = self.submit(lambda ctx: (yield ctx.scheduler.run_after(1, "jobs:add", name=first)))
            await self.storage.held()
            self.expect(first, "add", self.clock.now_ms + 1, 0)
            self.clock.advance(milliseconds=2)
            await self._turns(turns)
            self.storage.release()
            self.ids[first] = value_of(await waiting)

        self.loop.run_until_complete(schedule())
        self.settle()

    @rule(milliseconds=DELAYS)
    def advance(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds=milliseconds)
        self.settle()

    @rule(
        count=st.integers(1, 4),
        cancelled=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=3),
        bumps=st.integers(0, 2),
    )
    def race(self, count: int, cancelled: list[tuple[int, int]], bumps: int) -> None:
        """Jobs and clients change one document, slice by slice, while some of the jobs are cancelled."""
        names = self.schedule([("bump", 1)] * count)
        self.loop.run_until_complete(self._race(names, cancelled, bumps))
        self.bumps += bumps
        self.settle()

    async def _race(self, names: list[str], cancelled: list[tuple[int, int]], bumps: int) -> None:
        def cancel(ctx: Any, name: str) -> Any:
            yield ctx.scheduler.cancel(self.ids[name])
            return (yield ctx.db.system.get(self.ids[name]))["state"]["kind"]

        def bump(ctx: Any) -> Any:
            yield ctx.run_mutation("jobs:bump", name="client")

        self.clock.tick = TICK
        self.clock.advance(milliseconds=1)
        clients = [self.submit(bump) for _ in range(bumps)]
        cancels: list[tuple[str, asyncio.Future[Any]]] = []
        for number, turns in cancelled:
            await self._turns(turns)
            name = names[number % len(names)]
            cancels.append((name, self.submit(lambda ctx, name=name: cancel(ctx, name))))
        for client in clients:
            value_of(await client)
        # What a cancel has committed is so: the job may only have ended before.
        for name in names:
            self.end_in_model(name, "success")
        for name, future in cancels:
            state = value_of(await future)
            assert state in ("canceled", "success")
            self.end_in_model(name, state)
        await self.host.scheduler.settled()
        self.clock.tick = 0.0

    @rule(
        kinds=st.lists(st.sampled_from(["act", "add", "again", "bump", "fail"]), max_size=6),
        append=st.integers(0, 12),
        is_written=st.booleans(),
    )
    def crash_at_an_append(self, kinds: list[str], append: int, is_written: bool) -> None:
        """The process dies at one of the commits after some jobs have become due, or when all of them are durable."""
        self.schedule([(kind, 1) for kind in kinds])
        self.storage.die_at(append, is_written)
        self.die(self._dead_or_settled())

    @rule(kinds=st.lists(st.sampled_from(["act", "add", "fail"]), max_size=6), turns=st.integers(0, 30))
    def crash(self, kinds: list[str], turns: int) -> None:
        """The process dies some turns of its loop after some jobs have become due."""
        self.schedule([(kind, 1) for kind in kinds])
        self.die(self._turns(turns))

    def die(self, life: Any) -> None:
        self.clock.advance(milliseconds=1)
        due = {name for name, job in self.model.items() if self.is_due(job)}
        self.loose |= due
        self.uncertain |= {name for name in due if self.model[name]["kind"] == "act"}
        self.loop.run_until_complete(life)
        dead = self.storage
        dead.die()
        began = evidence.began.copy()
        dead.buried.set()
        self.loop.run_until_complete(self.host.close())
        evidence.began = began
        assert dead.left is not None
        self.loop.run_until_complete(self._open(dead.left))
        self.settle()

    async def _dead_or_settled(self) -> None:
        ends = [asyncio.ensure_future(self.storage.died.wait()), asyncio.ensure_future(self.host.scheduler.settled())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await asyncio.wait(ends)
        # What is not on disk may still have come to action code, which nothing takes back.
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.host.executor.submit_action(Call("jobs:nothing", b"{}"), done.set_result)
        await done

    async def _turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def settle(self) -> None:
        self.loop.run_until_complete(self.host.scheduler.settled())
        self.pass_in_model()

    @invariant()
    def agrees(self) -> None:
        def script(ctx: Any) -> Any:
            items = yield ctx.db.query("items").collect()
            rows = yield ctx.db.system.query("_scheduled_functions").collect()
            counter = yield ctx.db.query("counters").first()
            return [items, rows, counter]

        items, rows, counter = self.run(script)
        effects = Counter(item["name"] for item in items)
        assert len(rows) == len(self.model)
        for row in rows:
            name = row["args"][0]["name"]
            job = self.model[name]
            assert ("completedTime" in row) == (row["state"]["kind"] not in ("pending", "inProgress"))
            began = evidence.began[name]
            if name in self.uncertain and row["state"] == TRANSIENT:
                assert effects[name] <= began <= 1, name
            else:
                assert (row["state"]["kind"], effects[name]) == (job["state"], job["effects"]), name
                assert began == (job["effects"] if job["kind"] == "act" else 0), name
        bumped = [name for name, job in self.model.items() if job["kind"] == "bump" and job["effects"]]
        assert (counter["value"] if counter else 0) == len(bumped) + self.bumps
        names = [item["name"] for item in items]
        in_order = [name for name in names if name in self.model and self.is_in_order(name)]
        assert in_order == self.order, f"{in_order} not {self.order}"

    def teardown(self) -> None:
        self.loop.run_until_complete(self.host.close())
        self.loop.close()


TestScheduler = Machine.TestCase
TestScheduler.settings = settings(max_examples=size(25, 500), stateful_step_count=size(20, 50), deadline=None)
