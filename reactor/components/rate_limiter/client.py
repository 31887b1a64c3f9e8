"""`RateLimiter`: what applications ask a mounted rate limiter through."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from reactor.components.contexts import ReadCtx, WriteCtx
from reactor.components.rate_limiter.configs import ASYNCHRONOUSLY, Config, wire_of
from reactor.components.rate_limiter.hooks import HookApi, Key, make_hook_api
from reactor.components.rate_limiter.readings import Reading, reading_of
from reactor.components.rate_limiter.status import Status, Statuses, status_of, statuses_of

Options = Mapping[str, Any]  # of one request among several: key, count, reserve, config


class RateLimiter:
    """The limits of an application, by name. Each counts for itself, and for each `key` by itself.

    Several of these may share one mounted component, as long as they don't share names. Every method takes the `ctx` of
    the function that calls it: in a mutation the tokens are a part of its transaction, and come back when it fails; in
    an action each call is a transaction of its own. Queries can use `check` and `get_value`.
    """

    def __init__(self, component: Any, limits: Mapping[str, Config] | None = None) -> None:
        """
        Args:
            component: where it is mounted: `components.rate_limiter`.
            limits: configs by name. A config given with a call goes before them.
        """
        self.component = component
        self._wires = {name: wire_of(config) for name, config in (limits or {}).items()}

    async def check(
        self,
        ctx: ReadCtx,
        name: str,
        key: str | None = None,
        count: float = 1,
        *,
        reserve: bool = False,
        throws: bool = False,
        config: Config | None = None,
    ) -> Status:
        """Return what `limit` would, and take nothing. In a live query, time alone changes no result.

        Raises:
            ReactorError, ValueError: as `limit` does.
        """
        request = self._request(name, key, count, reserve, throws, config)
        return status_of(await ctx.run_query(self.component.limits.check_rate_limit, request))

    async def limit(
        self,
        ctx: WriteCtx,
        name: str,
        key: str | None = None,
        count: float = 1,
        *,
        reserve: bool = False,
        throws: bool = False,
        config: Config | None = None,
    ) -> Status:
        """Take `count` tokens if they are there.

        With `reserve` they may be taken before they are there: then the status is ok and has a `retry_after`, and the
        caller has to wait so long before doing what they are for.

        Args:
            ctx: of a mutation or an action.
            name: of the limit.
            key: whose tokens, such as a user's id. Without one there is one account for all; "" is a key like others.
            count: how many tokens. 0 only asks whether there is no debt.
            reserve: whether to go into debt, up to the config's `max_reserved`.
            throws: whether to raise when there is something to wait for. A reservation is taken back then.
            config: a limit that was not given to `RateLimiter`, or another one than that.

        Raises:
            ReactorError: `throws`, and there is a `retry_after`. Data: `{kind: "RateLimited", name, retryAfter}`.
            ValueError: there is no such limit, or it can never give so many tokens.
        """
        request = self._request(name, key, count, reserve, throws, config)
        return status_of(await ctx.run_mutation(self._for(request).rate_limit, request))

    async def check_all(
        self, ctx: ReadCtx, requests: Iterable[tuple[str, Options]], *, throws: bool = False
    ) -> Statuses:
        """Return what `limit_all` would, and take nothing.

        Raises:
            ReactorError, ValueError: as `limit_all` does.
        """
        return statuses_of(await ctx.run_query(self.component.limits.check_all, self._requests(requests, throws)))

    async def limit_all(
        self, ctx: WriteCtx, requests: Iterable[tuple[str, Options]], *, throws: bool = False
    ) -> Statuses:
        """Take the tokens of all requests, or of none: `limit_all(ctx, [("user", {"key": user}), ("everybody", {})])`.

        Each request is the name of a limit and options of `limit`: `key`, `count`, `reserve`, `config`. All are decided
        on, also when one is refused.

        Raises:
            ReactorError: `throws`, and there is something to wait for. The data is that of the longest wait.
            ValueError: there is no such limit, it can never give so many tokens, or it is applied asynchronously.
        """
        return statuses_of(await ctx.run_mutation(self.component.limits.limit_all, self._requests(requests, throws)))

    async def credit(
        self, ctx: WriteCtx, name: str, key: str | None = None, count: float = 1, *, config: Config | None = None
    ) -> None:
        """Give `count` tokens back, as far as they fit below the capacity.

        Raises:
            ValueError: there is no such limit, or the count is negative or no number.
        """
        request = {**self._account(name, key, config), "count": count}
        await ctx.run_mutation(self._for(request).credit, request)

    async def settle(
        self,
        ctx: WriteCtx,
        name: str,
        key: str | None = None,
        *,
        taken: float,
        used: float,
        config: Config | None = None,
    ) -> Status:
        """Correct what `limit` has taken as an estimate to what was used in the end; `used=0` cancels it.

        What was used beyond the estimate is taken whether it is there or not, beyond `max_reserved` too: the next ones
        wait for it. The status is ok; its `retry_after` says how long they will.

        Raises:
            ValueError: there is no such limit, or a count is negative or no number.
        """
        request = {**self._account(name, key, config), "taken": taken, "used": used}
        return status_of(await ctx.run_mutation(self._for(request).settle, request))

    async def sweep(self, ctx: WriteCtx, *, older_than: float = 0, forget_phases: bool = False) -> None:
        """Begin to delete the documents of keys that have all their tokens back: without one it is the same.

        They go in the background, page by page. It is for the limits that this object was given. Of fixed windows,
        those without a `start` are kept unless phases are forgotten: the document says when their windows begin.

        Args:
            ctx: of a mutation or an action, such as one that a cron calls.
            older_than: keep those that were changed in this time, in milliseconds.
            forget_phases: delete also those of windows without a `start`, when nothing was taken in a whole window
                before that time. Who comes back gets windows that begin at another time.
        """
        limits = [{"name": name, "config": wire} for name, wire in self._wires.items()]
        args: dict[str, Any] = {"limits": limits, "olderThan": older_than}
        await ctx.run_mutation(self.component.limits.sweep, {**args, "forgetPhases": True} if forget_phases else args)

    async def clear_all(self, ctx: WriteCtx, *, before: float | None = None) -> None:
        """Begin to forget everything that was taken, of every limit in the mounted component, in the background.

        Args:
            ctx: of a mutation or an action.
            before: keep documents made after this time, in milliseconds since the epoch; by default, after now.
        """
        await ctx.run_mutation(self.component.limits.clear_all, {} if before is None else {"before": before})

    def hook_api(
        self,
        name: str,
        *,
        key: Key | None = None,
        names: Collection[str] = (),
        sample_shards: int = 1,
        config: Config | None = None,
    ) -> HookApi:
        """Return the two functions that `useRateLimit` of the npm package asks, for a module to export.

        `get_rate_limit, get_server_time = limiter.hook_api("messages", key=key_of)`

        Args:
            name: the limit that clients see.
            key: whose tokens: a text, or a function that is called with `ctx` and the key that the client sent, if any,
                and returns it. Without one a client that sends a key is refused.
            names: other limits that clients may ask for by name.
            sample_shards: of a sharded limit, in how many shards to look.
            config: of the limit `name`, if it was not given to `RateLimiter`.
        """
        return make_hook_api(self, name, key, names, sample_shards, config)

    async def reset(self, ctx: WriteCtx, name: str, key: str | None = None, *, config: Config | None = None) -> None:
        """Forget what was taken with this `key`. Without one, that is what was taken without one, not with all keys.

        Raises:
            ValueError: there is no such limit.
        """
        request = self._account(name, key, config)
        await ctx.run_mutation(self._for(request).reset_rate_limit, request)

    async def get_value(
        self,
        ctx: ReadCtx,
        name: str,
        key: str | None = None,
        *,
        sample_shards: int = 1,
        config: Config | None = None,
    ) -> Reading:
        """Return what was left after the last change, and what is needed to tell how much is left now.

        Of a sharded limit that is what is left in one shard: the fullest of `sample_shards` that are picked by chance.

        Raises:
            ValueError: there is no such limit.
        """
        request = {**self._account(name, key, config), "sampleShards": sample_shards}
        return reading_of(await ctx.run_query(self.component.limits.get_value, request))

    def _for(self, request: Mapping[str, Any]) -> Any:
        is_queued = request["config"].get("applyUpdates") == ASYNCHRONOUSLY
        return self.component.pending if is_queued else self.component.limits

    def _wire(self, name: str, config: Config | None) -> dict[str, Any]:
        if config is not None:
            return wire_of(config)
        wire = self._wires.get(name)
        if wire is None:
            known = ", ".join(sorted(self._wires)) or "none"
            raise ValueError(
                f"Rate limit {name} not defined. Give RateLimiter a config for it, or pass config=. Defined: {known}"
            )
        return wire

    def _account(self, name: str, key: str | None, config: Config | None) -> dict[str, Any]:
        account: dict[str, Any] = {"name": name, "config": self._wire(name, config)}
        if key is not None:
            account["key"] = key
        return account

    def _request(
        self, name: str, key: str | None, count: float, reserve: bool, throws: bool, config: Config | None
    ) -> dict[str, Any]:
        request = self._account(name, key, config)
        if count != 1:
            request["count"] = count
        if reserve:
            request["reserve"] = True
        if throws:
            request["throws"] = True
        return request

    def _requests(self, requests: Iterable[tuple[str, Options]], throws: bool) -> dict[str, Any]:
        limits = [self._one_of_many(name, **options) for name, options in requests]
        return {"limits": limits, "throws": True} if throws else {"limits": limits}

    def _one_of_many(
        self,
        name: str,
        *,
        key: str | None = None,
        count: float = 1,
        reserve: bool = False,
        config: Config | None = None,
    ) -> dict[str, Any]:
        return self._request(name, key, count, reserve, False, config)
