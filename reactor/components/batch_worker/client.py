"""`BatchWorker`, one loop as its user has it, and the two answers of a worker."""

from typing import Any, Final

from reactor.components.contexts import ReadCtx, WriteCtx

MAIN: Final = "main"


class BatchWorker:
    """A loop that calls the mutation `worker`, with its `name` and cursor, until that says there is nothing to do."""

    def __init__(
        self,
        component: Any,
        worker: Any,
        *,
        name: str = MAIN,
        debounce_ms: float | None = None,
        monitor_lag_ms: float | None = None,
    ) -> None:
        """Name a loop; it begins to exist with the first ping.

        Args:
            component: where it is mounted: `components.batch_worker`.
            worker: a mutation of yours, such as `internal.queue.drain`.
            name: of this loop among those of one mount.
            debounce_ms: least time between the begins of two batches, 0 by default.
            monitor_lag_ms: after how long a worker that failed is tried again, 60,000 by default.
        """
        self.component = component
        self.worker = worker
        self.name = name
        self._config: dict[str, float] = {}
        if debounce_ms is not None:
            self._config["debounceMs"] = debounce_ms
        if monitor_lag_ms is not None:
            self._config["monitorLagMs"] = monitor_lag_ms

    async def ping(self, ctx: WriteCtx, *, at: float | None = None) -> None:
        """Have the worker called soon, or at the time `at` (milliseconds) at the latest.

        Call it in the mutation that adds to the queue. A loop that runs already is left alone.
        """
        args: dict[str, Any] = {"name": self.name, "worker": await ctx.function_handle(self.worker)}
        if self._config:
            args["config"] = self._config
        if at is not None:
            args["at"] = at
        await ctx.run_mutation(self.component.loops.ping, args)

    async def stop(self, ctx: WriteCtx) -> None:
        """Have the worker called no more, whoever pings, until `start`."""
        await ctx.run_mutation(self.component.loops.stop, {"name": self.name})

    async def start(self, ctx: WriteCtx) -> None:
        """Go on after `stop`, with a look at the queue. A loop that was not stopped is left alone."""
        await ctx.run_mutation(self.component.loops.start, {"name": self.name})

    async def status(self, ctx: ReadCtx) -> dict[str, Any] | None:
        """Return `{"kind": "idle" | "running" | "waiting" | "stopped", ...}`, or None before the first ping.

        `until` says how long it waits; `error` what the last run of the worker failed with.
        """
        status: dict[str, Any] | None = await ctx.run_query(self.component.loops.status, {"name": self.name})
        return status


def work(*, debounce_ms: float | None = None, cursor: Any = None) -> dict[str, Any]:
    """Return the answer of a worker that has done something: call it again, after `debounce_ms`, with `cursor`.

    Without a cursor the one it was given stays.
    """
    answer: dict[str, Any] = {"kind": "work"}
    if debounce_ms is not None:
        answer["debounceMs"] = debounce_ms
    if cursor is not None:
        answer["cursor"] = cursor
    return answer


def idle(*, timeout_ms: float | None = None, cursor: Any = None) -> dict[str, Any]:
    """Return the answer of a worker that leaves nothing to do: call it again when pinged, or after `timeout_ms`.

    It must have looked at its queue in this transaction, so that what is added meanwhile is a conflict.
    """
    answer: dict[str, Any] = {"kind": "idle"}
    if timeout_ms is not None:
        answer["timeoutMs"] = timeout_ms
    if cursor is not None:
        answer["cursor"] = cursor
    return answer
