"""Question: how many durable transfers a second, as a ratio to raw echo on the same stack?

One connection keeps `IN_FLIGHT` mutations under way; each reads two accounts through an index and patches both.
Accounts are drawn with Zipf skew alpha. Only transfers that wrote are counted, each answer is durable (SQLite,
synchronous=FULL), and the sum of all balances is checked after every round. The echo gets frames of the same size, as
many in flight, and runs in turn with the transfers. Prints JSON with the median of the ratios.
Options: rounds seconds alpha, by default 5 3 0.5.
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

ACCOUNTS = 1000
BALANCE = 1000.0
IN_FLIGHT = 50
SEED = 7


def zipf(alpha: float, random: Random) -> Any:
    """Return a function that draws an account number; rank r with probability proportional to 1 / r**alpha."""
    weights = [1 / (rank + 1) ** alpha for rank in range(ACCOUNTS)]
    draws = random.choices(range(ACCOUNTS), weights, k=200_000)
    position = iter(range(10**9))
    return lambda: draws[next(position) % len(draws)]


class Transfers:
    """A pipelining client of the sync protocol."""

    def __init__(self, socket: Socket, alpha: float) -> None:
        self.socket = socket
        self.draw = zipf(alpha, Random(SEED))
        self.request = 0
        self.wrote = self.answered = 0
        self.latencies: list[float] = []
        self._sent: dict[int, float] = {}
        self._until = 0.0
        socket.on_message = self._message

    def _next(self) -> None:
        source, target = self.draw(), self.draw()
        if source == target:
            target = (target + 1) % ACCOUNTS
        self._sent[self.request] = time.perf_counter()
        self.socket.send(
            b'{"type":"Mutation","requestId":%d,"udfPath":"bank:transfer","args":[{"source":"account-%d",'
            b'"target":"account-%d","amount":1}]}' % (self.request, source, target)
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

    async def run(self, seconds: float) -> dict[str, float]:
        """Keep the pipeline full for `seconds`, then let it run dry."""
        self.wrote = self.answered = 0
        self.latencies.clear()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        self._until = begin + seconds
        for _ in range(IN_FLIGHT):
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


async def echo_round(socket: Socket, seconds: float, size: int) -> float:
    """Return echoes a second with `IN_FLIGHT` frames of `size` bytes under way."""
    payload = b"x" * size
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    state = {"count": 0, "open": IN_FLIGHT}
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
    for _ in range(IN_FLIGHT):
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


async def modify(socket: Socket, version: int, change: dict[str, Any]) -> dict[str, Any]:
    """Change the query set and return the Transition that says so."""
    message = {"type": "ModifyQuerySet", "baseVersion": version, "newVersion": version + 1, "modifications": [change]}
    answer = await call(socket, message, "Transition")
    while answer["endVersion"]["querySet"] <= version:
        answer = await call(socket, {"type": "Event", "eventType": "none", "event": None}, "Transition")
    return answer


async def main(rounds: int, seconds: float, alpha: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as data, echo_server() as echo_port, reactor_server(data) as port:
        echo = await connect(echo_port, "/echo")
        socket = await connect(port, "/api/1.48.0/sync")
        seed = {"type": "Mutation", "requestId": 0, "udfPath": "bank:open_accounts"}
        opened = await call(socket, {**seed, "args": [{"count": ACCOUNTS, "balance": BALANCE}]}, "MutationResponse")
        assert opened["success"], opened
        transfers = Transfers(socket, alpha)
        transfers.request = 1
        await transfers.run(1.0)  # warm-up
        await echo_round(echo, 0.5, 250)
        results: list[dict[str, float]] = []
        version = 0
        for number in range(rounds):
            before = await echo_round(echo, seconds / 2, 250)
            socket.on_message = transfers._message
            result = await transfers.run(seconds)
            after = await echo_round(echo, seconds / 2, 250)
            result["echo_per_second"] = (before + after) / 2
            result["ratio"] = result["per_second"] / result["echo_per_second"]
            add = {"type": "Add", "queryId": number, "udfPath": "bank:total", "args": [{}]}
            total = (await modify(socket, version, add))["modifications"][0]["value"]
            await modify(socket, version + 1, {"type": "Remove", "queryId": number})
            version += 2
            assert total == ACCOUNTS * BALANCE, f"money was made or lost: {total}"
            results.append(result)
        echo.close()
        socket.close()
    return {
        "question": "durable transfers a second / echo messages a second, same stack, one connection",
        "accounts": ACCOUNTS,
        "in_flight": IN_FLIGHT,
        "alpha": alpha,
        "seed": SEED,
        "ratio": median(result["ratio"] for result in results),
        "transfers_per_second": median(result["per_second"] for result in results),
        "echo_per_second": median(result["echo_per_second"] for result in results),
        "p50_ms": median(result["p50_ms"] for result in results),
        "p99_ms": median(result["p99_ms"] for result in results),
        "money_conserved": True,
        "rounds": results,
    }


if __name__ == "__main__":
    rounds, seconds, alpha = (float(given) for given in [*sys.argv[1:], *["5", "3", "0.5"][len(sys.argv) - 1 :]])
    report("transfer", run(main(int(rounds), seconds, alpha)))
