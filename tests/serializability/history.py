"""What a run of concurrent transactions looked like from outside: the input of the checker.

A workload gives every object a version order that clients can see: a list's elements have positions, an account counts
its changes. So a transaction is what versions it read and what versions it made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Key = str
Version = int  # 0 is what stood there before anybody wrote


@dataclass(frozen=True)
class Transaction:
    """One transaction that committed, as its client saw it. Times are of one monotonic clock, in any unit."""

    name: str
    begin: float
    end: float
    reads: Mapping[Key, Version] = field(default_factory=dict)
    writes: Mapping[Key, Sequence[Version]] = field(default_factory=dict)


@dataclass(frozen=True)
class Append:
    """One operation on a list: `value` goes to its end. Values are unique."""

    key: Key
    value: int


@dataclass(frozen=True)
class Look:
    """One operation on a list: all of its values, in order."""

    key: Key
    values: tuple[int, ...]


@dataclass(frozen=True)
class ListTransaction:
    """One transaction on lists. `committed` is None when its client never learnt what became of it."""

    name: str
    begin: float
    end: float
    operations: tuple[Append | Look, ...]
    committed: bool | None = True
