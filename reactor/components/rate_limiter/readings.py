"""What is left of a limit, in a form that stays true: `Reading`.

A reading is as of the time of the last change, so that a live query which gives it changes only when somebody takes
tokens; how much is left now is computed by whoever looks, with `Reading.check`. Used by `get_value` and by clients.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from reactor import v
from reactor.components.rate_limiter.arithmetic import State, calculate_rate_limit, project, share_of
from reactor.components.rate_limiter.configs import CONFIG, Config, FixedWindow, config_of, wire_of
from reactor.components.rate_limiter.ledger import Ledger

READING: Final = v.object(
    {"value": v.number(), "ts": v.number(), "shard": v.number(), "config": CONFIG, "perShard": v.boolean()}
)  # as JSON


@dataclass(frozen=True)
class Check:
    """What is left at a time; `retry_at` is when there will be enough, if there is not."""

    value: float
    ts: float
    ok: bool
    retry_at: float | None = None


@dataclass(frozen=True)
class Reading:
    """What was left at `ts`, in the shard that has most of those that were looked at, and the config to go on with.

    `per_shard` tells that `value` is the part of one shard; a shard that nobody has used reports the whole capacity.
    """

    value: float
    ts: float
    shard: int
    config: Config
    per_shard: bool

    def check(self, now: float, count: float = 0, *, offset: float = 0) -> Check:
        """Return what is left at `now` if `count` is taken.

        Args:
            now: in milliseconds, by the clock of the caller.
            count: how many tokens would be taken.
            offset: how far the server's clock is ahead of the caller's.
        """
        value = self.value * self.config.shards if self.per_shard else self.value
        balance = calculate_rate_limit(State(value, self.ts), self.config, now + offset, count)
        retry_at = None if balance.retry_after is None else now + balance.retry_after
        return Check(balance.value, balance.ts - offset, balance.value >= 0, retry_at)


def reading_of(wire: Mapping[str, Any]) -> Reading:
    """Return the reading that JSON stands for."""
    return Reading(wire["value"], wire["ts"], int(wire["shard"]), config_of(wire["config"]), wire["perShard"])


def wire_reading(reading: Reading) -> dict[str, Any]:
    """Return a reading as JSON."""
    config = wire_of(reading.config) | {"shards": reading.config.shards}
    return {
        "value": reading.value,
        "ts": reading.ts,
        "shard": reading.shard,
        "config": config,
        "perShard": reading.per_shard,
    }


def read(ledger: Ledger, config: Config, sample_shards: float) -> Reading:
    """Return what is left in the fullest of `sample_shards` shards that are picked by chance."""
    share, shards = share_of(config), config.shards
    sample = random.sample(range(shards), max(1, min(math.floor(sample_shards), shards)))
    found = {shard: ledger.state(shard) for shard in sample}
    # Not the present time: the same documents give the same reading, for as long as nobody changes them.
    newest = max((state.ts for state in found.values() if state is not None), default=0.0)
    left = {
        shard: share.capacity if state is None else project(state, share, newest).value
        for shard, state in found.items()
    }
    shard = max(sample, key=left.__getitem__)
    state = found[shard]
    value, ts = (config.most, 0.0) if state is None else state
    # With everything in it that a client would have to know otherwise.
    filled = replace(config, capacity=config.most)
    if isinstance(filled, FixedWindow) and filled.start is None:
        filled = replace(filled, start=ts)
    return Reading(value, ts, shard, filled, state is not None and shards > 1)
