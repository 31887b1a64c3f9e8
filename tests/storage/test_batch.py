"""The body of a log row."""

from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.storage.batch import decode_batch, decode_changes, decode_requests, encode_batch
from reactor.storage.checksum import Damaged
from reactor.storage.fold import fold_records, session_marks
from reactor.storage.interface import DocumentWrite, Record

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
TIMESTAMPS = st.integers(0, (1 << 63) - 1)
RECORDS = st.builds(
    Record,
    ts=TIMESTAMPS,
    kind=st.sampled_from(["commit", "fence", "undo"]),
    writes=st.lists(st.builds(DocumentWrite, st.integers(0, 1 << 40), TEXT, st.none() | st.binary())).map(tuple),
    session=st.none() | TEXT,
    request=st.none() | st.integers(0, (1 << 32) - 1),
    result=st.none() | st.binary(),
    log_lines=st.lists(TEXT, max_size=3).map(tuple),
    source=TEXT,
    version=st.integers(0, 1 << 40),
)


@given(batch=st.lists(RECORDS, max_size=5))
def test_a_batch_survives_encoding(batch: list[Record]) -> None:
    body = encode_batch(batch)

    assert body is not None
    assert decode_batch(body) == batch
    assert fold_records(decode_changes(body)) == fold_records(batch)
    assert session_marks(decode_requests(body)) == session_marks(batch)


@pytest.mark.parametrize("decode", [decode_batch, decode_changes, decode_requests])
@given(body=st.binary())
def test_damage_is_named_as_such(decode: Callable[[bytes], object], body: bytes) -> None:
    with suppress(Damaged):
        assert isinstance(decode(body), list)


def test_a_log_written_before_a_field_existed_is_readable() -> None:
    """Records grow at the end; a log outlives the version that wrote it."""
    body = msgspec.msgpack.encode([[7, "fence"], [8, "commit", [[1, "a", None, None]], "session"]])

    assert decode_batch(body) == [
        Record(7, "fence"),
        Record(8, "commit", (DocumentWrite(1, "a", None),), session="session"),
    ]
    assert list(fold_records(decode_changes(body))) == [(1, "a")]
    assert session_marks(decode_requests(body)) == {}


@pytest.mark.parametrize("record", [Record(1, "commit", source="\udfff"), Record(1 << 64, "commit")])
def test_what_has_no_encoded_form_gives_none(record: Record) -> None:
    assert encode_batch([record]) is None
