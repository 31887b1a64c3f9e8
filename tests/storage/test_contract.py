"""The contract of `storage/interface`, once, for every backend."""

import pytest

from reactor.errors import SnapshotTooOld, StorageError
from reactor.storage.interface import AppendOutcome, DocumentWrite, LogState, Persistence, Record, StoredDocument
from tests.storage.records import TABLE, commit, commits, documents, write

pytestmark = pytest.mark.asyncio

DONE, REFUSED = AppendOutcome.DONE, AppendOutcome.REFUSED


async def test_an_empty_database(persistence: Persistence) -> None:
    assert await persistence.fold(10) == LogState(end=0, floor=0, folded=0, epoch=1)
    assert await persistence.trim(10) == LogState(end=0, floor=0, folded=0, epoch=1)
    assert await persistence.read(0, 10) == []
    assert await persistence.tables() == []
    assert await documents(persistence) == []


async def test_every_field_of_a_record_comes_back(persistence: Persistence) -> None:
    """Resent requests, followers and undo live off what is in the log."""
    record = Record(
        ts=1_700_000_000_000_000_001,
        kind="commit",
        writes=(DocumentWrite(10_001, "k1", b"\x00\xff"), DocumentWrite(10_002, "k2", None)),
        session="3f1c",
        request=4,
        result=b'{"a":1.0}',
        log_lines=("[LOG] 'x'", "[ERROR] 'ü'"),
        source="messages:send",
        version=3,
    )
    fence = Record(ts=record.ts + 1, kind="fence")
    undo = Record(ts=record.ts + 2, kind="undo", writes=(DocumentWrite(10_001, "k1", None),))

    assert await persistence.append([record, fence, undo], 0) is DONE

    assert await persistence.read(0, 10) == [record, fence, undo]


async def test_an_append_elsewhere_than_at_the_end_is_refused(persistence: Persistence) -> None:
    """Two writers, or one with a wrong idea of the log, must never both succeed."""
    assert await persistence.append(commits(1, 3), 0) is DONE

    assert await persistence.append(commits(4, 5), 0) is REFUSED
    assert await persistence.append(commits(4, 5), 2) is REFUSED
    assert await persistence.append(commits(9, 9), 8) is REFUSED

    assert await persistence.read(0, 10) == commits(1, 3)
    assert await persistence.append(commits(4, 5), 3) is DONE


async def test_the_same_batch_twice_is_in_the_log_once(persistence: Persistence) -> None:
    assert await persistence.append(commits(1, 3), 0) is DONE

    assert await persistence.append(commits(1, 3), 0) is REFUSED

    assert await persistence.read(0, 10) == commits(1, 3)


@pytest.mark.parametrize(
    "batch", [[], [commit(5)], [commit(7), commit(6)], [commit(6), commit(6)]], ids=["empty", "old", "back", "twice"]
)
async def test_a_batch_that_goes_back_is_a_programming_error(persistence: Persistence, batch: list[Record]) -> None:
    await persistence.append(commits(1, 5), 0)

    with pytest.raises(ValueError, match=r"timestamps must increase|at least one record"):
        await persistence.append(batch, 5)

    assert await persistence.read(0, 10) == commits(1, 5)


@pytest.mark.parametrize(
    "record",
    [Record(1, "commit", source="\ud800"), Record(1 << 63, "commit"), Record(1 << 64, "commit")],
    ids=["surrogate", "beyond 63 bits", "beyond 64 bits"],
)
async def test_what_has_no_encoded_form_is_refused(persistence: Persistence, record: Record) -> None:
    """The committer must hear that nothing was written, or it would reopen storage for a bad string."""
    assert await persistence.append([record], 0) is REFUSED

    assert await persistence.append(commits(1, 1), 0) is DONE
    assert await persistence.read(0, 10) == commits(1, 1)


async def test_reading_pages_across_and_inside_batches(persistence: Persistence) -> None:
    await persistence.append(commits(1, 3), 0)
    await persistence.append(commits(4, 4), 3)
    await persistence.append(commits(5, 9), 4)

    pages, after = [], 0
    while page := await persistence.read(after, 2):
        pages.append([record.ts for record in page])
        after = page[-1].ts

    assert pages == [[1, 2], [3, 4], [5, 6], [7, 8], [9]]
    assert await persistence.read(0, 0) == []


async def test_folding_moves_the_oldest_records_into_documents(persistence: Persistence) -> None:
    await persistence.append([commit(1, write("a", b"1")), commit(2, write("b", b"2"), write("c", b"2"))], 0)
    await persistence.append([commit(3, write("a", b"3")), commit(4, write("b", None))], 2)

    first = await persistence.fold(1)
    after_first = await documents(persistence)
    second = await persistence.fold(2)
    after_second = await documents(persistence)
    third = await persistence.fold(100)

    assert [first.folded, second.folded, third.folded] == [1, 3, 4]
    assert after_first == [StoredDocument("a", 1, b"1")]
    assert after_second == [StoredDocument("a", 3, b"3"), StoredDocument("b", 2, b"2"), StoredDocument("c", 2, b"2")]
    assert await documents(persistence) == [StoredDocument("a", 3, b"3"), StoredDocument("c", 2, b"2")]
    assert (await persistence.fold(100)).folded == 4
    assert len(await persistence.read(0, 10)) == 4


async def test_folding_past_a_fence_moves_the_mark_only(persistence: Persistence) -> None:
    await persistence.append([Record(1, "fence"), Record(2, "fence")], 0)

    assert (await persistence.fold(1)).folded == 1
    assert (await persistence.fold(1)).folded == 2
    assert await persistence.tables() == []


async def test_tables_are_those_with_documents(persistence: Persistence) -> None:
    creation = commit(1, *(write("a", table=table) for table in (10_003, 1, 10_001)))
    await persistence.append([creation, commit(2, write("a", None, table=1))], 0)

    await persistence.fold(1)
    before = await persistence.tables()
    await persistence.fold(1)

    assert before == [1, 10_001, 10_003]
    assert await persistence.tables() == [10_001, 10_003]


async def test_a_large_table_loads_in_several_chunks_in_order(persistence: Persistence) -> None:
    """Start-up yields between chunks; and nothing may be skipped at their seams."""
    count = 3000
    await persistence.append([commit(1, *(write(f"{number:05}", b"x" * 100) for number in range(count)))], 0)
    await persistence.append([commit(2, write("other", table=TABLE + 1))], 1)
    await persistence.fold(10)

    chunks = [chunk async for chunk in persistence.load(TABLE)]

    assert len(chunks) > 1
    assert [document.id for chunk in chunks for document in chunk] == [f"{number:05}" for number in range(count)]


async def test_folding_during_a_load_is_made_good_by_the_log(persistence: Persistence) -> None:
    """What `load` promises: documents plus the log after the old `folded` are the current state."""
    await persistence.append([commit(1, *(write(f"{number:05}", b"old") for number in range(3000)))], 0)
    folded = (await persistence.fold(10)).folded
    changes = [[write("00000", b"new"), write("02999", None)], [write("02998", b"new"), write("1", b"new")]]
    await persistence.append([commit(ts, *writes) for ts, writes in enumerate(changes, 2)], 1)

    state: dict[str, bytes] = {}
    async for chunk in persistence.load(TABLE):
        state |= {document.id: document.value for document in chunk}
        await persistence.fold(10)
    for record in await persistence.read(folded, 100):
        for change in record.writes:
            if change.value is None:
                state.pop(change.id, None)
            else:
                state[change.id] = change.value

    expected = {f"{number:05}": b"old" for number in range(2999)} | {"00000": b"new", "02998": b"new", "1": b"new"}
    assert state == expected


async def test_trimming_stops_at_what_is_folded(persistence: Persistence) -> None:
    """A record that is neither in the log nor in the documents would be lost."""
    await persistence.append(commits(1, 5), 0)
    await persistence.append(commits(6, 9), 5)
    await persistence.fold(7)

    state = await persistence.trim(8)

    assert (state.end, state.floor, state.folded) == (9, 7, 7)
    assert await persistence.read(7, 10) == commits(8, 9)
    with pytest.raises(SnapshotTooOld, match="7"):
        await persistence.read(6, 10)


async def test_the_floor_never_sinks(persistence: Persistence) -> None:
    await persistence.append(commits(1, 9), 0)
    await persistence.fold(9)
    await persistence.trim(6)

    assert (await persistence.trim(3)).floor == 6

    with pytest.raises(SnapshotTooOld):
        await persistence.read(5, 10)
    assert await persistence.read(6, 10) == commits(7, 9)


async def test_a_log_trimmed_bare_still_knows_its_end(persistence: Persistence) -> None:
    """Were the end forgotten, an append after a wrong timestamp would pass, and a timestamp be used twice."""
    await persistence.append(commits(1, 9), 0)
    await persistence.fold(9)
    await persistence.trim(9)

    await persistence.close()
    state = await persistence.open()

    assert (state.end, state.floor, state.folded) == (9, 9, 9)
    assert await persistence.read(9, 10) == []
    assert await persistence.append(commits(10, 10), 0) is REFUSED
    assert await persistence.append(commits(10, 10), 9) is DONE
    assert await persistence.read(9, 10) == commits(10, 10)


async def test_everything_survives_closing(persistence: Persistence) -> None:
    await persistence.append(commits(1, 5), 0)
    await persistence.append(commits(6, 9), 5)
    await persistence.fold(7)
    before = await persistence.trim(3)

    await persistence.close()
    after = await persistence.open()

    assert (after.end, after.floor, after.folded) == (before.end, before.floor, before.folded) == (9, 3, 7)
    assert await persistence.read(3, 10) == commits(4, 9)
    assert [document.ts for document in await documents(persistence)] == [1, 2, 3, 4, 5, 6, 7]


async def test_each_opening_takes_a_new_epoch(persistence: Persistence) -> None:
    await persistence.close()
    second = await persistence.open()
    third = await persistence.reopen()

    assert (second.epoch, third.epoch) == (2, 3)


async def test_reopening_finds_the_end_and_goes_on(persistence: Persistence) -> None:
    await persistence.append(commits(1, 3), 0)

    assert (await persistence.reopen()).end == 3

    assert await persistence.append(commits(4, 4), 3) is DONE
    assert (await persistence.fold(10)).folded == 4


async def test_opening_twice_is_refused(persistence: Persistence) -> None:
    with pytest.raises(StorageError, match="open already"):
        await persistence.open()

    assert await persistence.append(commits(1, 1), 0) is DONE


async def test_closing_twice_is_fine(persistence: Persistence) -> None:
    await persistence.close()
    await persistence.close()


async def test_a_closed_database_answers_nothing(persistence: Persistence) -> None:
    await persistence.append(commits(1, 3), 0)
    await persistence.close()

    for use in (
        persistence.append(commits(4, 4), 3),
        persistence.read(0, 1),
        persistence.tables(),
        documents(persistence),
        persistence.fold(1),
        persistence.trim(1),
        persistence.reopen(),
    ):
        with pytest.raises(StorageError, match="not open"):
            await use
