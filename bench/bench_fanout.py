"""Question: how long does one write take to reach its subscribers among N, and how many pushes a second leave?

For N = 100, 1,000 and 10,000 connections with a live query each, two workloads, divided by raw sockets on the same
stack, taken in turn in the same run:
- k = 1: each live query is another one; a write touches one. Median time from sending the mutation to the push, over
  the median echo round trip. It must not grow with N.
- k = N: all share one live query; every write reaches all. Deliveries a second over those of a raw broadcast to as
  many, and the median time until the last one has it, over the broadcast's.
Every counted delivery carries the number of its write. Prints JSON with medians.
Options: rounds writes N..., by default 3 50 100 1000 10000.
"""

import asyncio
import itertools
import json
import sys
import tempfile
import time
from statistics import median
from typing import Any

from bench.driver import Socket, connect, echo_server, reactor_server, report, run

PATH = "/api/1.48.0/sync"
runs = itertools.count()  # each measurement has channels of its own


async def open_sockets(port: int, path: str, count: int) -> list[Socket]:
    """Open many connections, a few at a time."""
    sockets: list[Socket] = []
    while len(sockets) < count:
        sockets += await asyncio.gather(*[connect(port, path) for _ in range(min(50, count - len(sockets)))])
    return sockets


class Arrivals:
    """Counts messages that carry the number of the write under way."""

    def __init__(self) -> None:
        self.marker = b""
        self.left = 0
        self.done: asyncio.Future[None] | None = None

    def expect(self, marker: bytes, count: int) -> asyncio.Future[None]:
        """Return a future of the moment when `count` messages with `marker` have come."""
        self.marker, self.left = marker, count
        self.done = asyncio.get_running_loop().create_future()
        return self.done

    def message(self, payload: bytes) -> None:
        """Take one message."""
        if self.marker and self.marker in payload:
            self.left -= 1
            if self.left == 0 and self.done is not None:
                self.done.set_result(None)


def mutation(request: int, channel: str) -> bytes:
    """Return a write whose number is `request`."""
    call = {"channel": channel, "number": request}
    return json.dumps({"type": "Mutation", "requestId": request, "udfPath": "chat:send", "args": [call]}).encode()


async def subscribe(sockets: list[Socket], arrivals: Arrivals, channel_of: Any) -> None:
    """Give each connection its live query and wait for the first results."""
    first = arrivals.expect(b'"QueryUpdated"', len(sockets))
    for number, socket in enumerate(sockets):
        socket.on_message = arrivals.message
        add = {"type": "Add", "queryId": 0, "udfPath": "chat:latest", "args": [{"channel": channel_of(number)}]}
        change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
        socket.send(json.dumps(change).encode())
    await first


async def measure(port: int, connections: int, writes: int, shared: bool) -> dict[str, float]:
    """Return latencies in ms, and deliveries a second, of writes to one or to all of the connections."""
    arrivals = Arrivals()
    sockets = await open_sockets(port, PATH, connections)
    kind = f"channel-{next(runs)}"
    await subscribe(sockets, arrivals, lambda number: kind if shared else f"{kind}-{number}")
    (writer,) = await open_sockets(port, PATH, 1)
    latencies: list[float] = []
    begin = time.perf_counter()
    for number in range(writes):
        channel = kind if shared else f"{kind}-{number * 7919 % connections}"
        pushed = arrivals.expect(b'"value":%d.0' % number, connections if shared else 1)
        start = time.perf_counter()
        writer.send(mutation(number, channel))
        await pushed
        latencies.append((time.perf_counter() - start) * 1e3)
    took = time.perf_counter() - begin
    for socket in [*sockets, writer]:
        socket.close()
    count = writes * (connections if shared else 1)
    return {"p50_ms": median(latencies), "deliveries_per_second": count / took}


async def broadcast(port: int, connections: int, writes: int) -> dict[str, float]:
    """The same over the raw room: one sends, all receive."""
    arrivals = Arrivals()
    sockets = await open_sockets(port, "/room", connections)
    for socket in sockets:
        socket.on_message = arrivals.message
    latencies: list[float] = []
    begin = time.perf_counter()
    for number in range(writes):
        pushed = arrivals.expect(b"<%d>" % number, connections)
        start = time.perf_counter()
        sockets[0].send(b"x" * 300 + b"<%d>" % number)
        await pushed
        latencies.append((time.perf_counter() - start) * 1e3)
    took = time.perf_counter() - begin
    for socket in sockets:
        socket.close()
    return {"p50_ms": median(latencies), "deliveries_per_second": writes * connections / took}


async def echo(port: int, writes: int) -> float:
    """Return the median round trip of one echoed message, in ms."""
    arrivals = Arrivals()
    socket = await connect(port, "/echo")
    socket.on_message = arrivals.message
    latencies: list[float] = []
    for number in range(writes * 4):
        back = arrivals.expect(b"<%d>" % number, 1)
        start = time.perf_counter()
        socket.send(b"x" * 300 + b"<%d>" % number)
        await back
        latencies.append((time.perf_counter() - start) * 1e3)
    socket.close()
    return median(latencies)


async def main(rounds: int, writes: int, sizes: list[int]) -> dict[str, Any]:
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as data, echo_server() as echo_port, reactor_server(data) as port:
        await measure(port, 10, 10, shared=True)  # warm-up
        for _ in range(rounds):
            for size in sizes:
                to_all = max(5, min(writes, 50_000 // size))
                trip = await echo(echo_port, writes)
                one = await measure(port, size, writes, shared=False)
                raw = await broadcast(echo_port, size, to_all)
                everyone = await measure(port, size, to_all, shared=True)
                found[size].append(
                    {
                        "echo_ms": trip,
                        "one_ms": one["p50_ms"],
                        "one_over_echo": one["p50_ms"] / trip,
                        "all_per_second": everyone["deliveries_per_second"],
                        "broadcast_per_second": raw["deliveries_per_second"],
                        "all_over_broadcast": everyone["deliveries_per_second"] / raw["deliveries_per_second"],
                        "all_ms": everyone["p50_ms"],
                        "all_latency_over_broadcast": everyone["p50_ms"] / raw["p50_ms"],
                    }
                )
    medians = {size: {name: median(one[name] for one in found[size]) for name in found[size][0]} for size in sizes}
    return {
        "question": "push to one of N and to all of N subscribers, over raw echo and broadcast on the same stack",
        "writes": writes,
        "cases": [{"subscribers": size, **medians[size]} for size in sizes],
        "growth_of_one": medians[sizes[-1]]["one_ms"] / medians[sizes[0]]["one_ms"],
        "rounds": [{"subscribers": size, **one} for size in sizes for one in found[size]],
    }


if __name__ == "__main__":
    given = [int(option) for option in sys.argv[1:]]
    rounds, writes, *sizes = [*given, *[3, 50, 100, 1000, 10_000][len(given) :]]
    report("fanout", run(main(rounds, writes, sizes)))
