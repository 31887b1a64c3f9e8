"""Limits that are applied asynchronously: what was taken is queued, and a loop writes it down.

Who asks looks at what is left without depending on it, so nobody waits for the one document of a hot limit, and it is
written once for a batch. Promises that each update counts once, as of the time at which it was queued, in the order in
which updates were queued, and that time does not go backwards. Used by the component's functions.
"""

from collections.abc import Iterable
from typing import Any, Final

from reactor import v
from reactor.components.rate_limiter.arithmetic import State, full, project, share_of
from reactor.components.rate_limiter.configs import CONFIG, config_of
from reactor.components.rate_limiter.refunds import credited

UPDATE: Final = v.object(
    {
        "kind": v.union(v.literal("consume"), v.literal("credit"), v.literal("reset")),
        "name": v.string(),
        "key": v.optional(v.string()),
        "count": v.number(),  # 0 for a reset
        "config": CONFIG,
        "ts": v.number(),
    }
)
SHARD: Final = 0  # the only one

Update = dict[str, Any]


def by_account(updates: Iterable[Update]) -> list[tuple[dict[str, str], list[Update]]]:
    """Return each `{name, key?}` that updates are for, with its updates in the order in which they were queued."""
    found: dict[tuple[str, ...], list[Update]] = {}
    for update in updates:
        account = (update["name"], update["key"]) if "key" in update else (update["name"],)
        found.setdefault(account, []).append(update)
    return [(dict(zip(("name", "key"), account, strict=False)), of) for account, of in found.items()]


def folded(state: State | None, updates: Iterable[Update]) -> State | None:
    """Return what is left of `state` after all `updates`; None when nothing is taken."""
    clock = float("-inf") if state is None else state.ts
    for update in updates:
        clock = max(clock, update["ts"])
        state = _after(state, update, clock)
    return state


def _after(state: State | None, update: Update, now: float) -> State | None:
    if update["kind"] == "reset":
        return None
    share = share_of(config_of(update["config"]))
    if update["kind"] == "credit":
        return None if state is None else credited(project(state, share, now), share.capacity, update["count"])
    before = full(share, now) if state is None else state
    return project(before, share, now, update["count"])
