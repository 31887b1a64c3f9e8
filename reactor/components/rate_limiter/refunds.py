"""Tokens that come back, and tokens that were used without asking: what is known only after the work is done.

Used by the component's functions.
"""

import random

from reactor.components.rate_limiter.arithmetic import Decision, State, decide, full, project, share_of
from reactor.components.rate_limiter.configs import Config
from reactor.components.rate_limiter.ledger import Ledger


def credit(ledger: Ledger, config: Config, count: float, now: float) -> None:
    """Give tokens back, the emptiest shard first; what does not fit is lost."""
    share = share_of(config)
    states = {shard: project(state, share, now) for shard, state in (ledger.states()).items()}
    for shard, state in sorted(states.items(), key=lambda item: item[1].value):
        given = min(count, share.capacity - state.value)
        if given > 0 and shard < config.shards:
            ledger.change(shard, credited(state, share.capacity, given))
            count -= given


def credited(state: State, capacity: float, count: float) -> State:
    """Return a state with `count` tokens more, as far as they fit."""
    return State(min(capacity, state.value + count), state.ts)


def debit(ledger: Ledger, config: Config, count: float, now: float) -> Decision:
    """Take tokens, whether they are there or not: of two shards picked by chance from the fuller one."""
    share = share_of(config)._replace(max_reserved=None)
    sample = random.sample(range(config.shards), min(2, config.shards))
    left = {}
    for shard in sample:
        state = ledger.state(shard)
        left[shard] = full(share, now) if state is None else project(state, share, now)
    shard = max(sample, key=lambda shard: left[shard].value)
    decision = decide(left[shard], share, now, count, reserve=True)
    ledger.change(shard, decision.state)
    return decision
