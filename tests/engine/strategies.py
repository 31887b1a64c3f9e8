"""Hypothesis strategies for index keys and key ranges, over a domain small enough for them to meet."""

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from reactor.engine.catalog import Table
from reactor.engine.keyrange import EVERYTHING, IndexId, KeyRange, point, prefix
from reactor.engine.readset import ReadSet
from reactor.engine.writelog import DocumentChange
from reactor.values.keys import AFTER, encode_key
from reactor.values.types import Value

FIELDS = 3

# Strings that continue each other, a string key's terminator and its escape, and the ends of the order of types.
VALUES: tuple[Value, ...] = (None, False, True, -1.5, 0.0, 2.0, "", "a", "a\0", "a\0b", "ab", "b", b"", b"a", b"\xff")

INDEXES = [IndexId(number) for number in (1, 2)]


def fields(least: int = FIELDS, most: int = FIELDS) -> SearchStrategy[list[Value]]:
    """The leading fields of a document in an index of `FIELDS` fields."""
    return st.lists(st.sampled_from(VALUES), min_size=least, max_size=most)


def keys() -> SearchStrategy[bytes]:
    """Whole keys of an index of `FIELDS` fields."""
    return fields().map(encode_key)


@st.composite
def ranges(draw: DrawFn) -> KeyRange:
    """Ranges as queries make them: a point, equalities with bounds on the next field, or a scan stopped on its way."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([EVERYTHING, KeyRange(draw(keys()), None), KeyRange(b"", draw(keys()))]))
    fixed = draw(fields(0, FIELDS))
    head = encode_key(fixed)
    if len(fixed) == FIELDS:
        return point(head)
    whole = prefix(head)
    start, end = whole.start, whole.end
    lower, upper = draw(fields(0, 1)), draw(fields(0, 1))
    if lower:
        start = head + encode_key(lower) + draw(st.sampled_from([b"", AFTER]))
    if upper:
        end = head + encode_key(upper) + draw(st.sampled_from([b"", AFTER]))
    stop = head + encode_key(draw(fields(FIELDS - len(fixed), FIELDS - len(fixed))))
    cut = draw(st.sampled_from(["no", "ascending", "descending"]))
    if cut == "ascending":
        end = stop + b"\0"
    elif cut == "descending":
        start = stop
    return KeyRange(start, end, len(head))


@st.composite
def read_sets(draw: DrawFn) -> ReadSet:
    """Read sets over `INDEXES`."""
    reads = ReadSet()
    for index in INDEXES:
        for key in draw(st.lists(keys(), max_size=3)):
            reads.add_point(index, key)
        for key_range in draw(st.lists(ranges(), max_size=4)):
            reads.add_range(index, key_range)
    return reads


def writes() -> SearchStrategy[list[tuple[IndexId, bytes]]]:
    """Which keys of which index one commit touches."""
    return st.lists(st.tuples(st.sampled_from(INDEXES), keys()), max_size=4)


def touching(written: list[tuple[IndexId, bytes]]) -> tuple[DocumentChange, ...]:
    """Changes of documents in a table with `INDEXES` that touch just these keys."""
    table = Table(10_001, "notes", *INDEXES)
    changes = []
    for index, key in written:
        change = DocumentChange(table, key, None, b"")
        change._keys = {**dict.fromkeys(INDEXES, ()), index: (key,)}
        changes.append(change)
    return tuple(changes)
