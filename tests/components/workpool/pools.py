"""A pool under test, and what became of what was given to it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from reactor.testing.deployment import MemoryDeployment

FOLDER = Path(__file__).parent / "project"
PATIENCE = 20.0  # real seconds; only a failing test waits so long


class Pool:
    """Shorter ways to do and to see things in the deployment of a test."""

    def __init__(self, deployment: MemoryDeployment) -> None:
        self.deployment = deployment
        self.component = deployment.component("workpool")

    @cached_property
    def gates(self) -> Any:
        """The gated actions of this test."""
        gates = self.deployment.module("functions.jobs").gates
        gates.reset()
        return gates

    async def enqueue(self, job: str, *names: str, **more: Any) -> Any:
        assert self.gates is not None  # the first look forgets those of other tests, so it comes before any begins
        return await self.deployment.mutation("jobs:enqueue", {"job": job, "names": list(names) or ["job"], **more})

    async def one(self, job: str, *names: str, **more: Any) -> str:
        (work_id,) = await self.enqueue(job, *names, **more)
        return str(work_id)

    async def settle(self) -> None:
        await self.deployment.finish_in_progress_scheduled_functions()

    async def allow(self, number: int) -> None:
        """Change how many may run, and wait until what starts has ended."""
        await self.deployment.mutation("jobs:set_most", value=number)
        await self.settle()

    async def effects(self) -> list[str]:
        rows: Any = await self.deployment.run(lambda ctx: ctx.db.query("effects").collect())
        return [row["name"] for row in rows]

    async def effect_times(self) -> list[float]:
        rows: Any = await self.deployment.run(lambda ctx: ctx.db.query("effects").collect())
        return [row["time"] for row in rows]

    async def ends(self) -> list[Any]:
        rows: Any = await self.deployment.run(lambda ctx: ctx.db.query("ends").collect())
        return [row["result"] for row in rows]

    async def status(self, work_id: str) -> Any:
        return await self.deployment.query("jobs:status", work=work_id)

    async def documents(self) -> dict[str, int]:
        """How many documents the component has, of those that work leaves."""

        async def count(ctx: Any) -> dict[str, int]:
            tables = ("work", "payloads", "pendingStart", "running")
            return {table: await ctx.db.query(table).count() for table in tables}

        found: Any = await self.component.run(count)
        return {table: number for table, number in found.items() if number}

    async def pending_time(self) -> float:
        """From when on the only piece of work that waits may start."""
        (pending,) = await self.component.run(lambda ctx: ctx.db.query("pendingStart").collect())  # type: ignore[misc]
        return float(pending["time"])  # type: ignore[index, call-overload, arg-type]

    async def until(self, number: int) -> None:
        """Wait until so many ends have been told."""

        async def told() -> bool:
            return len(await self.ends()) >= number

        await until(told)

    async def running(self) -> list[str]:
        """The work that runs."""
        rows: Any = await self.component.run(lambda ctx: ctx.db.query("running").collect())
        return [row["workId"] for row in rows]

    async def quiet(self) -> None:
        """Wait until the loop has started what it can, and each gated action it has started waits for its end."""
        loop = self.deployment.component("workpool/batch_worker")

        async def rests() -> bool:
            status: Any = await loop.query("loops:status", name="main")
            if status is not None and status["kind"] == "waiting":
                return bool(status["until"] > self.deployment.clock.now_ms)
            return status is None or status["kind"] != "running"

        async def wait_at_gates() -> bool:
            return len(self.gates.waiting) == len(await self.running())

        await until(rests)
        await until(wait_at_gates)

    async def end(self, name: str, work_id: str, outcome: str = "success") -> None:
        """Let a gated action end, and wait until that is written down."""
        before = await self.status(work_id)

        async def written() -> bool:
            return bool(await self.status(work_id) != before)

        self.gates.waiting[name].set_result(outcome)
        await until(written)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds that real actions bring about, on a loop of their own."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0)
