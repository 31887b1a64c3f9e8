"""The process that gets killed: appends batches for ever and reports each outcome on a line of its own.

Arguments: data directory, synchronous, records per batch, and a way to behave: "plain"; "after" (a reply is sent when
its batch is durable) or "before" (the mistake that the trace must show); "fragile" (the process dies when an outcome is
unknown). Lines: `begin <end>`, `done <first> <last>`, `unknown <first> <last>`, `end <ts>` after reopening.
"""

import asyncio
import base64
import os
import socket
import sys

from reactor.errors import StorageError
from reactor.storage.interface import AppendOutcome, DocumentWrite, LogState, Record
from reactor.storage.sqlite import SqlitePersistence

FIRST_TS = 1_700_000_000_000_000_000


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def reply(sender: socket.socket, ts: int) -> None:
    text = base64.b64encode(ts.to_bytes(8, "little")).decode()
    sender.send(f'{{"type":"MutationResponse","requestId":0,"ts":"{text}"}}'.encode())


async def settle(persistence: SqlitePersistence) -> LogState:
    while True:
        try:
            return await persistence.reopen()
        except StorageError:
            await asyncio.sleep(0)


async def append_for_ever(persistence: SqlitePersistence, size: int, manner: str, sender: socket.socket) -> None:
    try:
        state = await persistence.open()
    except StorageError:  # the failing sync was one of opening
        state = await persistence.open()
    say("begin", state.end)
    end = state.end
    for count in range(1_000_000):
        first = max(end, FIRST_TS) + 3
        batch = [
            Record(ts, "commit", (DocumentWrite(10_001, str(ts), b"x" * 300),)) for ts in range(first, first + size)
        ]
        if manner == "before":
            reply(sender, batch[-1].ts)
        outcome = await persistence.append(batch, end)
        if outcome is AppendOutcome.DONE:
            if manner == "after":
                reply(sender, batch[-1].ts)
            say("done", first, batch[-1].ts)
            end = batch[-1].ts
        else:
            say(outcome.value, first, batch[-1].ts)
            if manner == "fragile":
                os._exit(1)
            end = (await settle(persistence)).end
            say("end", end)
        if count % 7 == 6:
            try:
                await persistence.fold(size * 5)
                await persistence.trim(end - 100)
            except StorageError as error:
                say("failed", error)
            if persistence._wal.checkpointing is not None:  # so that one is not always covered by the next append
                await asyncio.wait([persistence._wal.checkpointing])


async def main(data_dir: str, synchronous: str, size: str, manner: str) -> None:
    sender, receiver = socket.socketpair()
    receiver.setblocking(False)
    asyncio.get_running_loop().add_reader(receiver, lambda: receiver.recv(1 << 16))
    persistence = SqlitePersistence(data_dir, synchronous=synchronous, wal_bytes=100_000)  # type: ignore[arg-type]
    await append_for_ever(persistence, int(size), manner, sender)


asyncio.run(main(*sys.argv[1:]))
