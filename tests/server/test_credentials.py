"""Instance names and secrets: kept, private, never overwritten."""

import stat
from pathlib import Path

import pytest

from reactor.auth.admin_key import check
from reactor.errors import InvalidArgument, StorageError
from reactor.server.credentials import DEFAULT_NAME, load_credentials
from reactor.server.system import SystemClock, SystemRng
from tests.server.fakes import SECRET

RNG = SystemRng()


def test_what_was_made_up_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    first = load_credentials(tmp_path, None, None, RNG)
    assert first.name == DEFAULT_NAME
    assert load_credentials(tmp_path, None, None, RNG) == first
    file = tmp_path / "credentials" / "instance_secret"
    assert file.read_text().strip() == first.secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_given_values_win_and_are_not_written(tmp_path: Path) -> None:
    given = load_credentials(tmp_path, "mine", SECRET, RNG)
    assert (given.name, given.secret) == ("mine", SECRET)
    assert not (tmp_path / "credentials").exists()


def test_nothing_is_written_for_data_in_memory() -> None:
    assert load_credentials(None, None, None, RNG).secret != load_credentials(None, None, None, RNG).secret


def test_keys_check_against_their_credentials() -> None:
    credentials = load_credentials(None, None, None, RNG)
    key = credentials.admin_key(SystemClock(), RNG, read_only=True)
    assert check(key, credentials.name, credentials.secret).read_only


def test_a_damaged_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "instance_secret").write_text("short\n")
    with pytest.raises(InvalidArgument, match="64 hex digits"):
        load_credentials(tmp_path, None, None, RNG)


def test_an_unusable_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("a file")
    with pytest.raises(StorageError, match="credentials"):
        load_credentials(tmp_path, None, None, RNG)
