"""Flipped bits in a closed file: what was written is found, or the damage is; never anything else."""

import random
import sqlite3
from pathlib import Path

import pytest

from reactor.errors import StorageError
from reactor.storage import sqlite_steps
from reactor.storage.batch import encode_batch
from reactor.storage.interface import AppendOutcome, LogState, Record, StoredDocument
from reactor.storage.sqlite import DATABASE_NAME, SqlitePersistence
from reactor.storage.sqlite_format import APPLICATION_ID, migrations
from tests.sizes import size
from tests.storage.records import TABLE, commit, commits, documents, write

pytestmark = pytest.mark.asyncio

DONE = AppendOutcome.DONE
SEED = 20261121
FLIPS = size(120, 4000)
Content = tuple[LogState, list[int], list[StoredDocument], list[Record]]


async def filled(directory: Path) -> bytes:
    """Return a closed database of some 50 pages: folded documents, one deleted, some of several pages, and a log."""
    persistence = SqlitePersistence(directory, synchronous="OFF")
    await persistence.open()
    for ts in range(1, 200):
        writes = [write(f"id{ts:05}", b"%05d" % ts * (2_000 if ts % 40 == 0 else 50))]
        if ts % 10 == 0:
            writes.append(write(f"id{ts - 5:05}", None))
        assert await persistence.append([commit(ts, *writes)], ts - 1) is DONE
    assert (await persistence.fold(150)).folded == 150
    await persistence.trim(50)
    await persistence.close()
    return persistence.path.read_bytes()


async def content(persistence: SqlitePersistence) -> Content:
    """Return everything that can be read."""
    state = await persistence.open()
    try:
        tables = await persistence.tables()
        found = [document for table in tables for document in await documents(persistence, table)]
        return (
            LogState(state.end, state.floor, state.folded, 0),
            tables,
            found,
            await persistence.read(state.floor, 999),
        )
    finally:
        await persistence.close()


async def test_a_flipped_bit_is_harmless_or_found(tmp_path: Path) -> None:
    """Also one that makes a page look shorter than it is, so that rows are not found at all."""
    image = await filled(tmp_path)
    persistence = SqlitePersistence(tmp_path, synchronous="OFF")
    expected = await content(persistence)
    pages = len(image) // 4096
    chance = random.Random(SEED)
    harmless = 0
    for flip in range(FLIPS):
        # A third into the beginning of a page, which says how many rows it has and where they lie.
        at = chance.randrange(pages) * 4096 + (chance.randrange(4096) if flip % 3 else chance.randrange(120))
        damaged = bytearray(image)
        damaged[at] ^= 1 << chance.randrange(8)
        persistence.path.write_bytes(damaged)
        (tmp_path / f"{DATABASE_NAME}-wal").unlink(missing_ok=True)
        found: Content | str
        try:
            found = await content(persistence)
        except StorageError as error:
            found = str(error)
        if isinstance(found, str):
            assert str(persistence.path) in found
            assert any(advice in found for advice in ("backup", "another data directory", "upgrade reactor"))
        else:
            assert found == expected, f"byte {at % 4096} of page {at // 4096 + 1}"
            harmless += 1
    assert harmless < FLIPS


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("UPDATE documents SET value = value || x'00' WHERE id = 'id00007'", "a document of table 10001 is not as"),
        ("UPDATE documents SET ts = ts + 1 WHERE id = 'id00007'", "a document of table 10001 is not as"),
        ("UPDATE documents SET id = 'id90007' WHERE id = 'id00007'", "a document of table 10001 is not as"),
        ("UPDATE documents SET value = 'text' WHERE id = 'id00007'", "a document of table 10001 is not as"),
        ("DELETE FROM documents WHERE id = 'id00007'", "table 10001 should have 135 documents, and not the 134"),
        ("DELETE FROM documents", "table 10001 should have 135 documents, and not the 0"),
        ("DELETE FROM log WHERE last_ts > 190", "the log ends at 190, but went to 199"),
        ("UPDATE meta SET folded = 140", "folded was changed"),
        ("DELETE FROM meta", "does not say how far the log is folded"),
    ],
)
async def test_what_was_changed_behind_our_back_is_said(tmp_path: Path, damage: str, text: str) -> None:
    await filled(tmp_path)
    path = tmp_path / DATABASE_NAME
    with sqlite3.connect(path) as other:
        if "meta" in damage:
            other.execute("DROP TRIGGER meta_seal")
        other.execute(damage)
    other.close()

    with pytest.raises(StorageError, match=text) as caught:
        await content(SqlitePersistence(tmp_path, synchronous="OFF"))

    assert f"{path} is damaged: " in str(caught.value)
    assert "copy the directory away, then restore a backup" in str(caught.value)


async def test_a_file_from_before_checksums_is_taken_as_it_is(tmp_path: Path) -> None:
    """Its rows have none; those that are written from now on do."""
    bodies = {ts: encode_batch(commits(ts, ts)) for ts in (1, 2, 3)}
    with sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None) as file:
        file.executescript(migrations()[0].script)
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        file.execute("PRAGMA user_version = 1")
        file.executemany("INSERT INTO log VALUES (?1, ?1 - 1, ?1, 1, 1, ?2)", bodies.items())
        file.execute("INSERT INTO documents VALUES (?, 'document 1', 1, x'76616c7565')", (TABLE,))
        file.execute("UPDATE meta SET epoch = 1, folded = 1")
    file.close()
    persistence = SqlitePersistence(tmp_path, synchronous="OFF")
    assert await persistence.open() == LogState(end=3, floor=0, folded=1, epoch=2)

    assert await persistence.append(commits(4, 4), 3) is DONE
    assert (await persistence.fold(10)).folded == 4

    assert await persistence.read(0, 10) == commits(1, 4)
    assert await documents(persistence) == [StoredDocument(f"document {ts}", ts, b"value") for ts in range(1, 5)]
    await persistence.close()
    with sqlite3.connect(persistence.path) as file:
        for table in ("log", "documents"):
            assert file.execute(f"SELECT checksum IS NULL FROM {table}").fetchall() in (
                [(1,), (1,), (1,), (0,)],
                [(1,), (0,), (0,), (0,)],
            )
    file.close()


async def test_totals_follow_every_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written, replaced and deleted in folds of whatever length, a load finds what it should.

    Also between the transactions of one fold, of which each writes three documents here.
    """
    monkeypatch.setattr(sqlite_steps, "FOLD_DOCUMENTS", 3)
    chance = random.Random(SEED)
    persistence = SqlitePersistence(tmp_path, synchronous="OFF")
    await persistence.open()
    end = 0
    for _ in range(size(60, 600)):
        writes = [
            write(f"{chance.randrange(40)}", chance.choice([None, b"x", b"xyz"]), table=chance.choice([TABLE, 7]))
            for _ in range(chance.randrange(12))
        ]
        assert await persistence.append([commit(end + 1, *writes), commit(end + 2)], end) is DONE
        end += 2
        await persistence.fold(chance.randrange(1, 5))
        await documents(persistence, TABLE)
        await documents(persistence, 7)
    await persistence.close()
