"""`DATABASE_URL`: a file of SQLite is where the data is kept; nothing else is, and nothing is ignored."""

from pathlib import Path

import pytest

from reactor.cli.database import data_below, read_database
from reactor.cli.settings import read_settings
from reactor.errors import InvalidArgument


@pytest.mark.parametrize("variable", ["DATABASE_URL", "POSTGRES_URL", "MYSQL_URL"])
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "mysql", "libsql", ""])
def test_another_database_is_refused_and_its_password_not_shown(variable: str, scheme: str) -> None:
    with pytest.raises(InvalidArgument, match=variable) as refused:
        read_settings({variable: f"{scheme}://user:hunter2@db/x"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("variable", ["POSTGRES_URL", "MYSQL_URL"])
def test_sqlite_has_one_variable(variable: str) -> None:
    with pytest.raises(InvalidArgument, match=variable):
        read_database({variable: "sqlite:///data/app.db"})


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("sqlite:///data/app.db", "/data"),
        ("sqlite:////data/app.db", "/data"),
        ("sqlite://localhost/data/app.db", "/data"),
        ("sqlite:/data/app.db", "/data"),
        ("SQLite:///data/app.db?mode=rwc", "/data"),
        ("file:/data/db.sqlite3", "/data"),
        ("file:///data/below/db.sqlite3", "/data/below"),
        ("file:///data", "/data"),
        ("sqlite:///data/", "/data"),
        ("sqlite:///data/with%20space/x.db", "/data/with space"),
    ],
)
def test_a_file_of_sqlite_names_its_folder(url: str, folder: str) -> None:
    assert read_database({"DATABASE_URL": url}) == Path(folder)


def test_a_path_may_begin_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_database({"DATABASE_URL": "file:./store/dev.db"}) == tmp_path.resolve() / "store"


def test_nothing_is_said() -> None:
    assert read_database({}) is None
    assert read_database({"DATABASE_URL": "", "POSTGRES_URL": "", "MYSQL_URL": ""}) is None


@pytest.mark.parametrize(
    "rest", ["", "//", "//host/data/x.db", "//x.db", ":memory:", "///:memory:", "///data/x.db?mode=ro", "///data/x#y"]
)
@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_a_url_that_names_no_folder_is_refused(scheme: str, rest: str) -> None:
    with pytest.raises(InvalidArgument, match="DATABASE_URL names no folder"):
        read_database({"DATABASE_URL": f"{scheme}:{rest}"})


def test_it_is_kept_there_and_below_what_is_told(tmp_path: Path) -> None:
    """A container tells where its volume is: what lies beside it would be lost."""
    assert data_below(None, None) is None
    assert data_below(None, "x") == "x"
    assert data_below(tmp_path, None) == str(tmp_path)
    assert data_below(tmp_path, str(tmp_path)) == str(tmp_path)
    assert data_below(tmp_path / "below", str(tmp_path)) == str(tmp_path / "below")
    for told in (":memory:", str(tmp_path / "other")):
        with pytest.raises(InvalidArgument, match=r"DATABASE_URL keeps data in .* and --data in") as refused:
            data_below(tmp_path, told)
        assert told in str(refused.value)


@pytest.mark.asyncio
async def test_the_server_keeps_its_data_there(tmp_path: Path) -> None:
    settings = read_settings({"DATABASE_URL": f"sqlite://{tmp_path}/store/app.db"})
    async with settings.deployment(tmp_path, None):
        pass
    assert (tmp_path / "store" / "db.sqlite3").exists()
    assert not (tmp_path / ".reactor").exists()
