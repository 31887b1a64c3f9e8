"""The write log answers about the commits it has, and refuses to answer about those it forgot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.keyrange import EVERYTHING, IndexId
from reactor.engine.readset import ReadSet
from reactor.engine.writelog import LogEntry, WriteLog
from reactor.errors import SnapshotTooOld
from tests.engine.strategies import read_sets, touching, writes

Writes = list[tuple[IndexId, bytes]]
commits = st.lists(st.tuples(st.integers(1, 3), writes()), max_size=12)

HERE = IndexId(1)


def entry(ts: int, written: Writes | None = None) -> LogEntry:
    return LogEntry(ts, touching(written or []), "messages:send")


def logged(floor: int, made: list[tuple[int, Writes]]) -> tuple[WriteLog, list[LogEntry]]:
    """Append commits at growing distances."""
    log = WriteLog(floor)
    entries: list[LogEntry] = []
    ts = floor
    for distance, written in made:
        ts += distance
        entries.append(entry(ts, written))
        log.append(entries[-1])
    return log, entries


@given(commits, st.integers(0, 40), read_sets())
def test_first_conflict_equals_a_walk_over_all(made: list[tuple[int, Writes]], since: int, reads: ReadSet) -> None:
    log, entries = logged(0, made)
    written = dict(zip((one.commit_ts for one in entries), (writes for _, writes in made), strict=True))
    conflicts = [
        one
        for one in entries
        if one.commit_ts > since and any(reads.touches(index, key) for index, key in written[one.commit_ts])
    ]

    assert log.first_conflict(reads, since) == (conflicts[0] if conflicts else None)


@given(commits, st.integers(0, 40), st.integers(0, 40))
def test_since_and_between_are_windows(made: list[tuple[int, Writes]], after: int, through: int) -> None:
    log, entries = logged(0, made)

    assert list(log.since(after)) == [one for one in entries if one.commit_ts > after]
    assert log.between(after, through) == [one for one in entries if after < one.commit_ts <= through]
    assert log.newest == (entries[-1].commit_ts if entries else 0)


@given(commits, st.lists(st.floats(0, 1), max_size=6))
def test_truncation_forgets_the_old_end_only(made: list[tuple[int, Writes]], parts: list[float]) -> None:
    log, entries = logged(5, made)
    reached = 5
    for part in parts:
        floor = 5 + int((log.newest - 5) * part)
        log.truncate(floor)
        reached = max(reached, floor)
        entries = [one for one in entries if one.commit_ts > floor]

        assert log.floor == reached
        assert len(log) == len(entries)
        assert list(log.since(reached)) == entries
        with pytest.raises(SnapshotTooOld):
            log.between(reached - 1, log.newest)


def test_no_answer_from_below_the_floor() -> None:
    """Nothing in the window conflicts, but what was forgotten might have."""
    log = WriteLog(10)
    log.append(entry(11))
    log.append(entry(12))
    log.truncate(11)

    assert log.floor == 11
    assert log.first_conflict(ReadSet(), 11) is None
    for ask in (log.since, lambda ts: log.between(ts, 12), lambda ts: log.first_conflict(ReadSet(), ts)):
        with pytest.raises(SnapshotTooOld):
            ask(10)


def test_a_floor_between_commits_forgets_nothing_newer() -> None:
    log = WriteLog(0)
    log.append(entry(10))
    log.append(entry(20))

    log.truncate(15)
    log.truncate(5)

    assert log.floor == 15
    assert list(log.since(15)) == [entry(20)]


def test_the_number_of_commits_is_bounded() -> None:
    """However old a snapshot is in use: memory comes first, and the snapshot fails as retriable."""
    log = WriteLog(0, capacity=16)
    for ts in range(1, 1_001):
        log.published = ts - 1
        log.append(entry(ts))
        assert len(log) <= 16
        assert len(log._entries) <= 20

    assert log.floor == 1_000 - 16
    assert [one.commit_ts for one in log.since(log.floor)] == list(range(985, 1_001))


def test_what_is_not_published_yet_is_never_dropped() -> None:
    log = WriteLog(0, capacity=16)
    for ts in range(1, 101):
        log.append(entry(ts))
    assert [one.commit_ts for one in log.between(0, 100)] == list(range(1, 101))

    log.published = 90
    log.append(entry(101))
    assert len(log) == 16
    assert log.floor == 85


def test_the_oldest_conflict_is_named() -> None:
    log = WriteLog(0)
    reads = ReadSet()
    reads.add_range(HERE, EVERYTHING)
    log.append(entry(1, [(IndexId(2), b"k")]))
    log.append(LogEntry(2, touching([(HERE, b"k")]), "messages:send"))
    log.append(LogEntry(3, touching([(HERE, b"k")]), "messages:edit"))

    conflict = log.first_conflict(reads, 0)

    assert conflict is not None
    assert conflict.source == "messages:send"
    assert log.first_conflict(reads, 3) is None


def test_commits_made_on_behalf_of_who_asks_are_no_conflict() -> None:
    log, (_, theirs, _) = logged(0, [(1, [(HERE, b"a")]), (1, [(HERE, b"a")]), (1, [(HERE, b"a")])])
    reads = ReadSet()
    reads.add_range(HERE, EVERYTHING)

    assert log.first_conflict(reads, 0, (1,)) is theirs
    assert log.first_conflict(reads, 0, (1, 2, 3)) is None


def test_timestamps_must_increase() -> None:
    log = WriteLog(5)

    with pytest.raises(AssertionError):
        log.append(entry(5))
