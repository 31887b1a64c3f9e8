"""Question: how long do point reads take while somebody runs queries that read 20,000 documents?

A server process with SQLite, and real sockets. A hundred clients each read one document by index four times a second by
adding a query to their query set and taking it out again; a different document each time, so that hardly any answer is
kept from before. One more client runs a long query, over and over, never the same: `scan` goes through 20,000 documents
and returns a sum; `collect` has them all at once and returns 8,000 of them. The baseline is the point reads alone,
taken before and after each case in the same run; the target is a p99 of at most ten times that.

Prints JSON and writes it to bench/results/. Options: seconds of each measurement, by default 4.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from statistics import median
from typing import Any

from bench.bench_transfer import call
from bench.driver import Socket, connect, reactor_server, report, run

PATH = "/api/1.48.0/sync"
DOCUMENTS = 20_000
CLIENTS = 100
PERIOD = 0.25  # seconds between the reads of one client
CASES = {"scan": "chat:sum_of", "collect": "chat:many_of"}
SEED = 7


class Reader:
    """One client that asks one question at a time."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._version = 0
        self._answered: asyncio.Future[None] | None = None
        socket.on_message = self._message

    def _message(self, payload: bytes) -> None:
        if b'"QueryUpdated"' in payload and self._answered is not None:
            if not self._answered.done():  # cancelled at the end
                self._answered.set_result(None)
            self._answered = None
        assert b'"QueryFailed"' not in payload, payload[:500]

    async def read(self, path: str, args: dict[str, Any]) -> float:
        """Put a query in the place of the last one; return the seconds until its result."""
        version = self._version
        self._version += 1
        changes: list[dict[str, Any]] = [{"type": "Add", "queryId": version, "udfPath": path, "args": [args]}]
        if version:
            changes.append({"type": "Remove", "queryId": version - 1})
        message = {"type": "ModifyQuerySet", "baseVersion": version, "newVersion": version + 1}
        self._answered = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        self._socket.send(json.dumps({**message, "modifications": changes}).encode())
        await self._answered
        return time.perf_counter() - begin


async def point_reads(readers: list[Reader], seconds: float, chance: random.Random) -> list[float]:
    """Let every client read at its own pace; return how long each read took."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    taken: list[float] = []

    async def client(reader: Reader, due: float) -> None:
        while due < end:
            await asyncio.sleep(due - loop.time())
            taken.append(await reader.read("chat:numbered", {"number": chance.randrange(DOCUMENTS)}))
            due += PERIOD

    await asyncio.gather(*[client(reader, loop.time() + chance.random() * PERIOD) for reader in readers])
    return sorted(taken)


async def long_reads(reader: Reader, path: str, salts: Any) -> list[float]:
    """Run the long query until cancelled."""
    taken: list[float] = []
    try:
        while True:
            taken.append(await reader.read(path, {"channel": "big", "salt": next(salts)}))
    except asyncio.CancelledError:
        return taken


def percentile(ordered: list[float], share: float) -> float:
    return ordered[int(len(ordered) * share)] * 1000


async def main(seconds: float) -> dict[str, Any]:
    chance = random.Random(SEED)
    salts = iter(range(1, 1 << 30))
    with tempfile.TemporaryDirectory() as data, reactor_server(data) as port:
        writer = await connect(port, PATH)
        for first in range(0, DOCUMENTS, 2_000):
            fill = {"type": "Mutation", "requestId": first, "udfPath": "chat:fill"}
            args = [{"channel": "big", "first": first, "count": 2_000}]
            answer = await call(writer, {**fill, "args": args}, "MutationResponse")
            assert answer["success"], answer
        readers = [Reader(await connect(port, PATH)) for _ in range(CLIENTS)]
        await point_reads(readers, 1.0, chance)
        results: dict[str, Any] = {}
        alone = await point_reads(readers, seconds, chance)
        for name, path in CASES.items():
            heavy = Reader(await connect(port, PATH))
            await heavy.read(path, {"channel": "big", "salt": next(salts)})
            running = asyncio.create_task(long_reads(heavy, path, salts))
            beside = await point_reads(readers, seconds, chance)
            running.cancel()
            long_taken = await running
            after = await point_reads(readers, seconds, chance)
            baseline = (percentile(alone, 0.99) + percentile(after, 0.99)) / 2
            results[name] = {
                "long_query_ms": round(median(long_taken) * 1000, 1),
                "long_queries": len(long_taken),
                "reads": len(beside),
                "p50_ms": round(percentile(beside, 0.5), 2),
                "p99_ms": round(percentile(beside, 0.99), 2),
                "max_ms": round(beside[-1] * 1000, 2),
                "alone_p50_ms": round(percentile(alone, 0.5), 2),
                "alone_p99_ms": round(baseline, 2),
                "p99_over_alone": round(percentile(beside, 0.99) / baseline, 2),
            }
            alone = after
    return {"question": (__doc__ or "").splitlines()[0].removeprefix("Question: "), "cases": results}


if __name__ == "__main__":
    report("long_reader", run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 4.0)))
