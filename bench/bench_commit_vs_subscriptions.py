"""Question: what does a commit cost with 1, 100, 10,000 and 100,000 live queries that have nothing to do with it?

In one process: the engine and the runtime on storage in memory, no sockets. Each live query ("the newest message of
this channel") has an observer and a channel of its own; a mutation inserts a message into a channel that nobody
watches. Measured from submitting it to its durable answer, in turn on every host in the same run. The baseline is the
host with one live query. Also the bytes that one live query takes, and what the first answers cost.

Prints JSON and writes it to bench/results/. Options: a list of numbers of live queries.
"""

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter_ns, process_time_ns
from typing import Any

from bench.driver import report, run
from reactor.limits import Limits
from reactor.runtime.calls import Call, Outcome, Success
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.server.run import GC_THRESHOLDS
from reactor.server.system import SystemAlarms, SystemClock, SystemRng
from reactor.storage.memory import MemoryPersistence

CASES = [1, 100, 10_000, 100_000]
COMMITS = 3_000
TURN = 50  # commits on one host before the next one's turn


class Watching:
    """An observer that reports its first result."""

    def __init__(self, seen: Callable[[], None]) -> None:
        self._seen = seen

    def settled(self, ts: int) -> None:
        self._seen()


class Bench:
    """One host with so many live queries."""

    def __init__(self, host: Host, project: Project) -> None:
        self.host = host
        self.project = project
        self.observers: list[Watching] = []
        self.micros: list[float] = []

    async def subscribe(self, count: int) -> None:
        """Open live queries, each on a channel of its own, and wait for their results."""
        all_seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = count - len(self.observers)

        def seen() -> None:
            nonlocal left
            left -= 1
            if not left:
                all_seen.set_result(None)

        for at in range(len(self.observers), count):
            observer = Watching(seen)
            self.observers.append(observer)
            self.host.live.subscribe(Call("chat:latest", b'{"channel":"c%06d"}' % at), observer)
        await all_seen

    async def commit(self) -> None:
        """Write once where nobody watches."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        begin = perf_counter_ns()
        self.host.executor.submit_mutation(Call("chat:send", b'{"channel":"other","number":1.0}'), done.set_result)
        outcome = await done
        self.micros.append((perf_counter_ns() - begin) / 1000)
        assert isinstance(outcome, Success), outcome


async def open_bench() -> Bench:
    host = await Host.open(
        MemoryPersistence(), clock=SystemClock(), alarms=SystemAlarms(), rng=SystemRng(), limits=Limits()
    )
    project = ProjectLoader(Path("bench/project")).load()
    await host.push(project)
    return Bench(host, project)


async def bytes_per_query(count: int) -> int:
    """Return the traced memory that one live query with its observer adds."""
    bench = await open_bench()
    await bench.subscribe(10)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await bench.subscribe(10 + count)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    await bench.host.close()
    return (after - before) // count


async def main(counts: list[int]) -> dict[str, Any]:
    gc.set_threshold(*GC_THRESHOLDS)
    per_query = await bytes_per_query(2_000)
    benches = []
    first_us = 0.0
    for count in counts:
        bench = await open_bench()
        begin = process_time_ns()
        await bench.subscribe(count)
        first_us = (process_time_ns() - begin) / 1000 / count
        benches.append(bench)
    gc.collect()
    for bench in benches:  # warm up
        for _ in range(TURN):
            await bench.commit()
        bench.micros.clear()
    for _ in range(COMMITS // TURN):
        for bench in benches:
            for _ in range(TURN):
                await bench.commit()
    baseline = median(benches[0].micros)
    cases = [
        {
            "live_queries": count,
            "commit_us": round(median(bench.micros), 2),
            "commit_p99_us": round(quantiles(bench.micros, n=100)[98], 2),
            "over_baseline": round(median(bench.micros) / baseline, 3),
            "reruns": bench.host.live.stats.reruns,
        }
        for count, bench in zip(counts, benches, strict=True)
    ]
    for bench in benches:
        await bench.host.close()
    return {
        "question": (__doc__ or "").splitlines()[0].removeprefix("Question: "),
        "baseline": {"what": f"{counts[0]} live query", "commit_us": round(baseline, 2)},
        "commits": cases,
        "bytes_per_live_query": per_query,
        "first_answer_us": round(first_us, 1),
    }


if __name__ == "__main__":
    report("commit_vs_subscriptions", run(main([int(text) for text in sys.argv[1:]] or CASES)))
