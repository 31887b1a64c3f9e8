"""What a limit is made of: `TokenBucket` and `FixedWindow`, in Python and as JSON.

Promises that a limit which exists can be computed with: every number is checked when it is made. Used by applications,
and by the component for what arrives as JSON. Times are in milliseconds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

from reactor import v

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY

ApplyUpdates = Literal["transactionally", "asynchronously"]
TRANSACTIONALLY: Final = "transactionally"
ASYNCHRONOUSLY: Final = "asynchronously"


@dataclass(frozen=True)
class TokenBucket:
    """Tokens that come back continuously: `rate` of them in each `period`, and never more than `capacity` at a time.

    Args:
        rate: tokens for each period.
        period: milliseconds.
        capacity: how many may be saved up, and so be taken at once; by default as many as `rate`.
        max_reserved: how many may be taken before they are there, with `reserve=True`; by default any number.
        shards: over how many documents the tokens are spread, so that many callers write different ones.
        apply_updates: "transactionally", or "asynchronously" for a limit that many mutations take from at a time: they
            look at what is left, and what they take is written later. So a burst may take more than there is, and
            whoever comes then waits until that is made up for. Not together with shards.

    Raises:
        ValueError: a number is one that no limit can have, or two options exclude each other.
    """

    rate: float
    period: float
    capacity: float | None = None
    max_reserved: float | None = None
    shards: int = 1
    apply_updates: ApplyUpdates = TRANSACTIONALLY

    kind: ClassVar[str] = "token bucket"
    start: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check_numbers(self)

    @property
    def most(self) -> float:
        """How many tokens there can be at a time."""
        return self.rate if self.capacity is None else self.capacity


@dataclass(frozen=True)
class FixedWindow:
    """`rate` tokens at the beginning of each window of `period`; what is left may be saved up to `capacity`.

    Args:
        rate: tokens for each window.
        period: milliseconds.
        capacity: how many may be saved up; by default as many as `rate`, so that none are.
        max_reserved: how many may be taken before they are there, with `reserve=True`; by default any number.
        shards: over how many documents the tokens are spread, so that many callers write different ones.
        start: where one of the windows begins, in milliseconds since the epoch. By default each key has a phase of its
            own, by chance, so that not all who wait come back at once. Who has taken tokens keeps the phase of that
            time, whatever is configured later, until the limit is reset.
        apply_updates: as for a `TokenBucket`.

    Raises:
        ValueError: a number is one that no limit can have, or two options exclude each other.
    """

    rate: float
    period: float
    capacity: float | None = None
    max_reserved: float | None = None
    shards: int = 1
    start: float | None = None
    apply_updates: ApplyUpdates = TRANSACTIONALLY

    kind: ClassVar[str] = "fixed window"

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.start is not None:
            _check("start", self.start)

    @property
    def most(self) -> float:
        """How many tokens there can be at a time."""
        return self.rate if self.capacity is None else self.capacity


Config = TokenBucket | FixedWindow

_SHARED: Final = {
    "rate": v.number(),
    "period": v.number(),
    "capacity": v.optional(v.number()),
    "maxReserved": v.optional(v.number()),
    "shards": v.optional(v.number()),
    "applyUpdates": v.optional(v.union(v.literal(TRANSACTIONALLY), v.literal(ASYNCHRONOUSLY))),
}
CONFIG: Final = v.union(
    v.object({"kind": v.literal(TokenBucket.kind), **_SHARED, "start": v.optional(v.null())}),
    v.object({"kind": v.literal(FixedWindow.kind), **_SHARED, "start": v.optional(v.nullable(v.number()))}),
)  # a config as JSON


def wire_of(config: Config) -> dict[str, Any]:
    """Return a config as JSON: what the component's functions and clients in other languages take."""
    fields = {
        "kind": config.kind,
        "rate": config.rate,
        "period": config.period,
        "capacity": config.capacity,
        "maxReserved": config.max_reserved,
        "shards": None if config.shards == 1 else config.shards,
        "start": config.start,
        "applyUpdates": None if config.apply_updates == TRANSACTIONALLY else config.apply_updates,
    }
    return {name: value for name, value in fields.items() if value is not None}


def config_of(wire: Mapping[str, Any]) -> Config:
    """Return the config that JSON stands for.

    Raises:
        ValueError: a number is one that no limit can have.
    """
    return _config(
        wire["kind"],
        wire["rate"],
        wire["period"],
        wire.get("capacity"),
        wire.get("maxReserved"),
        wire.get("shards", 1),
        wire.get("start"),
        wire.get("applyUpdates", TRANSACTIONALLY),
    )


@lru_cache(maxsize=256)  # each call brings its config along, mostly one that was seen before
def _config(
    kind: str,
    rate: float,
    period: float,
    capacity: float | None,
    max_reserved: float | None,
    shards: int,
    start: float | None,
    apply_updates: ApplyUpdates,
) -> Config:
    if kind == TokenBucket.kind:
        return TokenBucket(rate, period, capacity, max_reserved, shards, apply_updates)
    return FixedWindow(rate, period, capacity, max_reserved, shards, start, apply_updates)


def _check_numbers(config: Config) -> None:
    for name, value in (("rate", config.rate), ("period", config.period)):
        _check(name, value)
        if value <= 0:
            raise ValueError(f"{name} of a rate limit must be above 0, not {value!r}")
    for name, optional in (("capacity", config.capacity), ("max_reserved", config.max_reserved)):
        if optional is not None:
            _check(name, optional)
            if optional < 0:
                raise ValueError(f"{name} of a rate limit must not be negative, but it is {optional!r}")
    _check("shards", config.shards)
    shards = math.floor((config.shards or 1) + 0.5)  # as JavaScript rounds
    if shards <= 0:
        raise ValueError(f"Shards must be a positive number, not {config.shards!r}")
    object.__setattr__(config, "shards", shards)
    if config.apply_updates not in (TRANSACTIONALLY, ASYNCHRONOUSLY):
        raise ValueError(f"apply_updates is {TRANSACTIONALLY!r} or {ASYNCHRONOUSLY!r}, not {config.apply_updates!r}")
    if config.apply_updates == ASYNCHRONOUSLY and shards > 1:
        raise ValueError("A rate limit that is applied asynchronously has no shards: nobody waits for its document")


def _check(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} of a rate limit must be a finite number, not {value!r}")
