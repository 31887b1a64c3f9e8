"""Question: what do other clients notice of functions that never end, and how long is the server away when it must end?

A server process with real sockets. Ten bystanders each do a point read every 20 ms, a different document each time;
how long one took counts from when it was due, so that a stall counts for every read that should have been made in it.
One more client calls a function that never ends, and calls it again half a second after it was stopped. The baseline is
the bystanders alone, in the same run, before each set of limits. `limits` says how long user code may run: the default
of 1 s, and 0.3 s. What can't be stopped ends the server; `reactor dev` starts it again, and the time counts from the
call (until the sockets are closed) and from then on (until a read on a new connection is answered).

Prints JSON and writes it to bench/results/. Options: seconds of each measurement, rounds of ending the server, by
default 3 2.
"""

import asyncio
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.bench_long_reader import Reader, percentile
from bench.bench_transfer import call
from bench.driver import ROOT, Socket, connect, report, run, server

PATH = "/api/1.48.0/sync"
DOCUMENTS = 10_000
CLIENTS = 10
PERIOD = 0.02  # seconds between the reads of one client
PAUSE = 0.5  # seconds between two runaways
SHORT = {"REACTOR_USER_SECONDS": "0.3", "REACTOR_HARD_SECONDS": "1.5", "REACTOR_MEMORY_BYTES": str(6 << 30)}
CASES: list[tuple[str, dict[str, str], list[str]]] = [
    ("default", {}, ["spin"]),
    ("short", SHORT, ["spin", "swallow", "regex", "memory", "recurse"]),
]
SEED = 7


async def read_on(readers: list[Reader], seconds: float, chance: random.Random) -> list[float]:
    """Let every client read at its own pace; return how long after it was due each read was answered."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    taken: list[float] = []

    async def client(reader: Reader, due: float) -> None:
        while due < end:
            await asyncio.sleep(due - loop.time())
            await reader.read("chat:numbered", {"number": chance.randrange(DOCUMENTS)})
            taken.append(loop.time() - due)
            due += PERIOD

    await asyncio.gather(*[client(reader, loop.time() + chance.random() * PERIOD) for reader in readers])
    return sorted(taken)


async def run_away(socket: Socket, name: str, first: int, over: asyncio.Event) -> list[float]:
    """Call the function again and again until it is over; return how long each call took to be stopped."""
    taken: list[float] = []
    while not over.is_set():
        begin = time.perf_counter()
        message = {"type": "Mutation", "requestId": first + len(taken), "udfPath": f"runaways:{name}", "args": [{}]}
        answer = await call(socket, message, "MutationResponse")
        assert not answer["success"], answer
        taken.append(time.perf_counter() - begin)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), PAUSE)
    return taken


def figures(taken: list[float]) -> dict[str, Any]:
    return {
        "reads": len(taken),
        "p50_ms": round(percentile(taken, 0.5), 2),
        "p99_ms": round(percentile(taken, 0.99), 2),
        "max_ms": round(taken[-1] * 1000, 2),
    }


async def fill(port: int) -> None:
    writer = await connect(port, PATH)
    for first in range(0, DOCUMENTS, 2_000):
        args = [{"channel": "big", "first": first, "count": 2_000}]
        message = {"type": "Mutation", "requestId": first, "udfPath": "chat:fill", "args": args}
        answer = await call(writer, message, "MutationResponse")
        assert answer["success"], answer
    writer.close()


async def stopped(env: dict[str, str], names: list[str], seconds: float) -> dict[str, Any]:
    """Measure the bystanders alone, and beside each kind of runaway that is stopped."""
    chance = random.Random(SEED)
    origin = {"CONVEX_CLOUD_ORIGIN": "http://127.0.0.1", "CONVEX_SITE_ORIGIN": "http://127.0.0.1"}
    with tempfile.TemporaryDirectory() as data:
        options = ("--project", "bench/project", "--data", data, "--port", "0")
        with server("-m", "reactor.cli.main", "serve", *options, env=origin | env) as port:
            await fill(port)
            readers = [Reader(await connect(port, PATH)) for _ in range(CLIENTS)]
            await read_on(readers, 1.0, chance)
            results: dict[str, Any] = {"alone": figures(await read_on(readers, seconds, chance))}
            for number, name in enumerate(names):
                socket = await connect(port, PATH)
                over = asyncio.Event()
                running = asyncio.create_task(run_away(socket, name, number * 1000, over))
                beside = await read_on(readers, seconds, chance)
                over.set()
                calls = await running
                socket.close()
                results[name] = {
                    **figures(beside),
                    "runaways": len(calls),
                    "stopped_after_ms": round(median(calls) * 1000, 1),
                }
            return results


async def ended(env: dict[str, str], rounds: int) -> dict[str, Any]:
    """Measure how long the server is away when a function can't be stopped."""
    ends: list[float] = []
    starts: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            project = Path(folder) / "project"  # `dev` leaves files beside it
            shutil.copytree(ROOT / "bench/project", project, ignore=shutil.ignore_patterns("__pycache__"))
            with server("-m", "reactor.cli.main", "dev", "--project", str(project), "--port", "0", env=env) as port:
                await fill(port)
                await Reader(await connect(port, PATH)).read("chat:numbered", {"number": 1})
                begin = time.perf_counter()
                await hang_up(port)
                end = time.perf_counter()
                while True:
                    try:
                        await Reader(await connect(port, PATH)).read("chat:numbered", {"number": 1})
                        break
                    except OSError:
                        await asyncio.sleep(0.01)
                ends.append(end - begin)
                starts.append(time.perf_counter() - end)
    return {
        "rounds": rounds,
        "documents": DOCUMENTS,
        "ends_after_s": round(median(ends), 2),
        "serves_again_after_s": round(median(starts), 2),
        "serves_again_at_most_s": round(max(starts), 2),
    }


async def hang_up(port: int) -> None:
    """Call the function that can't be stopped, and return when the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"path": "runaways:hold", "args": {}, "format": "json"}).encode()
    head = f"POST /api/mutation HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


async def main(seconds: float, rounds: int) -> dict[str, Any]:
    results = {limits: await stopped(env, names, seconds) for limits, env, names in CASES}
    return {
        "question": (__doc__ or "").splitlines()[0].removeprefix("Question: "),
        "clients": CLIENTS,
        "limits": results,
        "ends_the_server": await ended(SHORT, rounds),
    }


if __name__ == "__main__":
    options = sys.argv[1:]
    seconds, rounds = float(options[0]) if options else 3.0, int(options[1]) if len(options) > 1 else 2
    report("runaways", run(main(seconds, rounds)))
