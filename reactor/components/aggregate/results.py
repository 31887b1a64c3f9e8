"""What questions are answered with: items, totals, pages and dead letters, in Python and out of JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reactor.components.aggregate.operations import Operation

SUM: Final = "sum"
"""The name of the sum of an aggregate that has only one, and does not name it."""


@dataclass(frozen=True)
class Item:
    """An item of an aggregate. Of its numbers, those that are 0 are left out of `sums`."""

    key: Any
    id: str
    sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def sum_value(self) -> float:
        """The number that is summed, where it has no name."""
        return self.sums.get(SUM, 0.0)


@dataclass(frozen=True)
class Totals:
    """What a range holds. Sums that are 0 are left out; asking for one by `totals["cost"]` gives 0."""

    count: int
    sums: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.sums.get(name, 0.0)

    @property
    def sum(self) -> float:
        """The sum that has no name."""
        return self[SUM]


@dataclass(frozen=True)
class Page:
    """A page of items. `cursor` is where the next one begins."""

    page: list[Item]
    cursor: str
    is_done: bool


@dataclass(frozen=True)
class DeadLetter:
    """A queued operation that could not be done, with the data of its error, and when it was tried."""

    operation: Operation
    error: Any
    time: float


def item_of(wire: Mapping[str, Any]) -> Item:
    """Return the item that JSON stands for."""
    return Item(wire["key"], wire["id"], wire["sums"])


def totals_of(wire: Mapping[str, Any]) -> Totals:
    """Return the totals that JSON stands for."""
    return Totals(int(wire["count"]), wire["sums"])
