"""One connection, one thread."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reactor.storage.sqlite_connection import SqliteConnection

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def connection(tmp_path: Path) -> AsyncIterator[SqliteConnection]:
    connection = await SqliteConnection.connect(tmp_path / "test.sqlite3")
    await connection.write("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    yield connection
    await connection.close()


async def test_a_write_tells_how_many_rows_it_changed(connection: SqliteConnection) -> None:
    assert await connection.write("INSERT INTO numbers VALUES (1), (2)") == 2
    assert await connection.write("INSERT INTO numbers SELECT 3 WHERE ?", (0,)) == 0
    assert await connection.fetch("SELECT n FROM numbers") == [(1,), (2,)]


async def test_a_transaction_happens_whole_or_not_at_all(connection: SqliteConnection) -> None:
    insert = "INSERT INTO numbers VALUES (?)"

    await connection.transact([(insert, (1,)), (insert, (2,))])
    with pytest.raises(sqlite3.IntegrityError):
        await connection.transact([(insert, (3,)), (insert, (1,))])

    assert await connection.fetch("SELECT n FROM numbers") == [(1,), (2,)]
    await connection.transact([(insert, (3,))])
    assert await connection.fetch("SELECT count(*) FROM numbers") == [(3,)]


async def test_closing_ends_the_thread_and_finishes_what_was_queued(tmp_path: Path) -> None:
    threads = threading.active_count()
    connection = await SqliteConnection.connect(tmp_path / "test.sqlite3")
    creating = asyncio.ensure_future(connection.write("CREATE TABLE numbers (n)"))
    await asyncio.sleep(0)

    await connection.close()

    await creating
    assert threading.active_count() == threads
    again = await SqliteConnection.connect(tmp_path / "test.sqlite3")
    assert await again.fetch("SELECT * FROM numbers") == []
    await again.close()


async def test_a_cancelled_connect_leaves_no_thread(tmp_path: Path) -> None:
    threads = threading.active_count()
    connecting = asyncio.ensure_future(SqliteConnection.connect(tmp_path / "test.sqlite3"))
    await asyncio.sleep(0)

    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting

    assert threading.active_count() == threads


async def test_the_loop_stands_aside_for_a_call_that_takes_long(
    connection: SqliteConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy loop keeps the interpreter lock from the thread, and commits wait for seconds."""
    stood_aside = threading.Event()
    await connection._connection.create_function("wait", 0, stood_aside.wait)
    monkeypatch.setattr("reactor.storage.sqlite_connection.time.sleep", lambda _: stood_aside.set())

    assert await connection.fetch("SELECT wait()") == [(1,)]

    assert connection._timer is not None
    assert connection._timer.cancelled()
