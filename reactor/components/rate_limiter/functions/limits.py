"""What applications call: the functions of the component, with arguments and results as JSON.

Each is one transaction, or a part of the caller's. Wrong arguments raise `ValueError`: they are mistakes of a program.
They are plain `def` functions, which cost less than `async def` ones, and none of them has much to do.
"""

from typing import Any

from reactor import internal, mutation, query, v
from reactor.components.rate_limiter.arithmetic import Decision
from reactor.components.rate_limiter.configs import CONFIG, Config, config_of
from reactor.components.rate_limiter.ledger import Ledger
from reactor.components.rate_limiter.readings import READING, read, wire_reading
from reactor.components.rate_limiter.refunds import credit as give_back
from reactor.components.rate_limiter.refunds import debit
from reactor.components.rate_limiter.requests import REQUEST, check_count, check_transactional, request_of, take
from reactor.components.rate_limiter.status import STATUS, STATUSES, rate_limited, wire_status

ACCOUNT = {"name": v.string(), "key": v.optional(v.string()), "config": CONFIG}
THROWS = {"throws": v.optional(v.boolean())}


@query(args={**REQUEST, **THROWS}, returns=STATUS)
def check_rate_limit(ctx: Any, /, *, throws: bool = False, **request: Any) -> dict[str, Any]:
    """Return what `rate_limit` would, and take nothing."""
    asked = request_of(request)
    decision = take(Ledger(ctx, asked.name, asked.key), asked, ctx.now())
    return answer(asked.name, decision, throws=throws)


@mutation(args={**REQUEST, **THROWS}, returns=STATUS)
def rate_limit(ctx: Any, /, *, throws: bool = False, **request: Any) -> dict[str, Any]:
    """Take tokens if they are there. With `throws`, raise when the caller would have to wait; then nothing is taken."""
    asked = request_of(request)
    check_transactional(asked.name, asked.config)
    ledger = Ledger(ctx, asked.name, asked.key)
    decision = take(ledger, asked, ctx.now())
    status = answer(asked.name, decision, throws=throws)
    if decision.ok:
        ledger.write()
    return status


@query(args={"limits": v.array(v.object(REQUEST)), **THROWS}, returns=STATUSES)
def check_all(ctx: Any, limits: list[dict[str, Any]], throws: bool = False) -> dict[str, Any]:
    """Return what `limit_all` would, and take nothing."""
    _, statuses = _take_all(ctx, limits, throws)
    return statuses


@mutation(args={"limits": v.array(v.object(REQUEST)), **THROWS}, returns=STATUSES)
def limit_all(ctx: Any, limits: list[dict[str, Any]], throws: bool = False) -> dict[str, Any]:
    """Take the tokens of all these requests, or of none."""
    ledgers, statuses = _take_all(ctx, limits, throws)
    if statuses["ok"]:
        for ledger in ledgers:
            ledger.write()
    return statuses


@mutation(args={**ACCOUNT, "count": v.number()}, returns=v.null())
def credit(ctx: Any, name: str, config: Any, count: float, key: str | None = None) -> None:
    """Give tokens back, as far as they fit."""
    ledger = Ledger(ctx, name, key)
    give_back(ledger, _config_for(name, config, count), count, ctx.now())
    ledger.write()


@mutation(args={**ACCOUNT, "taken": v.number(), "used": v.number()}, returns=STATUS)
def settle(ctx: Any, name: str, config: Any, taken: float, used: float, key: str | None = None) -> dict[str, Any]:
    """Correct what was taken to what was used. What is missing becomes a debt, however deep."""
    given = _config_for(name, config, taken, used)
    ledger = Ledger(ctx, name, key)
    status = wire_status(True, None)
    if used <= taken:
        give_back(ledger, given, taken - used, ctx.now())
    else:
        status = answer(name, debit(ledger, given, used - taken, ctx.now()))
    ledger.write()
    return status


@query(args={**ACCOUNT, "sampleShards": v.optional(v.number())}, returns=READING)
def get_value(ctx: Any, name: str, config: Any, key: str | None = None, sample_shards: float = 1) -> dict[str, Any]:
    """Return what was left after the last change."""
    return wire_reading(read(Ledger(ctx, name, key), config_of(config), sample_shards))


@mutation(args={"name": v.string(), "key": v.optional(v.string()), "config": v.optional(CONFIG)}, returns=v.null())
def reset_rate_limit(ctx: Any, name: str, key: str | None = None, config: Any = None) -> None:
    """Forget what was taken with this very key, in all shards; without a key, what was taken without one."""
    if config is not None:
        check_transactional(name, config_of(config))
    Ledger(ctx, name, key).forget()


@mutation(
    args={
        "limits": v.array(v.object({"name": v.string(), "config": CONFIG})),
        "olderThan": v.optional(v.number()),
        "forgetPhases": v.optional(v.boolean()),
    },
    returns=v.null(),
)
def sweep(ctx: Any, limits: list[dict[str, Any]], older_than: float = 0, forget_phases: bool = False) -> None:
    """Begin to delete documents that say the same as none would: what was taken has come back.

    With `forget_phases` also those of windows that begin when they please, and nothing else.
    """
    for limit in limits:
        config_of(limit["config"])
    args = {"limits": limits, "before": ctx.now() - older_than, "forgetPhases": forget_phases}
    ctx.scheduler.run_after(0, internal.cleaning.sweep_page, args)


@mutation(args={"before": v.optional(v.number())}, returns=v.null())
def clear_all(ctx: Any, before: float | None = None) -> None:
    """Begin to delete all documents made up to the time `before`, the newest first; by default up to now."""
    ctx.run_mutation(internal.cleaning.clear_page, before=ctx.now() if before is None else before)


@mutation(args={}, returns=v.number())
def get_server_time(ctx: Any) -> float:
    """Return what time it is here, for clients that compute a limit themselves."""
    return float(ctx.now())


def answer(name: str, decision: Decision, *, throws: bool = False) -> dict[str, Any]:
    """Return the status that tells of a decision.

    Raises:
        ReactorError: `throws`, and there is something to wait for.
    """
    if throws and decision.retry_after:
        raise rate_limited(name, decision.retry_after)
    return wire_status(decision.ok, decision.retry_after)


def _take_all(ctx: Any, limits: list[dict[str, Any]], throws: bool) -> tuple[list[Ledger], dict[str, Any]]:
    """Decide on requests in turn, as if each that is granted was granted; return what to write, and the statuses."""
    asked = [request_of(limit) for limit in limits]
    ledgers: dict[tuple[str, str | None], Ledger] = {}
    decisions = []
    for request in asked:
        check_transactional(request.name, request.config)
        account = request.name, request.key
        ledger = ledgers.setdefault(account, Ledger(ctx, *account))
        decisions.append(take(ledger, request, ctx.now()))
    # Of those who have to wait, it is as long as for the slowest; refusals go before reservations.
    refused = [at for at, decision in enumerate(decisions) if not decision.ok]
    slowest = max(refused or range(len(asked)), key=lambda at: decisions[at].retry_after or 0, default=None)
    status: dict[str, Any] = {"ok": True}
    if slowest is not None:
        status = answer(asked[slowest].name, decisions[slowest], throws=throws)
    statuses = [wire_status(decision.ok, decision.retry_after) for decision in decisions]
    return list(ledgers.values()), {**status, "statuses": statuses}


def _config_for(name: str, wire: Any, *counts: float) -> Config:
    for count in counts:
        check_count(name, count)
    config = config_of(wire)
    check_transactional(name, config)
    return config
