"""Question: what do a document, a connection and a subscription take in memory?

Documents have 500 bytes in their stored form and two indexes beside the automatic ones. A table of them is loaded from
a file, or written by transactions; counted by the operating system (resident) and by tracemalloc, each in a fresh
process. The baseline is a plain dict from id to the stored bytes. Connections are sockets of a real server that have
said Connect; the baseline is the raw echo on the same stack. Subscriptions are live queries of one connection, each
with arguments of its own, and then a hundred live queries shared by many connections.

Prints JSON. Options: documents connections subscriptions, by default 100000 1000 10000.
"""

import asyncio
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path
from typing import Any

from bench.bulk import DOCUMENT_BYTES, documents, fill, write_project
from bench.driver import ROOT, Socket, connect, echo_server, reactor_server, report, run
from reactor.engine.catalog import Table
from reactor.engine.database import Database
from reactor.limits import Limits
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.server.system import SystemAlarms, SystemClock, SystemRng
from reactor.storage.sqlite import SqlitePersistence
from reactor.values.stored import decode_object

TRACED_DOCUMENTS = 20_000  # counted exactly, so that fewer do; and it takes several times as long
SHARED = 100  # connections that share one live query
SETTLE_SECONDS = 0.5  # for what the server still does after its last answer


def resident(process: int | str = "self") -> int:
    """Return the bytes of a process in memory."""
    return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


# Documents.


async def documents_in_memory(project: str, data: str, count: int, measure: Callable[[], int]) -> dict[str, float]:
    """Load the large table, or write `count` documents into it if it is empty.

    Returns how much `measure` grew, and what the engine itself counts.
    """
    host = await Host.open(
        SqlitePersistence(data, synchronous="OFF"),
        clock=SystemClock(),
        alarms=SystemAlarms(),
        rng=SystemRng(),
        limits=Limits(),
    )
    loaded = ProjectLoader(project).load()
    await host.push(loaded)
    database: Database = host.database
    table = database.table("large")
    assert table is not None
    gc.collect()
    counted, before = database.catalog.bytes, measure()
    await database.loading.load(table)
    if not len(table):
        await write(database, table, count)
    gc.collect()
    grown = measure() - before
    count = len(table)
    answer = {"per_document": grown / count, "counted": (database.catalog.bytes - counted) / count}
    await host.close()
    loaded.release()
    return answer


async def write(database: Database, table: Table, count: int) -> None:
    """Insert documents in transactions of a thousand, and wait until they are durable."""
    made = documents(table.number, count)
    while some := list(islice(made, 1000)):
        transaction = database.begin_mutation()
        for document_id, data in some:
            transaction.get(table, document_id)
            transaction.put(table, document_id, decode_object(data), data, None, None)
        await database.durable(database.committer.commit(transaction, source="bench"))


def raw_documents(count: int, measure: Callable[[], int]) -> dict[str, float]:
    """Fill a plain dict; return how much `measure` grew."""
    before = measure()
    kept = dict(documents(10_001, count))
    gc.collect()
    return {"per_document": (measure() - before) / len(kept)}


def traced() -> int:
    """Return the bytes that Python has allocated."""
    return tracemalloc.get_traced_memory()[0]


def child(*arguments: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "bench.bench_memory", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(how: str, what: list[str]) -> dict[str, float]:
    """The child's side."""
    measure = resident
    if how == "traced":
        tracemalloc.start()
        measure = traced  # type: ignore[assignment]
    if len(what) == 1:
        return raw_documents(int(what[0]), measure)
    answer: dict[str, float] = run(documents_in_memory(what[0], what[1], int(what[2]), measure))
    return answer


def of_documents(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="reactor-bench-") as folder:
        project = write_project(Path(folder) / "project")
        result: dict[str, Any] = {"documents": count, "stored_bytes": DOCUMENT_BYTES}
        for how, number in (("resident", count), ("traced", min(count, TRACED_DOCUMENTS))):
            run(fill(project, Path(folder) / "loaded", number))
            raw = child(how, str(number))["per_document"]
            for state in ("loaded", "written"):
                data = Path(folder) / state
                engine = child(how, str(project), str(data), str(number))
                shutil.rmtree(data)
                result[f"{state}_{how}"] = {
                    "bytes_per_document": engine["per_document"],
                    "ratio_to_stored": engine["per_document"] / DOCUMENT_BYTES,
                    "ratio_to_dict": engine["per_document"] / raw,
                }
                result["counted_by_data_bytes"] = engine["counted"]
            result[f"dict_{how}"] = {"bytes_per_document": raw}
    return result


# Connections and subscriptions.


def server_process() -> int:
    """Return the process that was started last."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return int(children[-1])


async def hello(socket: Socket, number: int) -> None:
    """Say Connect, as every client does first."""
    message = {
        "type": "Connect",
        "sessionId": f"00000000-0000-4000-8000-{number:012}",
        "connectionCount": 0,
        "lastCloseReason": "InitialConnect",
        "clientTs": 0,
    }
    socket.send(json.dumps(message).encode())


async def subscribe(socket: Socket, channels: list[str]) -> None:
    """Add a live query for each channel and wait until all have a result."""
    left = len(channels)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def message(payload: bytes) -> None:
        nonlocal left
        left -= payload.count(b'"QueryUpdated"')
        if left <= 0 and not done.done():
            done.set_result(None)

    socket.on_message = message
    modifications = [
        {"type": "Add", "queryId": number, "udfPath": "chat:latest", "args": [{"channel": channel}]}
        for number, channel in enumerate(channels)
    ]
    change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": modifications}
    socket.send(json.dumps(change).encode())
    await done


async def growth(process: int, work: Callable[[], Awaitable[None]]) -> int:
    """Return by how many bytes a server grows from `work`."""
    await asyncio.sleep(SETTLE_SECONDS)
    before = resident(process)
    await work()
    await asyncio.sleep(SETTLE_SECONDS)
    return resident(process) - before


async def of_sockets(connections: int, subscriptions: int) -> dict[str, Any]:
    sockets: list[Socket] = []

    async def connect_all(port: int, path: str, greet: bool) -> None:
        for number in range(connections):
            socket = await connect(port, path)
            sockets.append(socket)
            if greet:
                await hello(socket, number)

    with echo_server() as port:
        process = server_process()
        sockets.append(await connect(port, "/echo"))  # what the first one costs is not a connection's
        raw = await growth(process, lambda: connect_all(port, "/echo", greet=False))
        for socket in sockets:
            socket.close()
    sockets.clear()
    with tempfile.TemporaryDirectory() as data, reactor_server(data) as port:
        process = server_process()
        first = await connect(port, "/api/1.48.0/sync")
        await hello(first, connections)
        await subscribe(first, ["warm"])
        ours = await growth(process, lambda: connect_all(port, "/api/1.48.0/sync", greet=True))
        names = [f"channel-{number:08}" for number in range(subscriptions)]
        own = await growth(process, lambda: subscribe(sockets[0], names))

        async def share() -> None:
            for socket in sockets[1 : SHARED + 1]:
                await subscribe(socket, names[:100])

        shared = await growth(process, share)
        for socket in (first, *sockets):
            socket.close()
    return {
        "connections": connections,
        "bytes_per_connection": ours / connections,
        "echo_bytes_per_connection": raw / connections,
        "ratio_to_echo": ours / raw if raw else None,
        "subscriptions": subscriptions,
        "bytes_per_subscription": own / subscriptions,
        "bytes_per_shared_subscription": shared / (min(SHARED, connections - 1) * 100),
    }


def main(count: int, connections: int, subscriptions: int) -> dict[str, Any]:
    return {
        "question": "bytes in memory for a document with two indexes, a connection, a subscription",
        **of_documents(count),
        **run(of_sockets(connections, subscriptions)),
    }


if __name__ == "__main__":
    if sys.argv[1:2] in (["resident"], ["traced"]):
        print(json.dumps(measured(sys.argv[1], sys.argv[2:])))
    else:
        numbers = [int(given) for given in [*sys.argv[1:], *["100000", "1000", "10000"][len(sys.argv) - 1 :]]]
        report("memory", main(*numbers))
