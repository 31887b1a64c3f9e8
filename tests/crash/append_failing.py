"""The process that dies at a named place: appends, folds and trims, and reports what is durable.

Arguments: data directory, name of the place (`failpoints.NAMES`), and at which visit to it to die. Lines: `done <ts>`
after each durable batch, `died <name>` last.
"""

import asyncio
import os
import signal
import sys

from reactor.storage import failpoints, sqlite_steps
from reactor.storage.interface import AppendOutcome, DocumentWrite, Record
from reactor.storage.sqlite import SqlitePersistence


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def dying_at(name: str, visit: int) -> None:
    left = visit

    def reached(place: str) -> None:
        nonlocal left
        left -= place == name
        if not left:
            say(f"died {name}")
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.armed = reached


async def main(data_dir: str, name: str, visit: str) -> None:
    persistence = SqlitePersistence(data_dir, wal_bytes=100_000)
    sqlite_steps.FOLD_DOCUMENTS = 3  # type: ignore[misc]  # so that a fold takes several transactions
    end = (await persistence.open()).end
    dying_at(name, int(visit))
    for count in range(400):
        ts = end + 1
        writes = tuple(DocumentWrite(10_001, f"id{number}", b"%d" % ts + b"x" * 9_000) for number in range(count % 9))
        batch = [Record(ts, "commit", writes, "session", ts, b"null")]
        assert await persistence.append(batch, end) is AppendOutcome.DONE
        failpoints.armed("append: before publishing")  # type: ignore[misc]  # where the publisher would be
        say(f"done {ts}")
        end = ts
        if count % 5 == 4:
            await persistence.fold(5)
            await persistence.trim(end - 3)
        if count % 20 == 19:
            await persistence.reopen()
        if count == 60:  # a lot becomes free, and is given back
            drop = Record(end + 1, "commit", tuple(DocumentWrite(10_001, f"id{number}", None) for number in range(9)))
            big = Record(end + 2, "commit", (DocumentWrite(10_001, "big", b"x" * 4_000_000),))
            gone = Record(end + 3, "commit", (DocumentWrite(10_001, "big", None),))
            for record in (drop, big, gone):
                assert await persistence.append([record], end) is AppendOutcome.DONE
                end = record.ts
                say(f"done {end}")
                await persistence.fold(100)


asyncio.run(main(*sys.argv[1:]))
