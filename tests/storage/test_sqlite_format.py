"""The numbered steps of the format."""

import sqlite3
from pathlib import Path

import pytest

from reactor.errors import StorageError
from reactor.storage import sqlite_format
from reactor.storage.sqlite import SqlitePersistence
from reactor.storage.sqlite_format import APPLICATION_ID, Migration, migrations
from tests.storage.records import commits


def test_steps_are_numbered_without_gaps() -> None:
    assert [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))


@pytest.mark.asyncio
async def test_an_older_file_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = SqlitePersistence(tmp_path)
    await database.open()
    await database.append(commits(1, 3), 0)
    await database.close()
    steps = [*migrations(), Migration(99, "CREATE TABLE extra (a);\n-- and; a note\nINSERT INTO extra VALUES (';');\n")]
    monkeypatch.setattr(sqlite_format, "migrations", lambda: steps)

    assert (await database.open()).end == 3
    await database.close()

    with sqlite3.connect(database.path) as reader:
        assert reader.execute("SELECT a FROM extra").fetchall() == [(";",)]
        assert reader.execute("PRAGMA user_version").fetchone() == (99,)
        assert reader.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    reader.close()
    assert (await database.open()).end == 3
    await database.close()


@pytest.mark.asyncio
async def test_a_step_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [*migrations(), Migration(99, "CREATE TABLE extra (a);\nINSERT INTO nowhere VALUES (1);\n")]
    database = SqlitePersistence(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_format, "migrations", lambda: steps)
        with pytest.raises(StorageError, match="nowhere"):
            await database.open()

    with sqlite3.connect(database.path) as reader:
        assert reader.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
    reader.close()
    assert (await database.open()).end == 0
    await database.close()
