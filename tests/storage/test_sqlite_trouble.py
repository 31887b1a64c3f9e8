"""Real files in real trouble: what is said, and that nothing is lost or overwritten."""

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from reactor.errors import StorageError
from reactor.storage.interface import AppendOutcome
from reactor.storage.sqlite import SqlitePersistence
from tests.sizes import size
from tests.storage.records import commit, commits, documents, write

pytestmark = pytest.mark.asyncio

DONE, REFUSED, UNKNOWN = AppendOutcome.DONE, AppendOutcome.REFUSED, AppendOutcome.UNKNOWN
PAGE = 4096


async def filled(directory: Path, last: int = 200) -> Path:
    """Make a closed database with folded documents and a log; return its file."""
    persistence = SqlitePersistence(directory)
    await persistence.open()
    for ts in range(1, last + 1):
        assert await persistence.append([commit(ts, write(f"id{ts:05}", b"v" * 200))], ts - 1) is DONE
    await persistence.fold(last // 2)
    await persistence.close()
    return persistence.path


async def read_all(persistence: SqlitePersistence) -> None:
    await persistence.open()
    await documents(persistence)
    await persistence.read(0, 1000)


def run_script(script: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, directory], capture_output=True, text=True, timeout=30, check=False
    )


def image(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "reactor.lock"}


@pytest.mark.parametrize("damage", ["header", "garbage", "truncated", "empty", "missing"])
async def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, damage: str) -> None:
    path = await filled(tmp_path)
    whole = path.read_bytes()
    match damage:
        case "header":
            path.write_bytes(b"not a database at all" + whole[21:])
        case "garbage":
            path.write_bytes(b"\xa5" * len(whole))
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2 // PAGE * PAGE])
        case "empty":
            path.write_bytes(b"")
        case "missing":
            path.unlink()
    before = image(tmp_path)
    persistence = SqlitePersistence(tmp_path)

    with pytest.raises(StorageError) as caught:
        await read_all(persistence)

    await persistence.close()
    assert str(path) in str(caught.value)
    assert "restore a backup" in str(caught.value)
    if damage != "truncated":
        assert image(tmp_path) == before
    path.write_bytes(whole)
    assert (await persistence.open()).end == 200
    await persistence.close()


async def test_a_full_disk_is_said_to_be_full_and_gone_when_there_is_room(tmp_path: Path) -> None:
    persistence = SqlitePersistence(tmp_path)
    await persistence.open()
    assert persistence._writer is not None
    ((limit,),) = await persistence._writer.fetch("PRAGMA max_page_count")
    await persistence._writer.fetch("PRAGMA max_page_count = 20")
    assert await persistence.append([commit(1, write("large", b"x" * 200_000))], 0) is REFUSED
    assert "the disk is full: free space on it" in persistence.trouble

    await persistence._writer.fetch(f"PRAGMA max_page_count = {limit}")
    assert await persistence.append([commit(1, write("large", b"x" * 200_000))], 0) is DONE
    await persistence.close()


async def test_a_locked_file_refuses_and_says_who(tmp_path: Path) -> None:
    persistence = SqlitePersistence(tmp_path)
    await persistence.open()
    other = sqlite3.connect(persistence.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await persistence.append(commits(1, 1), 0) is REFUSED
    assert "another program holds it locked" in persistence.trouble
    other.close()
    assert await persistence.append(commits(1, 1), 0) is DONE
    await persistence.close()


@pytest.mark.parametrize("which", ["db.sqlite3", "db.sqlite3-wal"])
async def test_a_file_removed_under_us_is_noticed_before_anything_is_acknowledged(tmp_path: Path, which: str) -> None:
    """Put back, all is well; the write-ahead log alone comes back by itself, from what is still open."""
    persistence = SqlitePersistence(tmp_path)
    await persistence.open()
    assert await persistence.append(commits(1, 2), 0) is DONE
    aside = tmp_path / "aside"
    os.rename(tmp_path / which, aside)

    assert await persistence.append(commits(3, 3), 2) is UNKNOWN
    assert "was removed or replaced while in use" in persistence.trouble
    if which == "db.sqlite3":
        with pytest.raises(StorageError, match="put the file back"):
            await persistence.reopen()
        os.rename(aside, tmp_path / which)
    assert (await persistence.reopen()).end in (2, 3)
    assert [record.ts for record in await persistence.read(0, 10)][:2] == [1, 2]
    await persistence.close()


async def test_a_directory_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    """Permissions do not stop the superuser, so that a file stands where the directory should."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=r"file/data can't be used as a data directory"):
        await SqlitePersistence(tmp_path / "file" / "data").open()


async def test_a_second_process_learns_name_and_pid(tmp_path: Path) -> None:
    """Conformance #25."""
    persistence = SqlitePersistence(tmp_path)
    await persistence.open()
    script = (
        "import asyncio, sys; from reactor.storage.sqlite import SqlitePersistence;"
        "asyncio.run(SqlitePersistence(sys.argv[1]).open())"
    )
    second = run_script(script, tmp_path)
    assert second.returncode == 1
    assert f"is in use by process {os.getpid()} (" in second.stderr
    assert await persistence.append(commits(1, 1), 0) is DONE
    await persistence.close()


async def test_a_reader_that_stays_makes_writes_wait_before_the_log_fills_the_disk(tmp_path: Path) -> None:
    limit = 1 << 20
    persistence = SqlitePersistence(tmp_path, wal_bytes=1 << 16, wal_limit_bytes=limit)
    await persistence.open()
    assert await persistence.append(commits(1, 1), 0) is DONE
    backup = sqlite3.connect(persistence.path, isolation_level=None)
    backup.execute("BEGIN")
    backup.execute("SELECT count(*) FROM log").fetchone()
    end = 1
    for ts in range(2, 2_000):
        if await persistence.append([commit(ts, write("a", b"x" * 5_000))], end) is not DONE:
            break
        end = ts
    assert "such as a backup, keeps reading" in persistence.trouble
    assert end > 50
    wal = tmp_path / "db.sqlite3-wal"
    assert wal.stat().st_size < limit + 2 * (1 << 16)

    backup.close()
    for _ in range(100):
        if await persistence.append(commits(end + 1, end + 1), end) is DONE:
            break
        if persistence._wal.checkpointing is not None:
            await persistence._wal.checkpointing
    else:
        pytest.fail("writes did not resume")
    await persistence.close()


async def test_the_file_stays_near_the_size_of_what_is_live(tmp_path: Path) -> None:
    """100 rounds over the same documents: at most three times their size, and a megabyte."""
    rounds, count, value = 100, size(50, 500), b"x" * 1_000
    persistence = SqlitePersistence(tmp_path, synchronous="OFF")
    end = (await persistence.open()).end
    for round in range(rounds):
        writes = [write(f"id{number:04}", value[: 500 + (round * 37 + number) % 500]) for number in range(count)]
        assert await persistence.append([commit(end + 1, *writes)], end) is DONE
        end += 1
        await persistence.fold(10)
        await persistence.trim(end - 5)
    await persistence.close()

    assert persistence.path.stat().st_size <= 3 * count * len(value) + (1 << 20)


async def test_dead_bytes_are_given_back_in_steps(tmp_path: Path) -> None:
    """Also those of a file from before this was possible."""
    path = await filled(tmp_path, 20)
    with sqlite3.connect(path, isolation_level=None) as old:
        old.execute("PRAGMA journal_mode = DELETE")
        old.execute("PRAGMA auto_vacuum = NONE")
        old.execute("VACUUM")
    old.close()
    persistence = SqlitePersistence(tmp_path, synchronous="OFF")
    end = (await persistence.open()).end
    assert (
        await persistence.append([commit(end + 1, *(write(f"big{n}", b"x" * 50_000) for n in range(200)))], end) is DONE
    )
    assert await persistence.append([commit(end + 2, *(write(f"big{n}", None) for n in range(200)))], end + 1) is DONE
    await persistence.fold(1000)
    await persistence.trim(end + 2)
    largest = 12_000_000
    for step in range(60):
        ts = end + 3 + step
        assert await persistence.append(commits(ts, ts), ts - 1) is DONE
        await persistence.fold(1)
    await persistence.trim(ts)
    await persistence.close()

    assert path.stat().st_size < largest / 4


AS_NOBODY = """
import asyncio, os, sys
from reactor.errors import StorageError
from reactor.storage import sqlite_format
from reactor.storage.sqlite import SqlitePersistence
steps = sqlite_format.migrations()  # the package may lie where only root can read
sqlite_format.migrations = lambda: steps
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    asyncio.run(SqlitePersistence(sys.argv[1]).open())
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("closed", ["directory", "everything", "database"])
async def test_without_permission_to_write_it_says_where_and_nothing_is_changed(closed: str) -> None:
    """In a process of its own, since permissions do not stop the superuser."""
    with tempfile.TemporaryDirectory() as folder:  # the one pytest makes is closed to others
        directory = Path(folder) / "data"
        os.chmod(folder, 0o755)
        directory.mkdir()
        if closed != "directory":
            await filled(directory, 20)
        for path in directory.iterdir():
            path.chmod(0o666 if closed == "database" and path.name == "reactor.lock" else 0o444)
        directory.chmod(0o777 if closed == "database" else 0o555)
        before = image(directory)

        said = run_script(AS_NOBODY, directory)

        named = directory / "db.sqlite3" if closed == "database" else directory
        assert str(named) in said.stdout, said.stderr
        assert re.search("check the permissions|can't be used as a data directory: Permission denied", said.stdout)
        assert image(directory).get("db.sqlite3") == before.get("db.sqlite3")
        directory.chmod(0o755)
