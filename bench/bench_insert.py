"""Question: how many durable inserts a second, one at a time and with 50 in flight, as a ratio to raw echo?

One connection keeps so many mutations under way; each inserts one document of a table with one index beside the
automatic ones, and each answer is durable (SQLite, synchronous=FULL). The echo gets frames of the same size, as many in
flight, and runs in turn with the inserts. The second baseline is SQLite alone, in this process: the same rows, with
synchronous=FULL, one transaction for as many rows as are in flight. At the end the documents are counted. Prints JSON
with the medians. Options: rounds seconds, by default 5 3.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.driver import Socket, connect, echo_server, reactor_server, report, run

IN_FLIGHT = (1, 50)
MESSAGE = b'{"type":"Mutation","requestId":%d,"udfPath":"chat:send","args":[{"channel":"channel-%d","number":%d}]}'


class Pipeline:
    """Keeps messages under way on one connection, and measures the answers."""

    def __init__(self, socket: Socket, in_flight: int, make: Any, number_of: Any) -> None:
        self._socket = socket
        self._in_flight = in_flight
        self._make = make
        self._number_of = number_of  # of the message that an answer belongs to; None when it is no answer
        self._sent: dict[int, float] = {}
        self.latencies: list[float] = []

    async def run(self, seconds: float) -> float:
        """Return answers a second; the pipeline is empty before and after."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        until = begin + seconds

        def send() -> None:
            number, payload = self._make()
            self._sent[number] = time.perf_counter()
            self._socket.send(payload)

        def message(payload: bytes) -> None:
            number = self._number_of(payload)
            if number is None:
                return
            now = time.perf_counter()
            self.latencies.append(now - self._sent.pop(number))
            if now < until:
                send()
            elif not self._sent:
                done.set_result(None)

        self.latencies.clear()
        self._socket.on_message = message
        for _ in range(self._in_flight):
            send()
        await done
        return len(self.latencies) / (time.perf_counter() - begin)


class Inserts:
    """Makes mutations, and reads their answers."""

    def __init__(self) -> None:
        self.request = 0

    def make(self) -> tuple[int, bytes]:
        """Return the next mutation."""
        number = self.request
        self.request += 1
        return number, MESSAGE % (number, number % 100, number)

    def number_of(self, payload: bytes) -> int | None:
        """Return the request an answer belongs to."""
        if b'"MutationResponse"' not in payload[:200]:
            return None
        answer = json.loads(payload)
        assert answer["success"], answer
        return int(answer["requestId"])


class Echoes:
    """Makes frames of the size of a mutation."""

    def __init__(self) -> None:
        self._count = 0

    def make(self) -> tuple[int, bytes]:
        """Return the next frame."""
        self._count += 1
        return self._count, b"%-110d" % self._count

    def number_of(self, payload: bytes) -> int:
        """Return the frame an answer belongs to."""
        return int(payload)


def bare_sqlite(folder: Path, rows: int, seconds: float) -> float:
    """Return rows a second, `rows` to a transaction."""
    connection = sqlite3.connect(folder / f"bare-{time.monotonic_ns()}.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE messages (_id TEXT PRIMARY KEY, _creationTime REAL, channel TEXT, body TEXT, number REAL)"
    )
    connection.execute("CREATE INDEX by_creation_time ON messages (_creationTime)")
    connection.execute("CREATE INDEX by_channel ON messages (channel, _creationTime)")
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO messages VALUES (?, ?, ?, 'hello', ?)",
            ((f"j5{at:030}", float(at), f"channel-{at % 100}", float(at)) for at in range(count, count + rows)),
        )
        connection.execute("COMMIT")
        count += rows
    took = time.perf_counter() - begin
    connection.close()
    return count / took


async def main(rounds: int, seconds: float) -> dict[str, Any]:
    results: dict[int, list[dict[str, float]]] = {in_flight: [] for in_flight in IN_FLIGHT}
    inserts, echoes = Inserts(), Echoes()
    with tempfile.TemporaryDirectory() as data, echo_server() as echo_port, reactor_server(data) as port:
        echo = await connect(echo_port, "/echo")
        socket = await connect(port, "/api/1.48.0/sync")
        await Pipeline(socket, 50, inserts.make, inserts.number_of).run(1.0)  # warm-up
        await Pipeline(echo, 50, echoes.make, echoes.number_of).run(0.5)
        for _ in range(rounds):
            for in_flight in IN_FLIGHT:
                raw = Pipeline(echo, in_flight, echoes.make, echoes.number_of)
                ours = Pipeline(socket, in_flight, inserts.make, inserts.number_of)
                before = await raw.run(seconds / 2)
                per_second = await ours.run(seconds)
                after = await raw.run(seconds / 2)
                sqlite = await asyncio.to_thread(bare_sqlite, Path(data), in_flight, seconds / 2)
                ordered = sorted(ours.latencies)
                echoed = (before + after) / 2
                results[in_flight].append(
                    {
                        "per_second": per_second,
                        "echo_per_second": echoed,
                        "sqlite_per_second": sqlite,
                        "ratio": per_second / echoed,
                        "ratio_to_sqlite": per_second / sqlite,
                        "p50_ms": ordered[len(ordered) // 2] * 1e3,
                        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
                    }
                )
        stored = await count(socket)
        assert stored == inserts.request, f"{inserts.request} inserts were answered, {stored} documents are there"
        echo.close()
        socket.close()
    return {
        "question": "durable inserts a second / echo messages a second, same stack, one connection",
        "inserted": stored,
        **{
            f"{in_flight}_in_flight": {name: median(result[name] for result in found) for name in found[0]}
            for in_flight, found in results.items()
        },
        "rounds": {str(in_flight): found for in_flight, found in results.items()},
    }


async def count(socket: Socket) -> int:
    """Return how many documents the inserts have left."""
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def receive(payload: bytes) -> None:
        parsed = json.loads(payload)
        if parsed["type"] == "Transition" and parsed["modifications"] and not answer.done():
            answer.set_result(parsed)

    socket.on_message = receive
    add = {"type": "Add", "queryId": 0, "udfPath": "chat:count", "args": [{}]}
    change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
    socket.send(json.dumps(change).encode())
    return int((await answer)["modifications"][0]["value"])


if __name__ == "__main__":
    rounds, seconds = (float(given) for given in [*sys.argv[1:], *["5", "3"][len(sys.argv) - 1 :]])
    report("insert", run(main(int(rounds), seconds)))
