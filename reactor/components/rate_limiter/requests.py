"""One request to a limit: checked, decided, and taken from one shard or two.

Owns which shards are asked and how two of them are combined ("power of two choices": of two shards picked by chance the
fuller one is taken). Used by the component's functions.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reactor import v
from reactor.components.rate_limiter.arithmetic import Decision, Share, decide, full, project, share_of
from reactor.components.rate_limiter.configs import ASYNCHRONOUSLY, CONFIG, Config, config_of
from reactor.components.rate_limiter.ledger import Ledger

MIN_CHOOSE_TWO: Final = 3  # shards; with fewer, the first one that is picked is the only one
REQUEST: Final = {
    "name": v.string(),
    "key": v.optional(v.string()),
    "count": v.optional(v.number()),
    "reserve": v.optional(v.boolean()),
    "config": CONFIG,
}  # as JSON


@dataclass(slots=True)
class Request:
    """What somebody wants of a limit."""

    name: str
    key: str | None
    config: Config
    count: float = 1
    reserve: bool = False


def request_of(wire: Mapping[str, Any]) -> Request:
    """Return the request that JSON stands for.

    Raises:
        ValueError: a number of the config is one that no limit can have, or the limit can never give so many tokens.
    """
    request = Request(
        wire["name"], wire.get("key"), config_of(wire["config"]), wire.get("count", 1), wire.get("reserve", False)
    )
    _check(request)
    return request


def check_count(name: str, count: float) -> None:
    """Check that there can be so many tokens.

    Raises:
        ValueError: there can't.
    """
    if not (math.isfinite(count) and count >= 0):
        raise ValueError(f"Rate limit {name} count must be 0 or more, not {count!r}; `credit` gives tokens back")


def check_transactional(name: str, config: Config) -> None:
    """Check that what is taken from a limit is written at once.

    Raises:
        ValueError: it is not.
    """
    if config.apply_updates == ASYNCHRONOUSLY:
        raise ValueError(
            f"Rate limit {name} is applied {ASYNCHRONOUSLY}: its functions are those of `pending`, and it can't be one "
            "of several"
        )


def _check(request: Request) -> None:
    name, config, count, reserve = request.name, request.config, request.count, request.reserve
    check_count(name, count)
    if reserve and config.max_reserved is None:
        return
    most = config.most + (config.max_reserved or 0 if reserve else 0)
    shards = config.shards
    if shards > 1:
        most /= shards if shards < MIN_CHOOSE_TWO else shards / 2  # a request is served by at most two of them
    if count > most:
        bound = f"{most:.2f}" if reserve else _shown(most)
        shared = f" per {shards} shards." if shards > 1 else "."
        raise ValueError(f"Rate limit {name} count {_shown(count)} exceeds {bound}{shared}")


def _shown(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def take(ledger: Ledger, request: Request, now: float) -> Decision:
    """Decide on a request; when it is granted, take its tokens from the ledger, which is not written yet."""
    config, count, reserve = request.config, request.count, request.reserve
    share, shards = share_of(config), config.shards
    shard = math.floor(random.random() * shards) if shards > 1 else 0
    first = ledger.state(shard)
    decision = decide(first, share, now, count, reserve=reserve)
    # A shard that nobody has used is as good as any; but one that can't serve the request on its own never would.
    if shards < MIN_CHOOSE_TWO or (first is None and decision.ok):
        if decision.ok:
            ledger.change(shard, decision.state)
        return decision
    other = (shard + 1 + math.floor(random.random() * (shards - 1))) % shards
    second = ledger.state(other)
    rival = decide(second, share, now, count, reserve=reserve)
    if not (decision.ok or rival.ok):
        return _take_from_both(ledger, (shard, other), share, request, now)
    if not decision.ok or (rival.ok and rival.state.value >= decision.state.value):
        shard, decision = other, rival
    ledger.change(shard, decision.state)
    return decision


def _take_from_both(ledger: Ledger, shards: tuple[int, int], share: Share, request: Request, now: float) -> Decision:
    """Take the tokens from two shards, neither of which has enough, so that both have the same left."""
    states = []
    for shard in shards:
        state = ledger.state(shard)
        states.append(full(share, now) if state is None else project(state, share, now))
    target = (states[0].value + states[1].value - request.count) / 2
    decisions = [decide(state, share, now, state.value - target, reserve=request.reserve) for state in states]
    if not all(decision.ok for decision in decisions):
        # The fuller one may be full before the time is up: then the other one has to have the rest.
        rest = max(0.0, request.count - share.capacity)
        waits = [*decisions, *(decide(state, share, now, rest) for state in states)]
        return Decision(False, decisions[0].state, max(wait.retry_after or 0.0 for wait in waits))
    retry_after = max((each.retry_after for each in decisions if each.retry_after is not None), default=None)
    for shard, decision in zip(shards, decisions, strict=True):
        ledger.change(shard, decision.state)
    return Decision(True, decisions[0].state, retry_after)
