"""What every blob store promises, and what the one in a folder promises of its files."""

import errno
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reactor.errors import StorageError
from reactor.storage.blobs_local import LocalBlobs
from reactor.storage.blobs_memory import MemoryBlobs
from reactor.storage.interface import BlobStore

KEY, OTHER = "0f" * 16, "a1" * 16
keys = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")


@pytest.fixture(params=["memory", "local"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    store: BlobStore = MemoryBlobs() if request.param == "memory" else LocalBlobs(tmp_path)
    store.open()
    return store


def put(blobs: BlobStore, key: str, *parts: bytes) -> None:
    writer = blobs.write(key)
    for part in parts:
        writer.write(part)
    writer.finish()


def content(blobs: BlobStore, key: str, size: int) -> bytes:
    reader = blobs.read(key)
    assert reader is not None
    try:
        return reader.read(0, size)
    finally:
        reader.close()
        reader.close()


def listed(blobs: BlobStore) -> set[str]:
    return {found.key for part in blobs.list() for found in part}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(key=keys, parts=st.lists(st.binary(max_size=50), max_size=5), data=st.data())
def test_what_was_put_is_read_in_any_part(blobs: BlobStore, key: str, parts: list[bytes], data: Any) -> None:
    blobs.delete([key])
    whole = b"".join(parts)
    writer = blobs.write(key)
    for part in parts:
        writer.write(part)
    written = writer.finish()
    writer.abort()  # harmless by now

    assert (written.size, written.sha256) == (len(whole), sha256(whole).digest())
    start = data.draw(st.integers(0, len(whole)))
    count = data.draw(st.integers(0, len(whole) - start))
    reader = blobs.read(key)
    assert reader is not None
    assert reader.read(start, count) == whole[start : start + count]
    with pytest.raises(StorageError, match="ends after"):
        reader.read(start, len(whole) - start + 1)
    reader.close()
    assert key in listed(blobs)


def test_nothing_is_seen_of_a_blob_that_is_not_finished(blobs: BlobStore) -> None:
    writer = blobs.write(KEY)
    writer.write(b"abc")
    assert blobs.read(KEY) is None
    assert listed(blobs) == set()
    writer.abort()
    writer.abort()
    assert blobs.read(KEY) is None
    assert listed(blobs) == set()


def test_what_is_deleted_is_gone_and_what_is_being_read_is_read_to_the_end(blobs: BlobStore) -> None:
    put(blobs, KEY, b"abc")
    put(blobs, OTHER, b"")
    reader = blobs.read(KEY)
    assert reader is not None
    blobs.delete([KEY, "77" * 16])
    assert blobs.read(KEY) is None
    assert listed(blobs) == {OTHER}
    assert reader.read(0, 3) == b"abc"
    reader.close()
    blobs.delete([KEY])


@pytest.mark.parametrize("key", ["", "../../etc/passwd", KEY + "/", KEY[:-1], KEY.upper(), "..", KEY + "\n", "0" * 33])
def test_what_has_not_the_form_of_a_key_never_becomes_a_path(blobs: BlobStore, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: blobs.write(key),
        lambda: blobs.read(key),
        lambda: blobs.delete([key]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="no key of a blob"):
            call()


def test_a_fork_shares_what_is_there_and_nothing_later() -> None:
    first = MemoryBlobs()
    put(first, KEY, b"abc")
    second = first.fork()
    put(first, OTHER, b"x")
    second.delete([KEY])
    assert (listed(first), listed(second)) == ({KEY, OTHER}, set())


def test_memory_has_a_bound_for_finished_and_unfinished_blobs_together() -> None:
    blobs = MemoryBlobs(10)
    put(blobs, KEY, b"12345")
    writer = blobs.write(OTHER)
    writer.write(b"1234")
    with pytest.raises(StorageError, match="more than 10 bytes"):
        writer.write(b"56")
    writer.abort()
    put(blobs, OTHER, b"12", b"345")
    with pytest.raises(StorageError):
        blobs.fork().write("b2" * 16).write(b"1")
    blobs.delete([KEY, OTHER, OTHER])
    put(blobs, KEY, b"1234567890")


# The folder.


def files(data: Path) -> set[Path]:
    return {path.relative_to(data) for path in data.rglob("*") if path.is_file()}


def test_nothing_is_made_before_the_first_file(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.open()
    assert blobs.read(KEY) is None
    assert listed(blobs) == set()
    assert list(tmp_path.iterdir()) == []


def test_a_file_stands_in_the_folder_of_its_first_two_digits(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    put(blobs, KEY, b"abc")
    assert files(tmp_path) == {Path("storage/files/0f", KEY)}


def test_opening_removes_what_an_earlier_process_has_not_finished(tmp_path: Path) -> None:
    crashed = LocalBlobs(tmp_path)
    put(crashed, KEY, b"abc")
    half = crashed.write(OTHER)
    half.write(b"half")
    (tmp_path / "storage/files/0f/README").write_text("somebody's own")

    blobs = LocalBlobs(tmp_path)
    blobs.open()
    assert files(tmp_path) == {Path("storage/files/0f", KEY), Path("storage/files/0f/README")}
    assert listed(blobs) == {KEY}
    assert content(blobs, KEY, 3) == b"abc"
    half.abort()


def test_a_blob_is_synced_then_renamed_and_then_its_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any other order a power loss could leave an empty file under the key, or none."""
    blobs = LocalBlobs(tmp_path)
    put(blobs, "0e" * 16, b"")  # the folders above are there now
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).relative_to(tmp_path / 'storage')}")
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        steps.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    put(blobs, KEY, b"abc")
    assert steps == [f"sync unfinished/{KEY}", "sync files", "rename", "sync files/0f"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_takes_no_more_leaves_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    blobs = LocalBlobs(tmp_path)
    put(blobs, OTHER, b"before")

    def failing(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    writer = blobs.write(KEY)
    writer.write(b"abc")
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageError, match="disk is full" if number != errno.EIO else "Input/output error"):
        writer.finish()
    writer.abort()
    blobs.delete([KEY])
    assert {path.name for path in files(tmp_path)} == {OTHER}


@pytest.fixture
def blocked(tmp_path: Path) -> LocalBlobs:
    """A store whose folder is a file: nothing can be done there, also not by root."""
    (tmp_path / "storage").write_text("")
    return LocalBlobs(tmp_path)


def test_a_folder_that_cannot_be_used_is_named(blocked: LocalBlobs, tmp_path: Path) -> None:
    for call in (
        blocked.open,
        lambda: blocked.write(KEY),
        lambda: blocked.read(KEY),
        lambda: blocked.delete([KEY]),
        lambda: listed(blocked),
    ):
        with pytest.raises(StorageError, match=str(tmp_path / "storage")):
            call()
