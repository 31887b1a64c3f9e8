"""`Workpool`, a pool as its user has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reactor import ReactorError, undefined, v
from reactor.components.contexts import ReadCtx, WriteCtx
from reactor.components.workpool.schema import result
from reactor.components.workpool.settings import CALL_BYTES, CANCEL_BATCH, DEFAULT_PARALLELISM, size_of

NON_RETRYABLE: Final = "__convexWorkpoolNonRetryable"

Args = Mapping[str, Any]


@dataclass(frozen=True)
class RetryBehavior:
    """How often an action is tried, and how long to wait: `initial_backoff_ms * base ** (attempts - 1)`, +-50 %."""

    max_attempts: int = 5
    initial_backoff_ms: float = 250.0
    base: float = 2.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.initial_backoff_ms < 0 or self.base <= 0:
            raise ValueError(f"{self}: there is at least one attempt, and waiting times are not negative.")

    def wire(self) -> dict[str, Any]:
        """Return it as the component takes it."""
        return {"maxAttempts": self.max_attempts, "initialBackoffMs": self.initial_backoff_ms, "base": self.base}


def NonRetryableError(message: str) -> ReactorError:
    """Return an error for an action to raise when to try it again would be no use."""
    return ReactorError({"message": message, NON_RETRYABLE: True})


def on_complete_args(context: Any = None) -> dict[str, Any]:
    """Return `args=` of a mutation that is an `on_complete`: `workId`, `result`, and `context` as it was given.

    Args:
        context: the validator of the context, by default that of any value.
    """
    return {"workId": v.string(), "result": result, "context": v.optional(v.any() if context is None else context)}


class Workpool:
    """A queue of functions, of which `max_parallelism` run at a time."""

    def __init__(
        self,
        component: Any,
        *,
        max_parallelism: int = DEFAULT_PARALLELISM,
        retry_actions_by_default: bool = False,
        default_retry_behavior: RetryBehavior | None = None,
    ) -> None:
        """Name a pool and its settings.

        Args:
            component: where it is mounted: `components.workpool`. One mount is one pool.
            max_parallelism: how many run at a time, up to 200. 0 pauses the pool. What the last enqueue said holds.
            retry_actions_by_default: whether actions are tried again that say nothing about it.
            default_retry_behavior: how, where `retry` says no more than that.
        """
        self.component = component
        self.max_parallelism = max_parallelism
        self.retry_actions_by_default = retry_actions_by_default
        self.default_retry_behavior = default_retry_behavior or RetryBehavior()

    async def enqueue_action(
        self,
        ctx: WriteCtx,
        function: Any,
        args: Args | None = None,
        *,
        retry: bool | RetryBehavior | None = None,
        **options: Any,
    ) -> str:
        """Have an action run when there is a place for it; return the id of the work.

        Args:
            ctx: of a mutation, whose transaction it is a part of, or of an action.
            function: an action, as `ctx.scheduler` takes it.
            args: its arguments, of at most 1,000,000 bytes.
            retry: whether it is tried again when it fails, and how.
            options: see `enqueue_mutation`.
        """
        (work_id,) = await self.enqueue_action_batch(ctx, function, [args or {}], retry=retry, **options)
        return work_id

    async def enqueue_mutation(self, ctx: WriteCtx, function: Any, args: Args | None = None, **options: Any) -> str:
        """Have a mutation run, exactly once, when there is a place for it; return the id of the work.

        Args:
            ctx: of a mutation, whose transaction it is a part of, or of an action.
            function: a mutation.
            args: its arguments, of at most 1,000,000 bytes.
            options: `name`, for logs; `on_complete`, a mutation that is told what came of it; `context`, any value for
                that mutation; `exclude_kinds`, the results it is not told; `run_at` (milliseconds) or `run_after`;
                `priority`: among what is due, higher goes first, and then what has been due longer.
        """
        (work_id,) = await self.enqueue_mutation_batch(ctx, function, [args or {}], **options)
        return work_id

    async def enqueue_query(self, ctx: WriteCtx, function: Any, args: Args | None = None, **options: Any) -> str:
        """Have a query run whose result `on_complete` gets; otherwise like `enqueue_mutation`."""
        (work_id,) = await self.enqueue_query_batch(ctx, function, [args or {}], **options)
        return work_id

    async def enqueue_action_batch(
        self,
        ctx: WriteCtx,
        function: Any,
        batch: Sequence[Args],
        *,
        retry: bool | RetryBehavior | None = None,
        **options: Any,
    ) -> list[str]:
        """Have an action run once for each arguments of `batch`; return the ids in that order."""
        behavior = self._behavior(retry)
        work = {} if behavior is None else {"retryBehavior": behavior.wire()}
        return await self._enqueue(ctx, "action", function, batch, work, **options)

    async def enqueue_mutation_batch(
        self, ctx: WriteCtx, function: Any, batch: Sequence[Args], **options: Any
    ) -> list[str]:
        """Have a mutation run once for each arguments of `batch`; return the ids in that order."""
        return await self._enqueue(ctx, "mutation", function, batch, {}, **options)

    async def enqueue_query_batch(
        self, ctx: WriteCtx, function: Any, batch: Sequence[Args], **options: Any
    ) -> list[str]:
        """Have a query run once for each arguments of `batch`; return the ids in that order."""
        return await self._enqueue(ctx, "query", function, batch, {}, **options)

    async def cancel(self, ctx: WriteCtx, work_id: str) -> None:
        """Keep work from starting; its result is `canceled`. What runs goes on to its real result, without retries."""
        await ctx.run_mutation(self.component.work.cancel, {"workId": work_id})

    async def cancel_all(self, ctx: WriteCtx, *, limit: int = CANCEL_BATCH) -> None:
        """Cancel what is enqueued at present, `limit` in one transaction; the rest follows by itself."""
        await ctx.run_mutation(self.component.work.cancel_all, {"limit": limit})

    async def status(self, ctx: ReadCtx, work_id: str) -> dict[str, Any]:
        """Return `{"state": "pending" | "running", "previousAttempts": n}`, or `{"state": "finished"}`.

        What has ended is forgotten, so an id that never was is `finished`, too.
        """
        status: dict[str, Any] = await ctx.run_query(self.component.work.status, {"id": work_id})
        return status

    async def status_batch(self, ctx: ReadCtx, work_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the `status` of each."""
        found: list[dict[str, Any]] = await ctx.run_query(self.component.work.status_batch, {"ids": list(work_ids)})
        return found

    async def set_max_parallelism(self, ctx: WriteCtx, value: int) -> None:
        """Change how many run at a time until the next enqueue says otherwise; what waits is looked at at once."""
        await ctx.run_mutation(self.component.config.update, {"maxParallelism": value})

    def _behavior(self, retry: bool | RetryBehavior | None) -> RetryBehavior | None:
        if isinstance(retry, RetryBehavior):
            return retry
        wanted = self.retry_actions_by_default if retry is None else retry
        return self.default_retry_behavior if wanted else None

    async def _enqueue(
        self,
        ctx: WriteCtx,
        kind: str,
        function: Any,
        batch: Sequence[Args],
        work: dict[str, Any],
        *,
        name: str | None = None,
        on_complete: Any = None,
        context: Any = undefined,
        exclude_kinds: Sequence[str] = (),
        run_at: float | None = None,
        run_after: float | None = None,
        priority: float = 0.0,
    ) -> list[str]:
        if run_at is not None and run_after is not None:
            raise ValueError("Work starts run_at a time or run_after a delay: give one of them.")
        handle = await ctx.function_handle(function)
        shown = name or handle.partition("#")[2]
        work = {**work, "fnType": kind, "fnHandle": handle, "fnName": shown, "priority": priority}
        work["runAt"] = run_at if run_at is not None else ctx.now() + (run_after or 0.0)
        if on_complete is not None:
            work["onComplete"] = {"fnHandle": await ctx.function_handle(on_complete)}
            if context is not undefined:
                work["onComplete"]["context"] = context
            if exclude_kinds:
                work["onComplete"]["excludeKinds"] = list(exclude_kinds)
        ids: list[str] = []
        for chunk in chunks(batch, size_of(work)):
            args = {"items": [{**work, "fnArgs": dict(each)} for each in chunk], "maxParallelism": self.max_parallelism}
            ids += await ctx.run_mutation(self.component.work.enqueue_batch, args)
        return ids


def chunks(batch: Sequence[Args], extra: int) -> list[list[Args]]:
    """Return a batch in parts, each small enough for one call, when each item takes `extra` bytes beside its own."""
    parts: list[list[Args]] = []
    room = 0
    for args in batch:
        size = size_of(args) + extra
        if not parts or size > room:
            parts.append([])
            room = CALL_BYTES
        parts[-1].append(args)
        room -= size
    return parts
