"""Question: how many calls of `limit` a second on one hot key, as a ratio to plain increments of one hot document?

One connection keeps 50 mutations, or a single one, under way; each answer is durable (SQLite, synchronous=FULL). A
plain increment finds a document through an index and patches it; `limit` does the same in the component, through a
nested call. Both are driven in turn, by the same client, against the same server, in short slices, so that what else the
machine does meets both. At the end both documents are looked at: every answer has counted. Prints JSON with the medians.
Options: rounds seconds, by default 20 0.5.
"""

import asyncio
import json
import sys
import tempfile
import time
from statistics import median
from typing import Any

from bench.driver import Socket, connect, reactor_server, report, run

IN_FLIGHT = (1, 50)
CALLS = ("hot:increment", "hot:limit")
MESSAGE = b'{"type":"Mutation","requestId":%d,"udfPath":"%s","args":[{"name":"hot"}]}'


class Calls:
    """A pipelining client of the sync protocol."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._request = 0
        self.answered = dict.fromkeys(CALLS, 0)

    async def run(self, path: str, in_flight: int, seconds: float) -> float:
        """Keep `in_flight` calls under way for `seconds`, then let them end; return answers a second."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        begin = time.perf_counter()
        until = begin + seconds
        sent = answered = 0

        def send() -> None:
            nonlocal sent
            sent += 1
            self._socket.send(MESSAGE % (self._request, path.encode()))
            self._request += 1

        def message(payload: bytes) -> None:
            nonlocal answered
            if b'"MutationResponse"' not in payload[:200]:
                return
            answer = json.loads(payload)
            assert answer["success"], answer
            assert answer["result"] is True, answer
            answered += 1
            if time.perf_counter() < until:
                send()
            elif answered == sent:
                done.set_result(None)

        self._socket.on_message = message
        for _ in range(in_flight):
            send()
        await done
        self.answered[path] += answered
        return answered / (time.perf_counter() - begin)


async def main(rounds: int, seconds: float) -> dict[str, Any]:
    results: dict[int, list[dict[str, float]]] = {in_flight: [] for in_flight in IN_FLIGHT}
    with tempfile.TemporaryDirectory() as data, reactor_server(data) as port:
        socket = await connect(port, "/api/1.48.0/sync")
        calls = Calls(socket)
        for path in CALLS:  # warm-up
            await calls.run(path, 50, 0.5)
        for _ in range(rounds):
            for in_flight in IN_FLIGHT:
                before = await calls.run(CALLS[0], in_flight, seconds / 2)
                limits = await calls.run(CALLS[1], in_flight, seconds)
                after = await calls.run(CALLS[0], in_flight, seconds / 2)
                plain = (before + after) / 2
                results[in_flight].append(
                    {"limits_per_second": limits, "increments_per_second": plain, "ratio": limits / plain}
                )
        counted = await look(socket)
        assert counted == calls.answered, f"answered: {calls.answered}, counted: {counted}"
        socket.close()
    return {
        "question": "calls of limit on one hot key / increments of one hot document, a second, one connection",
        "answered": calls.answered,
        **{
            f"{in_flight}_in_flight": {name: median(result[name] for result in found) for name in found[0]}
            for in_flight, found in results.items()
        },
        "rounds": {str(in_flight): found for in_flight, found in results.items()},
    }


async def look(socket: Socket) -> dict[str, int]:
    """Return how much both documents say has been counted."""
    answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def receive(payload: bytes) -> None:
        parsed = json.loads(payload)
        if parsed["type"] == "Transition" and parsed["modifications"] and not answer.done():
            answer.set_result(parsed)

    socket.on_message = receive
    add = {"type": "Add", "queryId": 0, "udfPath": "hot:counted", "args": [{"name": "hot"}]}
    change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
    socket.send(json.dumps(change).encode())
    found = (await answer)["modifications"][0]["value"]
    return dict(zip(CALLS, map(int, found), strict=True))


if __name__ == "__main__":
    rounds, seconds = (float(given) for given in [*sys.argv[1:], *["20", "0.5"][len(sys.argv) - 1 :]])
    report("rate_limit", run(main(int(rounds), seconds)))
