"""What only SQLite has: errors, two connections, checkpoints, threads."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reactor.errors import StorageError
from reactor.storage import sqlite_steps
from reactor.storage.interface import AppendOutcome, LogState, Record
from reactor.storage.sqlite import SqlitePersistence
from reactor.storage.sqlite_errors import primary_code
from tests.storage.records import commit, commits, documents, write

DONE, REFUSED, UNKNOWN = AppendOutcome.DONE, AppendOutcome.REFUSED, AppendOutcome.UNKNOWN


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqlitePersistence]:
    persistence = SqlitePersistence(tmp_path)
    await persistence.open()
    yield persistence
    await persistence.close()


def announced(monkeypatch: pytest.MonkeyPatch, target: object, method: str) -> asyncio.Event:
    """Return an event that is set when `method` of `target` begins."""
    started = asyncio.Event()
    really = getattr(target, method)

    async def announce(*arguments: object) -> object:
        started.set()
        return await really(*arguments)

    monkeypatch.setattr(target, method, announce)
    return started


def failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("made by the test")
    error.sqlite_errorcode = code
    return error


@pytest.mark.asyncio
async def test_another_process_can_not_open_it(database: SqlitePersistence) -> None:
    with pytest.raises(StorageError, match="in use by"):
        await SqlitePersistence(database.directory).open()

    assert await database.append(commits(1, 1), 0) is DONE


@pytest.mark.asyncio
async def test_an_append_under_an_older_epoch_is_refused(database: SqlitePersistence) -> None:
    """Whoever took the lease later must be able to trust that nobody else writes."""
    with sqlite3.connect(database.path) as thief:
        thief.execute("UPDATE meta SET epoch = epoch + 1")
    thief.close()

    assert await database.append(commits(1, 1), 0) is REFUSED
    assert await database.read(0, 1) == []


@pytest.mark.asyncio
async def test_a_busy_database_refuses_and_recovers(database: SqlitePersistence) -> None:
    assert await database.append(commits(1, 2), 0) is DONE
    await database.fold(1)
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    assert await database.append(commits(3, 3), 2) is REFUSED
    with pytest.raises(StorageError, match="can't fold: database is locked"):
        await database.fold(1)
    with pytest.raises(StorageError, match="can't trim: database is locked"):
        await database.trim(1)

    other.close()
    assert await database.append(commits(3, 3), 2) is DONE
    assert (await database.fold(10)).folded == 3
    assert (await database.trim(1)).floor == 1


@pytest.mark.asyncio
async def test_a_full_database_refuses_and_goes_on_with_what_fits(database: SqlitePersistence) -> None:
    assert database._writer is not None
    await database._writer.fetch("PRAGMA max_page_count = 20")

    assert await database.append([commit(1, write("large", b"x" * 200_000))], 0) is REFUSED

    assert await database.append([commit(1, write("small", b"x"))], 0) is DONE
    assert (await database.reopen()).end == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, REFUSED),
        (sqlite3.SQLITE_READONLY_DBMOVED, REFUSED),
        (sqlite3.SQLITE_TOOBIG, REFUSED),
        (sqlite3.SQLITE_IOERR_FSYNC, UNKNOWN),
        (sqlite3.SQLITE_IOERR_WRITE, UNKNOWN),
        (sqlite3.SQLITE_NOMEM, UNKNOWN),
        (sqlite3.SQLITE_CORRUPT, UNKNOWN),
    ],
)
async def test_every_failure_has_a_class(
    database: SqlitePersistence, monkeypatch: pytest.MonkeyPatch, code: int, outcome: AppendOutcome
) -> None:
    async def fail(*_: object) -> int:
        raise failure(code)

    with monkeypatch.context() as patch:
        patch.setattr(database._writer, "write", fail)
        assert await database.append(commits(1, 1), 0) is outcome

    assert await database.append(commits(1, 1), 0) is (UNKNOWN if outcome is UNKNOWN else DONE)


@pytest.mark.asyncio
async def test_after_an_unknown_append_nothing_is_written_until_reopened(
    database: SqlitePersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine must learn what the log ends with before anything follows it."""
    assert await database.append(commits(1, 2), 0) is DONE
    assert database._writer is not None
    really = database._writer.write

    async def write_and_fail(sql: str, parameters: tuple[object, ...]) -> int:
        await really(sql, parameters)
        raise failure(sqlite3.SQLITE_IOERR_FSYNC)

    monkeypatch.setattr(database._writer, "write", write_and_fail)
    assert await database.append(commits(3, 3), 2) is UNKNOWN

    assert await database.append(commits(4, 4), 3) is UNKNOWN
    with pytest.raises(StorageError, match="reopen first"):
        await database.fold(1)
    with pytest.raises(StorageError, match="reopen first"):
        await database.trim(1)
    assert (await database.reopen()).end == 3
    assert await database.append(commits(4, 4), 3) is DONE
    assert (await database.fold(10)).folded == 4


@pytest.mark.asyncio
async def test_a_fold_that_could_not_be_written_puts_appends_in_doubt(
    database: SqlitePersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages the kernel dropped stand before the next commit in the write-ahead log, which would end there."""
    assert await database.append(commits(1, 2), 0) is DONE

    async def fail(_: object) -> None:
        raise failure(sqlite3.SQLITE_IOERR_WRITE)

    monkeypatch.setattr(database._background, "transact", fail)
    with pytest.raises(StorageError, match="can't fold"):
        await database.fold(2)

    assert await database.append(commits(3, 3), 2) is UNKNOWN
    assert await database.reopen() == LogState(end=2, floor=0, folded=0, epoch=2)
    assert await database.append(commits(3, 3), 2) is DONE


@pytest.mark.asyncio
async def test_reopening_may_fail_and_be_tried_again(
    database: SqlitePersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await database.append(commits(1, 2), 0) is DONE
    with monkeypatch.context() as patch:
        patch.setattr(database, "path", database.directory / "missing" / "db.sqlite3")
        with pytest.raises(StorageError, match="removed or replaced"):
            await database.reopen()

    assert await database.append(commits(3, 3), 2) is UNKNOWN
    with pytest.raises(StorageError, match="reopen first"):
        await database.fold(1)
    assert (await database.reopen()).end == 2
    assert await database.append(commits(3, 3), 2) is DONE


@pytest.mark.asyncio
async def test_a_cancelled_append_is_an_unknown_one(
    database: SqlitePersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement goes on in its thread, so the caller can't know."""
    started = announced(monkeypatch, database._writer, "write")
    appending = asyncio.ensure_future(database.append(commits(1, 1), 0))
    await started.wait()

    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending

    assert await database.append(commits(2, 2), 1) is UNKNOWN
    state = await database.reopen()
    assert await database.append(commits(2, 2), state.end) is DONE


@pytest.mark.asyncio
async def test_a_cancelled_fold_is_not_in_the_way_of_appends(
    database: SqlitePersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread may still hold SQLite's write lock, and appends do not wait for that one."""
    assert await database.append(commits(1, 200), 0) is DONE
    started = announced(monkeypatch, database._background, "transact")
    folding = asyncio.ensure_future(database.fold(200))
    await started.wait()

    folding.cancel()

    assert await database.append(commits(201, 201), 200) is DONE
    with pytest.raises(asyncio.CancelledError):
        await folding
    assert (await database.fold(1)).folded == 201


@pytest.mark.asyncio
async def test_everything_at_once(database: SqlitePersistence) -> None:
    """Fold, trim, read and load run beside the one appender and must not make it fail."""
    appended = asyncio.Event()

    async def append() -> None:
        for ts in range(1, 1000, 5):
            assert await database.append(commits(ts, ts + 4), ts - 1) is DONE
        appended.set()

    async def fold_and_trim() -> None:
        while not appended.is_set():
            folded = (await database.fold(50)).folded
            await database.trim(folded - 100)

    async def look() -> None:
        while not appended.is_set():
            found = await documents(database)
            state = await database.fold(1)
            assert len(found) <= state.folded
            tail = await database.read(state.folded, 1000)
            assert [record.ts for record in tail] == list(range(state.folded + 1, state.folded + 1 + len(tail)))

    await asyncio.gather(append(), fold_and_trim(), look())

    assert (await database.fold(2000)).folded == 1000
    assert sorted(document.ts for document in await documents(database)) == list(range(1, 1001))


@pytest.mark.asyncio
async def test_a_long_log_is_trimmed_in_portions(database: SqlitePersistence) -> None:
    """One huge deletion would keep appends waiting; and what is deleted must be exactly what was asked for."""
    for ts in range(1, 701):
        assert await database.append(commits(ts, ts), ts - 1) is DONE
    await database.fold(1000)

    assert (await database.trim(650)).floor == 650

    with sqlite3.connect(database.path) as reader:
        assert reader.execute("SELECT min(last_ts), count(*) FROM log").fetchone() == (651, 50)
    reader.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("meanwhile", [0, 3])
async def test_the_write_ahead_log_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: int
) -> None:
    """Under steady load no append ever finds all of it copied; without help it would never start over."""
    bound = 200_000
    database = SqlitePersistence(tmp_path, synchronous="OFF", wal_bytes=bound)
    await database.open()
    wal = tmp_path / "db.sqlite3-wal"
    end, sizes = 0, [0]

    async def append() -> None:
        nonlocal end
        assert await database.append([commit(end + 1, write("a", b"x" * 8000))], end) is DONE
        end += 1
        sizes.append(wal.stat().st_size)

    really = database._background.fetch  # type: ignore[union-attr]

    async def copy(statement: str) -> object:
        """A checkpoint that appends follow before it has come to its end; to SQLite, a reader does the same to it."""
        with sqlite3.connect(database.path, isolation_level=None) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM log").fetchone()
            copied = await really(statement)
            if not database._gate.writing.locked():
                for _ in range(meanwhile):
                    await append()
        reader.close()
        return copied

    if meanwhile:
        monkeypatch.setattr(database._background, "fetch", copy)
    for _ in range(600):
        await append()
        if database._wal.checkpointing is not None:
            await database._wal.checkpointing

    assert max(sizes) < 6 * bound
    await database.close()
    assert not wal.exists()


@pytest.mark.asyncio
async def test_a_failed_checkpoint_puts_appends_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database = SqlitePersistence(tmp_path, wal_bytes=10_000)
    await database.open()

    async def fail(*_: object) -> list[object]:
        raise failure(sqlite3.SQLITE_IOERR_FSYNC)

    monkeypatch.setattr(database._background, "fetch", fail)
    assert await database.append([commit(1, write("a", b"x" * 20_000))], 0) is DONE
    assert database._wal.checkpointing is not None
    await database._wal.checkpointing

    assert "checkpoint failed" in caplog.text
    assert await database.append(commits(2, 2), 1) is UNKNOWN
    assert (await database.reopen()).end == 1
    await database.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("UPDATE log SET body = x'c1', checksum = NULL WHERE last_ts = 4", "damaged: a batch can't be decoded"),
        ("UPDATE log SET body = x'90' WHERE last_ts = 4", "damaged: the batch of the log that ends at 4 is not as"),
        ("UPDATE log SET body = 'text' WHERE last_ts = 4", "damaged: the batch of the log that ends at 4 is not as"),
        ("UPDATE log SET epoch = 2 WHERE last_ts = 4", "damaged: the batch of the log that ends at 4 is not as"),
        ("UPDATE log SET checksum = checksum + 1 WHERE last_ts = 4", "damaged: the batch of the log that ends at 4"),
        ("DELETE FROM log WHERE last_ts = 2", "damaged: the log has a gap before 4"),
        ("DELETE FROM log WHERE last_ts = 4", "damaged: the log has a gap before 6"),
    ],
)
async def test_damage_is_noticed(database: SqlitePersistence, damage: str, text: str) -> None:
    for ts in (1, 3, 5):
        assert await database.append(commits(ts, ts + 1), ts - 1) is DONE
    with sqlite3.connect(database.path) as other:
        other.execute(damage)
    other.close()

    with pytest.raises(StorageError, match=text):
        await database.read(0, 10)
    with pytest.raises(StorageError, match=text):
        await database.fold(10)


@pytest.mark.asyncio
async def test_large_batches_are_fetched_one_at_a_time(
    database: SqlitePersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading back must not need more memory than writing did."""
    for ts in range(1, 8):
        assert await database.append([commit(ts, write(f"{ts}", b"x" * 1_500_000))], ts - 1) is DONE
    decoded: list[int] = []
    really = sqlite_steps.decode_batch

    def decode(body: bytes) -> list[Record]:
        decoded.append(len(body))
        return really(body)

    monkeypatch.setattr(sqlite_steps, "decode_batch", decode)

    assert [record.ts for record in await database.read(2, 2)] == [3, 4]
    assert len(decoded) == 2
    tracemalloc.start()
    assert (await database.fold(100)).folded == 6
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * sqlite_steps.STRETCH_BYTES
    assert [(await database.fold(100)).folded for _ in range(2)] == [7, 7]


@pytest.mark.asyncio
@pytest.mark.parametrize("obstacle", ["directory", "garbage", "foreign", "newer"])
async def test_a_failed_opening_leaves_nothing_behind(tmp_path: Path, obstacle: str) -> None:
    """Neither the lease nor a thread: whoever fixes the cause can go on at once."""
    path = tmp_path / "db.sqlite3"
    if obstacle == "directory":
        path.mkdir()
    elif obstacle == "garbage":
        path.write_bytes(b"not a database" * 1000)
    else:
        with sqlite3.connect(path) as other:
            if obstacle == "foreign":
                other.execute("CREATE TABLE bookmarks (url TEXT)")
            else:
                other.execute(f"PRAGMA application_id = {0x72656163}")
                other.execute("PRAGMA user_version = 99")
        other.close()
    before = path.read_bytes() if path.is_file() else b""
    threads = threading.active_count()
    database = SqlitePersistence(tmp_path)
    texts = {
        "directory": "can't open: unable to open",
        "garbage": "can't open: file is not a database",
        "foreign": "another program: choose another data directory",
        "newer": r"format 99, this version of reactor knows up to \d+: upgrade",
    }

    with pytest.raises(StorageError, match=texts[obstacle]):
        await database.open()

    assert threading.active_count() == threads
    if path.is_file():
        assert path.read_bytes() == before
        path.unlink()
    else:
        path.rmdir()
    assert (await database.open()).end == 0
    await database.close()
    assert threading.active_count() == threads


@pytest.mark.asyncio
async def test_a_reader_from_outside_keeps_it_from_opening_for_as_long_as_it_reads(tmp_path: Path) -> None:
    database = SqlitePersistence(tmp_path)
    await database.open()
    await database.append(commits(1, 1), 0)
    outside = sqlite3.connect(database.path, isolation_level=None)
    outside.execute("BEGIN")
    outside.execute("SELECT * FROM log").fetchall()
    await database.append(commits(2, 2), 1)
    await database.close()

    with pytest.raises(StorageError, match="being read by another program"):
        await database.open()

    outside.close()
    assert (await database.open()).end == 2
    await database.close()


LIFE = """
import asyncio, sys, tempfile, threading
from reactor.storage.interface import AppendOutcome, Record
from reactor.storage.sqlite import SqlitePersistence

async def live(directory):
    asyncio.get_running_loop().slow_callback_duration = 60  # a loaded machine is not a failure
    database = SqlitePersistence(directory, wal_bytes=1000)
    for _ in range(3):
        state = await database.open()
        for ts in range(state.end + 1, state.end + 20):
            assert await database.append([Record(ts, "commit")], ts - 1) is AppendOutcome.DONE
        await database.fold(5)
        await database.reopen()
        await database.close()
        assert threading.active_count() == 1, threading.enumerate()

with tempfile.TemporaryDirectory() as directory:
    if sys.argv[1] == "uvloop":
        import uvloop
        uvloop.run(live(directory))
    else:
        asyncio.run(live(directory), debug=True)
print("fine")
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_life_without_warnings_or_leftover_threads(loop: str) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", LIFE, loop], capture_output=True, text=True, check=False
    )

    assert (run.stdout, run.stderr) == ("fine\n", "")


def test_errors_of_others_have_no_code() -> None:
    assert primary_code(OSError(5, "no")) is None
    assert primary_code(failure(sqlite3.SQLITE_IOERR_FSYNC)) == sqlite3.SQLITE_IOERR
