"""The class with which actions keep the results of other actions."""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from reactor import ActionCtx, undefined
from reactor.components.action_cache.expiry import has_expired
from reactor.components.contexts import WriteCtx

FIRST_WAIT_SECONDS: Final = 0.02  # until somebody else's value is looked for again; doubled each time
LONGEST_WAIT_SECONDS: Final = 1.0
REMOVED_AT_ONCE: Final = 100

Span = timedelta | float | None

_log: Final = logging.getLogger("action_cache")  # its records become log lines of the action that runs
_log.setLevel(logging.INFO)


class ActionCache:
    """The kept results of one action: `cache = ActionCache(components.action_cache, action=internal.ai.embed)`."""

    def __init__(
        self,
        component: Any,
        *,
        action: Any,
        name: str | None = None,
        ttl: Span = None,
        single_flight: Span = None,
        log: bool = False,
    ) -> None:
        """
        Args:
            component: where it is mounted: `components.action_cache`.
            action: what computes them.
            name: what they are kept under, by default the path of the action. Another name forgets everything, so put
                a version into it.
            ttl: how long they are good, in milliseconds or as a `timedelta`; None is for ever.
            single_flight: with a span, only one call computes a value at a time, and others wait for it. One that has
                not ended after this span, because its process was killed, say, keeps nobody waiting any longer.
            log: whether to log hits and misses.

        Raises:
            ValueError: a span is negative.
        """
        self.component = component
        self._action = action
        self._name = name
        self._ttl = _milliseconds("ttl", ttl)
        self._lease = _milliseconds("single_flight", single_flight)
        self._log = log

    async def fetch(
        self, ctx: ActionCtx, args: Mapping[str, Any] | None = None, /, *, ttl: Any = undefined, force: bool = False
    ) -> Any:
        """Return what the action returns for these arguments: the kept result if it is good, else a new one.

        What the action raises is raised, and nothing is kept.

        Args:
            ttl: how old the result may be, in place of the cache's own `ttl`; a new one is kept for as long.
            force: run the action in any case, and keep its result in place of the old one.

        Raises:
            ValueError: the span is negative.
        """
        span = self._ttl if ttl is undefined else _milliseconds("ttl", ttl)
        given = dict(args or {})
        call = {"name": await self._known_as(ctx), "args": given}
        holder, wait = secrets.token_hex(8), FIRST_WAIT_SECONDS
        while True:
            found = await ctx.run_query(self.component.values.find, call)
            if found is not None and not force:
                if not has_expired(found["creationTime"], found.get("expiresAt"), span, ctx.now()):
                    self._say("hit", call)
                    return found["value"]
            seen = {} if found is None else {"expiredEntry": found["id"]}
            if self._lease is None:
                break
            leased = await ctx.run_mutation(
                self.component.values.acquire, {**call, **seen, "holder": holder, "leaseMs": self._lease}
            )
            if leased == "acquired":
                break
            force = False  # what somebody else computes from now on is new enough
            if leased == "busy":
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        self._say("miss", call)
        owner = {} if self._lease is None else {"holder": holder}
        try:
            value = await ctx.run_action(self._action, given)
        except Exception:
            if owner:
                await ctx.run_mutation(self.component.values.release, {**call, **owner})
            raise
        await ctx.run_mutation(self.component.values.put, {**call, **seen, **owner, "value": value, "ttl": span})
        return value

    async def remove(self, ctx: WriteCtx, args: Mapping[str, Any] | None = None, /) -> None:
        """Forget the result for these arguments."""
        name = await self._known_as(ctx)
        await ctx.run_mutation(self.component.values.remove, {"name": name, "args": dict(args or {})})

    async def remove_all_for_name(self, ctx: WriteCtx, /, *, batch_size: int = REMOVED_AT_ONCE) -> None:
        """Forget all results of this name: some now, the others by the scheduler, so many in one transaction."""
        name = await self._known_as(ctx)
        await ctx.run_mutation(self.component.values.remove_all_for_name, {"name": name, "batchSize": batch_size})

    async def _known_as(self, ctx: WriteCtx) -> str:
        if self._name is None:
            handle = await ctx.function_handle(self._action)
            self._name = handle.partition("#")[2]
        return self._name

    def _say(self, what: str, call: Mapping[str, Any]) -> None:
        if self._log:
            _log.info("%s: %s for %s", call["name"], what, call["args"])


async def remove_all(
    ctx: WriteCtx, component: Any, /, *, before: float | None = None, batch_size: int = REMOVED_AT_ONCE
) -> None:
    """Forget all results of all names, or those stored up to a time: some now, the others by the scheduler."""
    args = {"batchSize": batch_size} if before is None else {"batchSize": batch_size, "before": before}
    await ctx.run_mutation(component.values.remove_all, args)


def _milliseconds(what: str, span: Span) -> float | None:
    milliseconds = span / timedelta(milliseconds=1) if isinstance(span, timedelta) else span
    if milliseconds is not None and not milliseconds >= 0:
        raise ValueError(f"{what} is a span of time in milliseconds, a timedelta or None, not {span!r}")
    return milliseconds
