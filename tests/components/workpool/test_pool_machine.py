"""A pool against a model: who runs is who should, never too many, and each piece of work has one end, the right one."""

import asyncio
from functools import cache
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment
from tests.components.workpool.pools import FOLDER, Pool
from tests.sizes import size

RETRY = {"max_attempts": 3, "initial_backoff_ms": 0.0}  # a wait is drawn by chance, which Hypothesis could not repeat


@cache
def project() -> Project:
    return ProjectLoader(FOLDER).load()


class Job:
    """What the model knows of one piece of work."""

    def __init__(self, work_id: str, name: str, priority: int, time: float, order: int, attempts: int) -> None:
        self.id, self.name, self.priority = work_id, name, priority
        self.time, self.order = time, order
        self.attempts_left = attempts
        self.is_canceled = False
        self.end: str | None = None

    @property
    def place(self) -> tuple[float, float, int]:
        return -self.priority, self.time, self.order


class PoolMachine(RuleBasedStateMachine):
    """Work comes, ends, fails and is canceled; time passes; the pool grows and shrinks."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.deployment = MemoryDeployment(project(), FOLDER)
        self.runner.run(self.deployment.open())
        self.runner.run(self.prepare())
        self.most = 2
        self.count = 0
        self.jobs: list[Job] = []
        self.running: list[Job] = []
        self.waiting: list[Job] = []

    async def prepare(self) -> None:
        self.pool = Pool(self.deployment)
        assert self.pool.gates.active == 0

    @property
    def now(self) -> float:
        return float(self.deployment.clock.now_ms)

    # What happens.

    @rule(
        priorities=st.lists(st.integers(-1, 1), min_size=1, max_size=4),
        delay=st.sampled_from([0, 0, 0, 700, 1500]),
        is_retried=st.booleans(),
        most=st.integers(1, 3),
    )
    def enqueue(self, priorities: list[int], delay: int, is_retried: bool, most: int) -> None:
        self.most = most
        retry, attempts = (RETRY, 3) if is_retried else (None, 1)
        for priority in priorities:
            name = f"job {self.count}"
            options = {"priority": priority, "run_after": delay}
            work_id = self.runner.run(self.pool.one("gated", name, most=most, retry=retry, options=options))
            job = Job(work_id, name, priority, self.now + delay, self.count, attempts)
            self.count += 1
            self.jobs.append(job)
            self.waiting.append(job)
            self.settle()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["success", "fail", "fail", "fatal"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        job = data.draw(st.sampled_from(self.running))
        self.running.remove(job)
        self.runner.run(self.pool.end(job.name, job.id, outcome))
        job.attempts_left -= 1
        if outcome == "fail" and job.attempts_left and not job.is_canceled:
            job.time = self.now
            job.order = self.count
            self.count += 1
            self.waiting.append(job)
        else:
            job.end = "success" if outcome == "success" else "failed"
        self.settle()

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        self.runner.run(self.deployment.mutation("jobs:cancel", work=job.id))  # type: ignore[arg-type]
        self.cancelled([job])

    @rule()
    def cancel_all(self) -> None:
        self.runner.run(self.deployment.mutation("jobs:cancel_all", limit=64))  # type: ignore[arg-type]
        self.cancelled(self.jobs)

    @rule(most=st.integers(0, 3))
    def set_most(self, most: int) -> None:
        self.most = most
        self.runner.run(self.deployment.mutation("jobs:set_most", value=most))  # type: ignore[arg-type]
        self.settle()

    @rule(milliseconds=st.integers(1, 2000))
    def advance(self, milliseconds: int) -> None:
        """Long enough steps may make several pieces of work due at once."""
        self.deployment.clock.advance(milliseconds=milliseconds)
        self.settle()

    # What should follow, and what does.

    def cancelled(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.is_canceled = True
            if job in self.waiting:
                self.waiting.remove(job)
                job.end = "canceled"
        self.settle()

    def settle(self) -> None:
        due = sorted((job for job in self.waiting if job.time <= self.now), key=lambda job: job.place)
        for job in due[: max(self.most - len(self.running), 0)]:
            self.waiting.remove(job)
            self.running.append(job)
        self.runner.run(self.pool.quiet())

    @invariant()
    def the_right_ones_run(self) -> None:
        assert set(self.pool.gates.waiting) == {job.name for job in self.running}
        assert self.pool.gates.most <= 3

    @invariant()
    def each_end_is_told_once(self) -> None:
        ended = {job.id: job.end for job in self.jobs if job.end is not None}
        ends: Any = self.runner.run(self.deployment.run(lambda ctx: ctx.db.query("ends").collect()))  # type: ignore[arg-type]
        assert len(ends) == len(ended)
        assert {end["workId"]: end["result"]["kind"] for end in ends} == ended

    def teardown(self) -> None:
        self.runner.run(self.wind_up())
        self.runner.close()

    async def wind_up(self) -> None:
        await self.deployment.mutation("jobs:cancel_all", limit=1000)
        for job in self.running:
            await self.pool.end(job.name, job.id)
        documents = await self.pool.documents()
        await self.deployment.close()
        assert documents == {}


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=size(12, 300), stateful_step_count=size(25, 60), deadline=None)
