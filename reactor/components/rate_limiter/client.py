"""`RateLimiter`: what applications ask a mounted rate limiter through."""

from collections.abc import Mapping
from typing import Any

from reactor.components.rate_limiter.configs import Config, wire_of
from reactor.components.rate_limiter.readings import Reading, reading_of
from reactor.components.rate_limiter.status import Status, status_of


class RateLimiter:
    """The limits of an application, by name. Each counts for itself, and for each `key` by itself.

    Several of these may share one mounted component, as long as they don't share names. Every method takes the `ctx` of
    the function that calls it: in a mutation the tokens are a part of its transaction, and come back when it fails; in
    an action each call is a transaction of its own. Queries can use `check` and `get_value`.

    Args:
        instance: the mounted component, such as `components.rate_limiter`.
        limits: configs by name. A config given with a call goes before them.
    """

    def __init__(self, instance: Any, limits: Mapping[str, Config] | None = None) -> None:
        self._functions = instance.lib
        self._wires = {name: wire_of(config) for name, config in (limits or {}).items()}

    async def check(
        self,
        ctx: Any,
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
        return status_of(await ctx.run_query(self._functions.check_rate_limit, request))

    async def limit(
        self,
        ctx: Any,
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
        return status_of(await ctx.run_mutation(self._functions.rate_limit, request))

    async def reset(self, ctx: Any, name: str, key: str | None = None, *, config: Config | None = None) -> None:
        """Forget what was taken with this `key`. Without one, that is what was taken without one, not with all keys.

        Raises:
            ValueError: there is no such limit.
        """
        request: dict[str, Any] = {"name": name, "config": self._wire(name, config)}
        if key is not None:
            request["key"] = key
        await ctx.run_mutation(self._functions.reset_rate_limit, request)

    async def get_value(
        self,
        ctx: Any,
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
        request = {"name": name, "config": self._wire(name, config), "sampleShards": sample_shards}
        if key is not None:
            request["key"] = key
        return reading_of(await ctx.run_query(self._functions.get_value, request))

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

    def _request(
        self, name: str, key: str | None, count: float, reserve: bool, throws: bool, config: Config | None
    ) -> dict[str, Any]:
        request = {"name": name, "count": count, "config": self._wire(name, config)}
        if key is not None:
            request["key"] = key
        if reserve:
            request["reserve"] = True
        if throws:
            request["throws"] = True
        return request
