"""Bounds: the part of a namespace that a question is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reactor import undefined
from reactor.components.aggregate.positions import Position, around_prefix, before, behind


@dataclass(frozen=True)
class Bound:
    """One end. With `id`, it is at one item among those with the same key."""

    key: Any
    id: str | None = None
    inclusive: bool = True


@dataclass(frozen=True)
class Bounds:
    """From `lower` to `upper`; or one key, `eq`; or the array keys that begin with `prefix`.

    Where the Python form is expected, the original one is understood, too: `{"lower": {"key": 1, "inclusive": True}}`.
    """

    lower: Bound | None = None
    upper: Bound | None = None
    prefix: Sequence[Any] | None = None
    eq: Any = undefined

    def __post_init__(self) -> None:
        kinds = (self.lower is not None or self.upper is not None, self.prefix is not None, self.eq is not undefined)
        if sum(kinds) > 1:
            raise ValueError("bounds are lower and upper, or a prefix, or eq: give one of the three")


AnyBounds = Bounds | Mapping[str, Any] | None


def positions_of(bounds: AnyBounds) -> tuple[Position | None, Position | None]:
    """Return the positions between which a range lies; None is beyond all items.

    Raises:
        TypeError, ValueError: these are no bounds.
    """
    if bounds is None:
        return None, None
    if not isinstance(bounds, Bounds):
        bounds = _read(bounds)
    if bounds.prefix is not None:
        return around_prefix(list(bounds.prefix))
    lower, upper = bounds.lower, bounds.upper
    if bounds.eq is not undefined:
        lower = upper = Bound(bounds.eq)
    low = high = None
    if lower is not None:
        low = (before if lower.inclusive else behind)(lower.key, lower.id)
    if upper is not None:
        high = (behind if upper.inclusive else before)(upper.key, upper.id)
    return low, high


def _read(bounds: Mapping[str, Any]) -> Bounds:
    ends = {
        side: Bound(bounds[side]["key"], bounds[side].get("id"), bounds[side]["inclusive"])
        for side in ("lower", "upper")
        if side in bounds
    }
    return Bounds(**{**bounds, **ends})
