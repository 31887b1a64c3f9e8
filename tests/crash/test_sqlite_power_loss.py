"""Power loss under `SqlitePersistence`: what was acknowledged is there, what was not is there whole or not at all."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reactor.storage.interface import LogState, Persistence, Record
from reactor.storage.sqlite import SqlitePersistence
from tests.crash.shim import environment, restore_synced
from tests.crash.trace import assert_replies_follow_syncs, read_trace
from tests.sizes import size
from tests.storage.records import documents

APPENDER = Path(__file__).with_name("appender.py")
ROOT = APPENDER.parents[2]


def run_and_kill(
    env: dict[str, str], data_dir: Path, *, synchronous: str = "FULL", batch: int = 3, manner: str = "plain", lines: int
) -> list[str]:
    """Run the appender until it has reported `lines` lines, kill it, and return everything it reported."""
    process = subprocess.Popen(
        [sys.executable, APPENDER, data_dir, synchronous, str(batch), manner],
        stdout=subprocess.PIPE,
        text=True,
        env=env | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    with process:
        reported = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        reported += process.stdout.readlines()
    assert manner == "fragile" or all(reported), "the appender died by itself"
    return [line.strip() for line in reported if line.endswith("\n")]


async def timestamps(persistence: Persistence, state: LogState) -> set[int]:
    """Return every commit that can still be found, in documents or in the log."""
    folded = {document.ts for document in await documents(persistence)}
    tail: list[Record] = await persistence.read(state.folded, 1_000_000)
    return folded | {record.ts for record in tail if record.kind == "commit"}


def expected(reported: list[str]) -> tuple[set[int], tuple[int, int]]:
    """Return the commits that must be there, and the range in which the one append in flight may be."""
    there: set[int] = set()
    doubtful: tuple[int, int] | None = None
    for line in reported:
        kind, *rest = line.split()
        if kind == "done":
            there |= set(range(int(rest[0]), int(rest[1]) + 1))
        elif kind == "unknown":
            doubtful = (int(rest[0]), int(rest[1]))
        elif kind == "end" and doubtful is not None and int(rest[0]) == doubtful[1]:
            there |= set(range(doubtful[0], doubtful[1] + 1))
            doubtful = None
    last = max(there, default=0)
    return there, doubtful if doubtful and reported[-1].startswith("unknown") else (last + 3, sys.maxsize)


async def check(data_dir: Path, reported: list[str], batch: int = 3) -> None:
    """Open what is left and compare it with what was reported."""
    there, (first, last) = expected(reported)
    persistence = SqlitePersistence(data_dir)
    state = await persistence.open()
    found = await timestamps(persistence, state)
    await persistence.close()
    assert there <= found, f"{len(there - found)} acknowledged commits are lost"
    extra = found - there
    assert not extra or (len(extra) == batch and first <= min(extra) <= max(extra) <= last)
    assert state.end == max(found, default=0)


@pytest.mark.asyncio
@pytest.mark.parametrize("lines", size([2, 40, 203], [2, 3, 10, 40, 100, 203, 400, 1000]))
async def test_what_was_acknowledged_survives_power_loss(shim_library: Path, tmp_path: Path, lines: int) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()

    reported = run_and_kill(environment(shim_library, data_dir), data_dir, lines=lines)
    restore_synced(data_dir)

    await check(data_dir, reported)


@pytest.mark.asyncio
async def test_without_syncs_acknowledged_commits_are_lost(shim_library: Path, tmp_path: Path) -> None:
    """The test above can fail: what it relies on is the sync, not luck."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()

    reported = run_and_kill(environment(shim_library, data_dir), data_dir, synchronous="OFF", lines=40)
    restore_synced(data_dir)

    with pytest.raises(AssertionError, match="acknowledged commits are lost"):
        await check(data_dir, reported)


@pytest.mark.asyncio
async def test_a_killed_process_loses_nothing(shim_library: Path, tmp_path: Path) -> None:
    """The kernel has the writes: what was acknowledged is there, synced or not."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()

    reported = run_and_kill(environment(shim_library, data_dir), data_dir, synchronous="OFF", lines=40)

    await check(data_dir, reported)


@pytest.mark.asyncio
async def test_crash_after_crash(shim_library: Path, tmp_path: Path) -> None:
    """A process that finds what a killed one left must not build on what only the kernel has."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    env = environment(shim_library, data_dir)

    reported = run_and_kill(env, data_dir, lines=30)
    for round in range(size(3, 10)):
        if round % 2:
            restore_synced(data_dir)
        more = run_and_kill(env, data_dir, lines=20 + round)
        begin = int(more[0].split()[1])
        there, _ = expected(reported)
        assert begin >= max(there)
        if begin > max(there):
            reported.append(f"done {begin - 2} {begin}")
        reported += more[1:]
    restore_synced(data_dir)

    await check(data_dir, reported)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fail_sync", "lines"),
    size(
        [(1, 12), (4, 12), (9, 12), (13, 12), (14, 12), (23, 70)],
        [(fail_sync, lines) for fail_sync in range(1, 33) for lines in (fail_sync, 70)],
    ),
)
async def test_a_failed_sync_is_never_built_upon(
    shim_library: Path, tmp_path: Path, fail_sync: int, lines: int
) -> None:
    """After a failed fsync Linux shows what the disk does not have, and the next fsync succeeds without it.

    A later checkpoint would hide the hole, so some are killed before one comes: the 13th sync is that of a checkpoint.
    """
    data_dir = tmp_path / "data"
    data_dir.mkdir()

    reported = run_and_kill(environment(shim_library, data_dir, fail_sync=fail_sync), data_dir, lines=lines)
    restore_synced(data_dir)

    await check(data_dir, reported)


@pytest.mark.asyncio
@pytest.mark.parametrize("fail_sync", size([5, 6, 9], list(range(4, 40))))
async def test_dying_of_a_failed_sync_and_coming_back(shim_library: Path, tmp_path: Path, fail_sync: int) -> None:
    """The next process finds in the kernel what the disk will never get, and must not append behind it."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()

    env = environment(shim_library, data_dir, fail_sync=fail_sync)
    first = run_and_kill(env, data_dir, manner="fragile", lines=50)
    second = run_and_kill(environment(shim_library, data_dir), data_dir, lines=4)
    restore_synced(data_dir)

    there, _ = expected(first)
    begin = int(second[0].split()[1])
    appeared = [f"done {begin - 2} {begin}"] if begin > max(there, default=0) else []
    assert begin >= max(there, default=0)
    await check(data_dir, [*first, *appeared, *second[1:]])


def test_a_failed_sync_is_reported_as_unknown(shim_library: Path, tmp_path: Path) -> None:
    """Some of the syncs failed above are those of appends: else that test would prove little."""
    unknown = 0
    for fail_sync in range(5, 11):
        data_dir = tmp_path / str(fail_sync)
        data_dir.mkdir()
        reported = run_and_kill(environment(shim_library, data_dir, fail_sync=fail_sync), data_dir, lines=15)
        unknown += sum(line.startswith("unknown") for line in reported)

    assert unknown >= 3


@pytest.mark.parametrize(("manner", "batch"), [("after", 1), ("after", 40), ("before", 3)])
def test_the_trace_tells_replies_that_came_too_early(
    shim_library: Path, tmp_path: Path, manner: str, batch: int
) -> None:
    """Batches of 40 spill over several pages, and the write-ahead log starts over several times."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    trace_file = tmp_path / "trace"

    env = environment(shim_library, data_dir, trace_file)
    reported = run_and_kill(env, data_dir, batch=batch, manner=manner, lines=100)

    events = read_trace(trace_file)
    if manner == "before":
        with pytest.raises(AssertionError, match=r"before it was synced|no batch reaches"):
            assert_replies_follow_syncs(events)
    else:
        answered = sum(bool(re.match("done", line)) for line in reported)
        assert answered <= assert_replies_follow_syncs(events) <= answered + 1
