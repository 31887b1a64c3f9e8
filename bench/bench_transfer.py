"""Question: how many durable transfers a second, as a ratio to raw echo on the same stack?

One connection keeps 50 mutations, or a single one, under way; each reads two of 100,000 accounts through an index and
patches both. Accounts are drawn with Zipf skew 0.5 or 1.5. Only transfers that wrote are counted, each answer is
durable (SQLite, synchronous=FULL), and the sum of all balances is checked after every round, at one timestamp. The echo
gets frames of the same size, as many in flight, and runs in turn with the transfers. Prints JSON with the medians.
Options: rounds seconds, by default 5 3.
"""

import asyncio
import json
import sys
import tempfile
import time
from random import Random
from statistics import median
from typing import Any

from bench.driver import Socket, connect, echo_server, reactor_server, report, run

ACCOUNTS = 100_000
AT_ONCE = 4000  # accounts opened, or added up, by one call
BALANCE = 1000.0
CASES = [(0.5, 50), (1.5, 50), (0.5, 1), (1.5, 1)]  # skew, mutations under way
SEED = 7


def zipf(alpha: float, random: Random) -> Any:
    """Return a function that draws an account number; rank r with probability proportional to 1 / r**alpha."""
    weights = [1 / (rank + 1) ** alpha for rank in range(ACCOUNTS)]
    draws = random.choices(range(ACCOUNTS), weights, k=200_000)
    position = iter(range(10**9))
    return lambda: draws[next(position) % len(draws)]


class Transfers:
    """A pipelining client of the sync protocol."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.draws = {alpha: zipf(alpha, Random(SEED)) for alpha, _ in CASES}
        self.request = 0
        self.wrote = self.answered = 0
        self.latencies: list[float] = []
        self._sent: dict[int, float] = {}
        self._until = 0.0

    def _next(self) -> None:
        source, target = self._draw(), self._draw()
        if source == target:
            target = (target + 1) % ACCOUNTS
        self._sent[self.request] = time.perf_counter()
        self.socket.send(
            b'{"type":"Mutation","requestId":%d,"udfPath":"bank:transfer","args":[{"source":"account-%06d",'
            b'"target":"account-%06d","amount":1}]}' % (self.request, source, target)
        )
        self.request += 1

    def _message(self, payload: bytes) -> None:
        if b'"MutationResponse"' not in payload[:200]:
            return
        now = time.perf_counter()
        answer = json.loads(payload)
        assert answer["success"], answer
        self.answered += 1
        self.wrote += answer["result"] is True
        self.latencies.append(now - self._sent.pop(answer["requestId"]))
        if now < self._until:
            self._next()
        elif not self._sent:
            self._done.set_result(None)

    async def run(self, alpha: float, in_flight: int, seconds: float) -> dict[str, float]:
        """Keep the pipeline full for `seconds`, then let it run dry."""
        self.socket.on_message = self._message
        self._draw = self.draws[alpha]
        self.wrote = self.answered = 0
        self.latencies.clear()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        self._until = begin + seconds
        for _ in range(in_flight):
            self._next()
        await self._done
        took = time.perf_counter() - begin
        ordered = sorted(self.latencies)
        return {
            "per_second": self.wrote / took,
            "answered": self.answered,
            "wrote": self.wrote,
            "p50_ms": ordered[len(ordered) // 2] * 1e3,
            "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
        }


async def echo_round(socket: Socket, in_flight: int, seconds: float) -> float:
    """Return echoes a second with `in_flight` frames of the size of a transfer under way."""
    payload = b"x" * 170
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    state = {"count": 0, "open": in_flight}
    begin = time.perf_counter()

    def message(_: bytes) -> None:
        state["count"] += 1
        if time.perf_counter() - begin < seconds:
            socket.send(payload)
        else:
            state["open"] -= 1
            if not state["open"]:
                done.set_result(None)

    socket.on_message = message
    for _ in range(in_flight):
        socket.send(payload)
    await done
    return state["count"] / (time.perf_counter() - begin)


async def call(socket: Socket, message: dict[str, Any], wanted: str) -> dict[str, Any]:
    """Send a message and return the next one of type `wanted`."""
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def receive(payload: bytes) -> None:
        parsed = json.loads(payload)
        if parsed["type"] == wanted and not answer.done():
            answer.set_result(parsed)

    socket.on_message = receive
    socket.send(json.dumps(message).encode())
    return await answer


async def total(socket: Socket, version: int) -> float:
    """Return the sum of all balances at one timestamp; leaves the query set as it was, two versions on."""
    starts = range(0, ACCOUNTS, AT_ONCE)
    changes: list[dict[str, Any]] = [
        {
            "type": "Add",
            "queryId": version * ACCOUNTS + first,
            "udfPath": "bank:total",
            "args": [{"first": first, "count": AT_ONCE}],
        }
        for first in starts
    ]
    message = {"type": "ModifyQuerySet", "baseVersion": version, "newVersion": version + 1, "modifications": changes}
    answer = await call(socket, message, "Transition")
    while answer["endVersion"]["querySet"] <= version:
        answer = await call(socket, {"type": "Event", "eventType": "none", "event": None}, "Transition")
    parts = [part["value"] for part in answer["modifications"]]
    assert len(parts) == len(starts)
    removes = [{"type": "Remove", "queryId": change["queryId"]} for change in changes]
    socket.send(
        json.dumps(
            {
                "type": "ModifyQuerySet",
                "baseVersion": version + 1,
                "newVersion": version + 2,
                "modifications": removes,
            }
        ).encode()
    )
    return sum(parts)


async def main(rounds: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as data, echo_server() as echo_port, reactor_server(data) as port:
        echo = await connect(echo_port, "/echo")
        socket = await connect(port, "/api/1.48.0/sync")
        transfers = Transfers(socket)
        for first in range(0, ACCOUNTS, AT_ONCE):
            args = {"first": first, "count": AT_ONCE, "balance": BALANCE}
            opening = {"type": "Mutation", "requestId": transfers.request, "udfPath": "bank:open_accounts"}
            opened = await call(socket, {**opening, "args": [args]}, "MutationResponse")
            assert opened["success"], opened
            transfers.request += 1
        await transfers.run(0.5, 50, 1.0)  # warm-up
        await echo_round(echo, 50, 0.5)
        results: dict[tuple[float, int], list[dict[str, float]]] = {case: [] for case in CASES}
        version = 0
        for _ in range(rounds):
            for alpha, in_flight in CASES:
                before = await echo_round(echo, in_flight, seconds / 2)
                result = await transfers.run(alpha, in_flight, seconds)
                after = await echo_round(echo, in_flight, seconds / 2)
                result["echo_per_second"] = (before + after) / 2
                result["ratio"] = result["per_second"] / result["echo_per_second"]
                results[alpha, in_flight].append(result)
            money = await total(socket, version)
            version += 2
            assert money == ACCOUNTS * BALANCE, f"money was made or lost: {money}"
        echo.close()
        socket.close()
    names = ("ratio", "per_second", "echo_per_second", "p50_ms", "p99_ms")
    medians = {case: {name: median(one[name] for one in results[case]) for name in names} for case in CASES}
    return {
        "question": "durable transfers a second / echo messages a second, same stack, one connection",
        "accounts": ACCOUNTS,
        "seed": SEED,
        "money_conserved": True,
        "ratio": medians[0.5, 50]["ratio"],
        "cases": [{"alpha": alpha, "in_flight": many, **medians[alpha, many]} for alpha, many in CASES],
        "contention": medians[1.5, 50]["per_second"] / medians[0.5, 50]["per_second"],
        "rounds": [
            {"alpha": alpha, "in_flight": many, **one} for (alpha, many) in CASES for one in results[alpha, many]
        ],
    }


if __name__ == "__main__":
    rounds, seconds = (float(given) for given in [*sys.argv[1:], *["5", "3"][len(sys.argv) - 1 :]])
    report("transfer", run(main(int(rounds), seconds)))
