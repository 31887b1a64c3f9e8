"""Differences: where two runs of one function part.

Owns what counts as a difference and how its place is named: `result.items[2].name`, `write messages field body`.
Promises to compare content: neither the order of writes nor how a read set was put together matters. Used by sampling.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from reactor.engine.catalog import Index, Table
from reactor.engine.conflicts import show_range
from reactor.engine.keyrange import IndexId, KeyRange, point
from reactor.engine.readset import ReadSet
from reactor.engine.transaction import PendingWrite, Transaction
from reactor.errors import ReactorError
from reactor.limits import FIRST_USER_TABLE
from reactor.values.json import decode_json
from reactor.values.stored import decode_object

MAX_SHOWN: Final = 60  # characters of one value
_ABSENT: Final = "nothing"
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")  # in the default `repr` of objects: another each time, and no harm


class Ended(NamedTuple):
    """What a run gave: a result as wire JSON, or an error; and the transaction it ran in."""

    value: bytes
    error: BaseException | None
    transaction: Transaction


class Difference(NamedTuple):
    """The first place where two runs differ, and what each had there."""

    path: str
    first: str
    second: str


def first_difference(first: Ended, second: Ended) -> Difference | None:
    """Return where two runs differ: in result or error, else in writes, else in what they read; None for equal ones."""
    return (
        _of_results(first, second)
        or _of_writes(first.transaction.writes, second.transaction.writes)
        or _of_reads(first.transaction, second.transaction)
    )


def _of_results(first: Ended, second: Ended) -> Difference | None:
    if first.error is None and second.error is None:
        if first.value == second.value:
            return None
        return _of_values(decode_json(first.value), decode_json(second.value), "result")
    if first.error is None or second.error is None:
        return Difference("result", *(_error_text(run.error) if run.error else "a result" for run in (first, second)))
    if isinstance(first.error, ReactorError) and isinstance(second.error, ReactorError):
        found = _of_values(first.error.data, second.error.data, "error.data")
        if found is not None:
            return found
    texts = _error_text(first.error), _error_text(second.error)
    return None if texts[0] == texts[1] else Difference("error", *texts)


def _error_text(error: BaseException) -> str:
    return _short(_ADDRESS.sub("", f"{type(error).__name__}: {error}"))


def _of_values(first: Any, second: Any, path: str) -> Difference | None:
    """Compare two values; equal ones print alike, which tells `0.0` from `-0.0` and one NaN not from another."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted(first.keys() | second.keys()):
            inner = f"{path}.{name}"
            if name not in first:
                return Difference(inner, _ABSENT, _shown(second[name]))
            if name not in second:
                return Difference(inner, _shown(first[name]), _ABSENT)
            found = _of_values(first[name], second[name], inner)
            if found is not None:
                return found
        return None
    if isinstance(first, list) and isinstance(second, list):
        for position, (one, other) in enumerate(zip(first, second, strict=False)):
            found = _of_values(one, other, f"{path}[{position}]")
            if found is not None:
                return found
        if len(first) == len(second):
            return None
        shared = min(len(first), len(second))
        ends = (_shown(values[shared]) if len(values) > shared else _ABSENT for values in (first, second))
        return Difference(f"{path}[{shared}]", *ends)
    if type(first) is type(second) and repr(first) == repr(second):
        return None
    return Difference(path, _shown(first), _shown(second))


def _of_writes(first: dict[str, PendingWrite], second: dict[str, PendingWrite]) -> Difference | None:
    for document_id in {**first, **second}:
        one, other = first.get(document_id), second.get(document_id)
        before, after = _effect(one), _effect(other)
        if before == after:
            continue
        pending = one or other
        assert pending is not None
        path = f"write {pending.table.name}"
        found = _of_values(decode_object(before), decode_object(after), path) if before and after else None
        if found is None:
            return Difference(path, _done(one), _done(other))
        return found._replace(path=f"{path} field {found.path.removeprefix(path + '.')}")
    return None


def _effect(write: PendingWrite | None) -> bytes | None:
    """Return the stored form that a write leaves, empty when it deletes; None when it changes nothing."""
    if write is None or write.before == write.after:
        return None
    return write.after or b""


def _done(write: PendingWrite | None) -> str:
    if write is None or write.before == write.after:
        return "no write"
    if write.after is None:
        return f"delete {write.id}"
    return f"insert {write.id}" if write.before is None else f"change {write.id}"


def _of_reads(first: Transaction, second: Transaction) -> Difference | None:
    reads = [_canonical(transaction.reads) for transaction in (first, second)]
    apart = reads[0] ^ reads[1]
    if not apart:
        return None
    index_id, keys = min(apart, key=lambda read: (read[0], read[1].start))
    table, index = _find(first.catalog.by_number.values(), index_id)
    seen = ("read" if (index_id, keys) in read else "not read" for read in reads)
    if table.number < FIRST_USER_TABLE:
        return Difference(f"read {table.name}", *seen)
    return Difference(f"read {table.name} [{show_range(index, keys)}]", *seen)


def _canonical(reads: ReadSet) -> set[tuple[IndexId, KeyRange]]:
    """Return what was read as disjoint ranges; `reads`, which others may have filed, stays as it is."""
    own = ReadSet()
    own.merge(reads)
    own.compact()
    found = {(index, point(key)) for index, keys in own.points.items() for key in keys}
    for index, ranges in own.ranges.items():
        found.update((index, KeyRange(this.start, this.end)) for this in ranges)
    return found


def _find(tables: Iterable[Table], index_id: IndexId) -> tuple[Table, Index]:
    return next((table, index) for table in tables for index in table.order if index.id == index_id)


def _shown(value: object) -> str:
    return _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
