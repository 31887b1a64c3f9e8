"""Question: what do clients notice of 10,000 scheduled functions that are due at the same moment?

A server process with real sockets. Ten clients each send a mutation every 20 ms, to a channel of their own; how long
one took counts from when it was due, so that a stall counts for every mutation that should have been sent in it. The
baseline is the clients alone, in the same run. Then a burst of jobs becomes due, each of which inserts a document: all
at one moment, and once with due times that differ, scheduled in random order. The burst lasts from the due time until
the last job has run. Checked at the end: every job ran once, in the order of due time.

The target is a p99 during the burst of at most one slice (4 ms) plus five times the idle p99, judged by the median
over several runs, each a server of its own, in which the two kinds of burst take turns: this machine is not alone. Idle
times differ from run to run, so each burst is held against the baseline of its own run; the median of their quotients
is given too.

Prints JSON and writes it to bench/results/. Options: jobs, seconds of the baseline, runs, by default 10000 5 5.
"""

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from bench.bench_long_reader import percentile
from bench.bench_transfer import call
from bench.driver import Socket, connect, reactor_server, report, run

PATH = "/api/1.48.0/sync"
CLIENTS = 10
PERIOD = 0.02  # seconds between the mutations of one client
AHEAD = 6.0  # seconds from scheduling to the due time
BATCH = 1000  # jobs that one mutation schedules, the most it may
SLICE_MS = 4.0
SEED = 7
GAPS = {"one moment": 0.0, "spread": 0.05}  # milliseconds between due times


class Writer:
    """One client that sends one mutation at a time."""

    def __init__(self, socket: Socket, number: int) -> None:
        self.socket = socket
        self.channel = f"client {number}"
        self._sent = 0

    async def mutate(self, path: str, args: dict[str, Any]) -> None:
        self._sent += 1
        message = {"type": "Mutation", "requestId": self._sent, "udfPath": path, "args": [args]}
        answer = await call(self.socket, message, "MutationResponse")
        assert answer["success"], answer


async def write_on(writers: list[Writer], over: asyncio.Event, chance: random.Random) -> list[tuple[float, float]]:
    """Let every client write at its own pace; return when each mutation was due, and how long after it was answered."""
    loop = asyncio.get_running_loop()
    taken: list[tuple[float, float]] = []

    async def client(writer: Writer, due: float) -> None:
        while not over.is_set():
            await asyncio.sleep(due - loop.time())
            await writer.mutate("chat:send", {"channel": writer.channel, "number": 1.0})
            taken.append((due, loop.time() - due))
            due += PERIOD

    await asyncio.gather(*[client(writer, loop.time() + chance.random() * PERIOD) for writer in writers])
    return taken


def ask(port: int, path: str, **args: Any) -> Any:
    body = json.dumps({"path": path, "args": args, "format": "json"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/query", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    assert answer["status"] == "success", answer
    return answer["value"]


def figures(taken: list[float]) -> dict[str, Any]:
    ordered = sorted(taken)
    return {
        "mutations": len(ordered),
        "p50_ms": round(percentile(ordered, 0.5), 2),
        "p99_ms": round(percentile(ordered, 0.99), 2),
        "max_ms": round(ordered[-1] * 1000, 2),
    }


async def burst(port: int, writers: list[Writer], jobs: int, gap: float, seconds: float) -> dict[str, Any]:
    """Measure the clients alone, and during a burst."""
    loop, chance = asyncio.get_running_loop(), random.Random(SEED)
    over = asyncio.Event()
    loop.call_later(seconds, over.set)
    idle = figures([took for _, took in await write_on(writers, over, chance)])
    scheduler = Writer(await connect(port, PATH), -1)
    due_ms = time.time() * 1000 + AHEAD * 1000
    due = loop.time() + AHEAD
    numbers = list(range(jobs))
    if gap:
        chance.shuffle(numbers)
    for first in range(0, jobs, BATCH):
        part = numbers[first : first + BATCH]
        await scheduler.mutate("jobs:schedule", {"at": due_ms, "numbers": part, "gap": gap})
    assert loop.time() < due, "scheduling took longer than the time ahead"
    over = asyncio.Event()
    writing = asyncio.create_task(write_on(writers, over, chance))
    ended = due
    while True:
        await asyncio.sleep(0.1)
        ended = loop.time()
        if await asyncio.to_thread(ask, port, "jobs:how_many", channel="jobs") >= jobs:
            break
    over.set()
    during = [took for at, took in await writing if due <= at <= ended]
    await asyncio.sleep(0.5)
    order: list[float] = []
    while part := await asyncio.to_thread(ask, port, "jobs:order", first=len(order), count=5000, channel="jobs"):
        order += part
    assert sorted(order) == list(range(jobs)), "lost or doubled"
    loud = figures(during)
    return {
        "idle": idle,
        "burst": loud,
        "seconds": round(ended - due, 2),
        "out_of_order": sum(a > b for a, b in pairwise(order)),
        "target_p99_ms": round(SLICE_MS + 5 * idle["p99_ms"], 2),
    }


async def one_run(jobs: int, gap: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as data, reactor_server(data) as port:
        writers = [Writer(await connect(port, PATH), number) for number in range(CLIENTS)]
        load = os.getloadavg()[0]
        return {**await burst(port, writers, jobs, gap, seconds), "load_before": round(load, 2)}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the runs, and whether they meet the target."""

    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return round(statistics.median(map(value, runs)), 2)

    p99, target = median(lambda run: run["burst"]["p99_ms"]), median(lambda run: run["target_p99_ms"])
    return {
        "idle_p50_ms": median(lambda run: run["idle"]["p50_ms"]),
        "idle_p99_ms": median(lambda run: run["idle"]["p99_ms"]),
        "burst_p50_ms": median(lambda run: run["burst"]["p50_ms"]),
        "burst_p99_ms": p99,
        "burst_max_ms": median(lambda run: run["burst"]["max_ms"]),
        "target_p99_ms": target,
        "p99_by_target": median(lambda run: run["burst"]["p99_ms"] / run["target_p99_ms"]),
        "is_met": p99 <= target,
        "runs_that_met_it": sum(run["burst"]["p99_ms"] <= run["target_p99_ms"] for run in runs),
        "seconds": median(lambda run: run["seconds"]),
        "out_of_order": sum(run["out_of_order"] for run in runs),
        "lost_or_doubled": 0,  # or `burst` would have raised
    }


async def main(jobs: int, seconds: float, runs: int) -> None:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in GAPS}
    for _ in range(runs):
        for name, gap in GAPS.items():
            found[name].append(await one_run(jobs, gap, seconds))
            print(name, json.dumps(found[name][-1]), file=sys.stderr, flush=True)
    results = {name: {"medians": summary(each), "runs": each} for name, each in found.items()}
    report("due_jobs", {"jobs": jobs, "clients": CLIENTS, **results})


if __name__ == "__main__":
    options = [float(option) for option in sys.argv[1:]] + [10_000, 5.0, 5][len(sys.argv) - 1 :]
    run(main(int(options[0]), options[1], int(options[2])))
