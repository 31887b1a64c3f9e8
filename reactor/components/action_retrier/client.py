"""`ActionRetrier`, as its user has it."""

from collections.abc import Mapping
from typing import Any

from reactor import v
from reactor.components.action_retrier.schema import result
from reactor.components.contexts import ReadCtx, WriteCtx

Args = Mapping[str, Any]


def on_complete_args() -> dict[str, Any]:
    """Return `args=` of a mutation that is an `on_complete`: `runId` and `result`."""
    return {"runId": v.string(), "result": result}


class ActionRetrier:
    """Runs actions until they succeed, with growing waits between the attempts."""

    def __init__(
        self, component: Any, *, initial_backoff_ms: float = 250.0, base: float = 2.0, max_failures: int = 4
    ) -> None:
        """Name a retrier and its settings, which each run may have otherwise.

        Args:
            component: where it is mounted: `components.action_retrier`.
            initial_backoff_ms: with `base` gives the wait before retry number n: `initial_backoff_ms * base ** n`,
                more or less by up to half.
            base: the factor from one wait to the next.
            max_failures: how many failures are followed by another attempt; the one after those is final.
        """
        self.component = component
        self._options = {"initialBackoffMs": initial_backoff_ms, "base": base, "maxFailures": max_failures}

    async def run(self, ctx: WriteCtx, function: Any, args: Args | None = None, **options: Any) -> str:
        """Run an action; return the id of the run.

        Args:
            ctx: of a mutation, whose transaction it is a part of, or of an action.
            function: an action, as `ctx.scheduler` takes it. It must bear being run twice.
            args: its arguments.
            options: `on_complete`, a mutation that is told the result, once; and `initial_backoff_ms`, `base` and
                `max_failures` of this run.
        """
        return await self._start(ctx, function, args, {}, **options)

    async def run_at(self, ctx: WriteCtx, time: float, function: Any, args: Args | None = None, **options: Any) -> str:
        """Run an action at a time, in milliseconds since the Unix epoch."""
        return await self._start(ctx, function, args, {"runAt": time}, **options)

    async def run_after(
        self, ctx: WriteCtx, delay: float, function: Any, args: Args | None = None, **options: Any
    ) -> str:
        """Run an action after so many milliseconds."""
        return await self._start(ctx, function, args, {"runAfter": delay}, **options)

    async def status(self, ctx: ReadCtx, run_id: str) -> dict[str, Any]:
        """Return `{"type": "inProgress"}` or `{"type": "completed", "result": ...}`.

        Raises:
            ValueError: there is no such run, perhaps any more.
        """
        status: dict[str, Any] = await ctx.run_query(self.component.runs.status, {"runId": run_id})
        return status

    async def cancel(self, ctx: WriteCtx, run_id: str) -> bool:
        """End a run as canceled, unless it has ended; return whether. An attempt that runs is not stopped."""
        return bool(await ctx.run_mutation(self.component.runs.cancel, {"runId": run_id}))

    async def cleanup(self, ctx: WriteCtx, run_id: str) -> None:
        """Forget a run that has ended, which would else be done after a week.

        Raises:
            ValueError: there is no such run, or it has not ended.
        """
        await ctx.run_mutation(self.component.runs.cleanup, {"runId": run_id})

    async def _start(
        self,
        ctx: WriteCtx,
        function: Any,
        args: Args | None,
        when: dict[str, float],
        *,
        on_complete: Any = None,
        initial_backoff_ms: float | None = None,
        base: float | None = None,
        max_failures: int | None = None,
    ) -> str:
        own = {"initialBackoffMs": initial_backoff_ms, "base": base, "maxFailures": max_failures}
        options: dict[str, Any] = {**self._options, **when}
        options |= {name: value for name, value in own.items() if value is not None}
        if on_complete is not None:
            options["onComplete"] = await ctx.function_handle(on_complete)
        call = {
            "functionHandle": await ctx.function_handle(function),
            "functionArgs": dict(args or {}),
            "options": options,
        }
        return str(await ctx.run_mutation(self.component.runs.start, call))
