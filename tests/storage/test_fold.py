"""From records to the latest version of each document."""

from hypothesis import given
from hypothesis import strategies as st

from reactor.storage.fold import Folded, fold_records
from reactor.storage.interface import DocumentWrite, Record

VALUES = st.none() | st.binary(max_size=3)
WRITES = st.builds(DocumentWrite, st.integers(1, 2), st.sampled_from("abc"), VALUES)
LOGS = st.lists(st.lists(WRITES, max_size=3), max_size=8).map(
    lambda log: [Record(ts, "commit", tuple(writes)) for ts, writes in enumerate(log, 1)]
)


def test_the_last_write_wins_and_a_tombstone_is_one() -> None:
    log = [
        Record(1, "commit", (DocumentWrite(1, "a", b"1"), DocumentWrite(1, "b", b"1"))),
        Record(2, "undo", (DocumentWrite(1, "b", None), DocumentWrite(2, "a", b"2"))),
    ]

    assert fold_records(log) == {(1, "a"): Folded(1, b"1"), (1, "b"): Folded(2, None), (2, "a"): Folded(2, b"2")}


@given(log=LOGS, cut=st.integers(0, 8))
def test_folding_in_portions_is_folding_at_once(log: list[Record], cut: int) -> None:
    assert fold_records(log[:cut]) | fold_records(log[cut:]) == fold_records(log)


@given(log=LOGS, start=st.integers(0, 8))
def test_folding_a_tail_again_changes_nothing(log: list[Record], start: int) -> None:
    """A power loss may take the mark back: the records behind it are folded again."""
    assert fold_records(log) | fold_records(log[start:]) == fold_records(log)
