"""What applications use: `ShardedCounter`, many counters by name, and one of them bound to its name."""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from reactor import ActionCtx, Change, MutationCtx
from reactor.components.contexts import ReadCtx, WriteCtx

DEFAULT_SHARDS: Final = 16

# Which shards this execution has added to. Each attempt at a mutation is an execution with a context of its own, so
# what is set here is forgotten with it: a process would otherwise write one shard as long as it lives.
_CHOSEN: ContextVar[dict[tuple["ShardedCounter", str], int]] = ContextVar("_CHOSEN")


class ShardedCounter:
    """Counters by name, each spread over a number of documents, so that mutations rarely change the same one.

    Within one mutation, all that is added to a name goes to one shard: it writes one document, however often it adds.
    """

    def __init__(
        self, component: Any, *, shards: Mapping[str, int] | None = None, default_shards: int = DEFAULT_SHARDS
    ) -> None:
        """Say how many shards counters have.

        Args:
            component: where it is mounted: `components.sharded_counter`.
            shards: how many, by name. The more there are, the rarer conflicts, and the dearer `count`.
            default_shards: how many the others have.

        Raises:
            ValueError: a number is below 1.
        """
        for number in (default_shards, *(shards or {}).values()):
            if number < 1:
                raise ValueError(f"a counter has 1 shard or more, not {number}")
        self.component = component
        self._shards = dict(shards or {})
        self._default_shards = default_shards

    async def add(self, ctx: WriteCtx, name: str, count: float = 1) -> None:
        """Add to a counter.

        Raises:
            ReactorError: `count` is not finite.
        """
        asked: dict[str, Any] = {"name": name, "count": count, "shards": self._shards_of(name)}
        if isinstance(ctx, ActionCtx):  # each call is a transaction of its own
            await ctx.run_mutation(self.component.counters.add, asked)
            return
        chosen = _CHOSEN.get(None)
        if chosen is None:
            _CHOSEN.set(chosen := {})
        if (self, name) in chosen:
            asked["shard"] = chosen[self, name]
        chosen[self, name] = int(await ctx.run_mutation(self.component.counters.add, asked))

    async def subtract(self, ctx: WriteCtx, name: str, count: float = 1) -> None:
        """Subtract from a counter, which may become negative.

        Raises:
            ReactorError: `count` is not finite.
        """
        await self.add(ctx, name, -count)

    async def inc(self, ctx: WriteCtx, name: str) -> None:
        """Add 1."""
        await self.add(ctx, name, 1)

    async def dec(self, ctx: WriteCtx, name: str) -> None:
        """Subtract 1."""
        await self.add(ctx, name, -1)

    async def count(self, ctx: ReadCtx, name: str) -> float:
        """Return the value. It reads every shard, so in a mutation it conflicts with all who add meanwhile."""
        value: float = await ctx.run_query(self.component.counters.count, {"name": name})
        return value

    async def estimate_count(self, ctx: ReadCtx, name: str, read_from_shards: int = 1) -> float:
        """Return about the value, from so many of its shards: the more, the closer, and the more conflicts.

        After a long time of many adds the shards hold about the same; `rebalance` makes them.
        """
        asked = {"name": name, "readFromShards": read_from_shards, "shards": self._shards_of(name)}
        value: float = await ctx.run_query(self.component.counters.estimate_count, asked)
        return value

    async def rebalance(self, ctx: WriteCtx, name: str) -> None:
        """Spread the value evenly over the shards: when their number has changed, or before estimates."""
        await ctx.run_mutation(self.component.counters.rebalance, {"name": name, "shards": self._shards_of(name)})

    async def reset(self, ctx: WriteCtx, name: str) -> None:
        """Let a counter be 0."""
        await ctx.run_mutation(self.component.counters.reset, {"name": name})

    def for_name(self, name: str) -> "NamedCounter":
        """Return one counter, with the methods that are here but for the name."""
        return NamedCounter(self, name)

    def trigger(self, name: str) -> Callable[[MutationCtx, Change], Awaitable[None]]:
        """Return a trigger that counts the documents of a table."""

        async def count_documents(ctx: MutationCtx, change: Change) -> None:
            if change.operation == "insert":
                await self.inc(ctx, name)
            elif change.operation == "delete":
                await self.dec(ctx, name)

        return count_documents

    def _shards_of(self, name: str) -> int:
        return self._shards.get(name, self._default_shards)


class NamedCounter:
    """One counter of a `ShardedCounter`."""

    def __init__(self, counters: ShardedCounter, name: str) -> None:
        self._counters = counters
        self.name = name

    async def add(self, ctx: WriteCtx, count: float = 1) -> None:
        """See `ShardedCounter.add`."""
        await self._counters.add(ctx, self.name, count)

    async def subtract(self, ctx: WriteCtx, count: float = 1) -> None:
        """See `ShardedCounter.subtract`."""
        await self._counters.subtract(ctx, self.name, count)

    async def inc(self, ctx: WriteCtx) -> None:
        """Add 1."""
        await self._counters.inc(ctx, self.name)

    async def dec(self, ctx: WriteCtx) -> None:
        """Subtract 1."""
        await self._counters.dec(ctx, self.name)

    async def count(self, ctx: ReadCtx) -> float:
        """See `ShardedCounter.count`."""
        return await self._counters.count(ctx, self.name)

    async def estimate_count(self, ctx: ReadCtx, read_from_shards: int = 1) -> float:
        """See `ShardedCounter.estimate_count`."""
        return await self._counters.estimate_count(ctx, self.name, read_from_shards)

    async def rebalance(self, ctx: WriteCtx) -> None:
        """See `ShardedCounter.rebalance`."""
        await self._counters.rebalance(ctx, self.name)

    async def reset(self, ctx: WriteCtx) -> None:
        """See `ShardedCounter.reset`."""
        await self._counters.reset(ctx, self.name)
