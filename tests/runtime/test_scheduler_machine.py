"""Scheduling, cancelling, time and crashes in any order, against a model that is a dict."""

import asyncio
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from reactor.limits import Limits
from reactor.runtime.calls import Call
from reactor.runtime.host import Host
from reactor.runtime.loader import Project, ProjectLoader
from reactor.storage.memory import MemoryPersistence
from reactor.testing.clock import VirtualClock
from reactor.testing.deployment import SharedProject
from tests.runtime.hosts import SeededRng, as_coroutine, project_files, value_of
from tests.runtime.projects import write
from tests.sizes import size

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

@action
async def act(ctx, name: str):
    await ctx.run_mutation("jobs:add", name=name)
"""
)
ENDS = {"add": "success", "fail": "failed", "again": "success", "act": "success"}
DELAYS = st.sampled_from([0, 0, 1, 500, 1000, 60_000])
TRANSIENT = {"kind": "failed", "error": "Transient error while executing action"}

_folder = TemporaryDirectory()
_projects: list[Project] = []


def project() -> Project:
    """The project of all runs, loaded once."""
    if not _projects:
        _projects.append(ProjectLoader(write(Path(_folder.name), FILES)).load())
    return SharedProject(_projects[0])


class Machine(RuleBasedStateMachine):
    """The model: of each job its kind, when it is due, its state, and how often it took effect."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        self.memory = MemoryPersistence()
        self.model: dict[str, dict[str, Any]] = {}  # by name
        self.ids: dict[str, str] = {}
        self.uncertain: set[str] = set()  # actions that may have been cut short
        self.count = 0
        self.host = self.loop.run_until_complete(self._open())

    async def _open(self) -> Host:
        host = await Host.open(
            self.memory,
            clock=self.clock,
            alarms=self.clock,
            rng=SeededRng(self.count + 1),
            limits=Limits(cron_splay_seconds=0, scheduled_jobs=2),
        )
        await host.push(project())
        return host

    def run(self, script: Any) -> Any:
        async def submit() -> Any:
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self.host.executor.submit_handler(as_coroutine(script), Call("run", b"{}", internal=True), done.set_result)
            return value_of(await done)

        return self.loop.run_until_complete(submit())

    def name(self) -> str:
        self.count += 1
        return f"job{self.count}"

    def expect(self, name: str, kind: str, due_ms: float, delay: float) -> None:
        self.model[name] = {"kind": kind, "due": due_ms, "state": "pending", "effects": 0, "delay": delay}

    def pass_in_model(self) -> None:
        """Everything that is due runs; what that schedules, too."""
        while due := [name for name, job in self.model.items() if self.is_due(job)]:
            for name in due:
                job = self.model[name]
                job["state"] = ENDS[job["kind"]]
                job["effects"] = int(job["state"] == "success")
                if job["kind"] == "again":
                    self.expect(f"{name}+", "add", self.clock.now_ms + job["delay"], 0)

    def is_due(self, job: dict[str, Any]) -> bool:
        return bool(job["state"] == "pending" and job["due"] <= self.clock.now_ms)

    @rule(target=jobs, kind=st.sampled_from(sorted(ENDS)), delay=DELAYS, inner=DELAYS)
    def schedule_one(self, kind: str, delay: float, inner: float) -> str:
        return self.schedule(kind, delay, inner)

    def schedule(self, kind: str, delay: float, inner: float) -> str:
        name = self.name()
        args = {"name": name} | ({"delay": float(inner)} if kind == "again" else {})
        self.ids[name] = self.run(lambda ctx: (yield ctx.scheduler.run_after(delay, f"jobs:{kind}", args)))
        self.expect(name, kind, self.clock.now_ms + delay, inner)
        self.settle()
        return name

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

    @rule(name=jobs)
    def cancel(self, name: str) -> None:
        self.run(lambda ctx: (yield ctx.scheduler.cancel(self.ids[name])))
        if self.model[name]["state"] == "pending":
            self.model[name]["state"] = "canceled"

    @rule(milliseconds=DELAYS)
    def advance(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds=milliseconds)
        self.settle()

    @rule(kinds=st.lists(st.sampled_from(["act", "add", "fail"]), max_size=6), turns=st.integers(0, 30))
    def crash(self, kinds: list[str], turns: int) -> None:
        """The process dies some turns of its loop after some jobs have become due."""
        for kind in kinds:
            self.schedule(kind, 1, 0)
        self.clock.advance(milliseconds=1)
        self.uncertain |= {name for name, job in self.model.items() if job["kind"] == "act" and self.is_due(job)}
        self.loop.run_until_complete(self._turns(turns))
        left = self.memory.fork()
        self.loop.run_until_complete(self.host.close())
        self.memory = left
        self.host = self.loop.run_until_complete(self._open())
        self.settle()

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
            return [items, rows]

        items, rows = self.run(script)
        effects = Counter(item["name"] for item in items)
        assert len(rows) == len(self.model)
        for row in rows:
            name = row["args"][0]["name"]
            job = self.model[name]
            assert ("completedTime" in row) == (row["state"]["kind"] not in ("pending", "inProgress"))
            if name in self.uncertain and row["state"] == TRANSIENT:
                assert effects[name] <= 1
            else:
                assert (row["state"]["kind"], effects[name]) == (job["state"], job["effects"]), name

    def teardown(self) -> None:
        self.loop.run_until_complete(self.host.close())
        self.loop.close()


TestScheduler = Machine.TestCase
TestScheduler.settings = settings(max_examples=size(25, 500), stateful_step_count=size(20, 50), deadline=None)
