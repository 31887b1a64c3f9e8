"""The lock file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reactor.errors import StorageError
from reactor.storage.lease import LockFile

HOLD = """
import sys
from pathlib import Path
from reactor.storage.lease import LockFile

lock_file = LockFile(Path(sys.argv[1]))
lock_file.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_learns_who_has_it_and_what_to_do(tmp_path: Path) -> None:
    first, second = LockFile(tmp_path), LockFile(tmp_path)
    first.acquire()

    with pytest.raises(StorageError, match=rf"this process \(pid {os.getpid()}\): stop it first, or choose another"):
        second.acquire()

    first.release()
    second.acquire()
    second.release()


def test_the_same_object_can_not_take_it_twice(tmp_path: Path) -> None:
    lock_file = LockFile(tmp_path)
    lock_file.acquire()

    with pytest.raises(StorageError, match="open already"):
        lock_file.acquire()

    assert lock_file.is_held
    lock_file.release()
    assert not lock_file.is_held


def test_the_lease_goes_with_its_process(tmp_path: Path) -> None:
    """Nobody should have to delete a lock file by hand after a crash."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock_file = LockFile(tmp_path)
        with pytest.raises(StorageError, match=f"in use by process {holder.pid} "):
            lock_file.acquire()
        holder.send_signal(signal.SIGKILL)

    lock_file.acquire()
    lock_file.release()


def test_the_directory_is_made(tmp_path: Path) -> None:
    lock_file = LockFile(tmp_path / "a" / "b")

    lock_file.acquire()

    assert lock_file.path.exists()
    lock_file.release()


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="file can't be used as a data directory"):
        LockFile(tmp_path / "file").acquire()


def test_a_holder_that_has_not_written_yet_is_another_process(tmp_path: Path) -> None:
    lock_file = LockFile(tmp_path)
    lock_file.acquire()
    lock_file.path.write_text("")

    with pytest.raises(StorageError, match="in use by another process"):
        LockFile(tmp_path).acquire()

    lock_file.release()
