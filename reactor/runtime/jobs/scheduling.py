"""`ctx.scheduler`: what a mutation may schedule and cancel.

Owns the checks of a call before anything is written, and their official texts. Promises that a scheduled function is a
document of the mutation that schedules it, so that it exists when the mutation has committed and else never did, and
that what a cancelled function goes on to schedule is cancelled from the start. Arguments are made into values now, and
held against the declaration of the function when it runs. Used by `context`.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, ParamSpec, overload

from reactor.engine.catalog import SCHEDULED_FUNCTIONS
from reactor.errors import FunctionNotFound, InvalidArgument, LimitExceeded, ProtocolError, SchedulingError
from reactor.limits import (
    LARGE_SCHEDULED_ARGS_BYTES,
    MAX_SCHEDULED_ARGS_BYTES,
    MAX_SCHEDULED_DAYS,
    MAX_SCHEDULED_FUNCTIONS,
)
from reactor.protocol.references import ActionReference, MutationReference
from reactor.runtime.arguments import encode_arguments
from reactor.runtime.components.targets import HANDLE, address_of, find_target
from reactor.runtime.decorators import Function
from reactor.runtime.executions import Execution, Operation
from reactor.runtime.jobs.documents import end_job, insert_job, is_unfinished, job_table, read_job
from reactor.runtime.references import PathOrReference, parse_path
from reactor.runtime.registry import RegisteredFunction
from reactor.values.ids import decode_id

D = ParamSpec("D")
P = ParamSpec("P")
Delay = float | timedelta
Schedulable = MutationReference[D, P, Any] | ActionReference[D, P, Any]
Moment = float | datetime
When = Callable[[float], float]  # from the time of the mutation to the one asked for, both in milliseconds

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FURTHEST_MS: Final = MAX_SCHEDULED_DAYS * 86_400_000.0


class Scheduler:
    """`ctx.scheduler` of a mutation."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    @overload
    def run_after(
        self, delay: Delay, function: Function[P, Any], /, *args: P.args, **named: P.kwargs
    ) -> Operation[str]: ...

    @overload
    def run_after(self, delay: Delay, function: Function[..., Any], args: Mapping[str, Any], /) -> Operation[str]: ...

    @overload
    def run_after(
        self, delay: Delay, function: Schedulable[D, P], /, *args: P.args, **named: P.kwargs
    ) -> Operation[str]: ...

    @overload
    def run_after(
        self, delay: Delay, function: Schedulable[D, P], /, *args: D.args, **named: D.kwargs
    ) -> Operation[str]: ...

    @overload
    def run_after(
        self, delay: Delay, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any
    ) -> Operation[str]: ...

    def run_after(self, delay: Delay, function: Any, /, *args: Any, **named: Any) -> Operation[str]:
        """Run a mutation or action after `delay` (milliseconds or a `timedelta`); return the id of the scheduled one.

        `function` is what `ctx.run_mutation` takes; arguments are one dict, or keywords. It runs as nobody: no identity
        goes with it.

        Raises:
            SchedulingError: there is no such function, or the time is more than 5 years away.
            ArgumentsInvalid: the arguments are no values.
            InvalidArgument: the delay is none.
            LimitExceeded: this mutation schedules too many functions, or with too large arguments.
        """
        when = check_delay(delay)
        return Operation(
            self._execution, "scheduler.run_after()", lambda: _schedule(self._execution, when, function, args, named)
        )

    @overload
    def run_at(
        self, time: Moment, function: Function[P, Any], /, *args: P.args, **named: P.kwargs
    ) -> Operation[str]: ...

    @overload
    def run_at(self, time: Moment, function: Function[..., Any], args: Mapping[str, Any], /) -> Operation[str]: ...

    @overload
    def run_at(
        self, time: Moment, function: Schedulable[D, P], /, *args: P.args, **named: P.kwargs
    ) -> Operation[str]: ...

    @overload
    def run_at(
        self, time: Moment, function: Schedulable[D, P], /, *args: D.args, **named: D.kwargs
    ) -> Operation[str]: ...

    @overload
    def run_at(
        self, time: Moment, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any
    ) -> Operation[str]: ...

    def run_at(self, time: Moment, function: Any, /, *args: Any, **named: Any) -> Operation[str]:
        """Run a mutation or action at `time`: milliseconds since the Unix epoch, or an aware `datetime`.

        A time that has passed means at once. Otherwise like `run_after`.

        Raises:
            SchedulingError, ArgumentsInvalid, InvalidArgument, LimitExceeded: see `run_after`.
        """
        when = check_time(time)
        return Operation(
            self._execution, "scheduler.run_at()", lambda: _schedule(self._execution, when, function, args, named)
        )

    def cancel(self, scheduled_id: str, /) -> Operation[None]:
        """Keep a scheduled function from running. One that has ended, or was cancelled before, stays as it is.

        An action that runs goes on, but what it schedules from now on is cancelled.

        Raises:
            InvalidArgument: it is no id of a scheduled function.
            SchedulingError: a scheduled mutation can't cancel itself.
        """
        return Operation(self._execution, "scheduler.cancel()", lambda: _cancel(self._execution, scheduled_id))


class BlockingScheduler:
    """`ctx.scheduler` of a plain `def` mutation."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    @overload
    def run_after(self, delay: Delay, function: Function[P, Any], /, *args: P.args, **named: P.kwargs) -> str: ...

    @overload
    def run_after(self, delay: Delay, function: Function[..., Any], args: Mapping[str, Any], /) -> str: ...

    @overload
    def run_after(self, delay: Delay, function: Schedulable[D, P], /, *args: P.args, **named: P.kwargs) -> str: ...

    @overload
    def run_after(self, delay: Delay, function: Schedulable[D, P], /, *args: D.args, **named: D.kwargs) -> str: ...

    @overload
    def run_after(
        self, delay: Delay, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any
    ) -> str: ...

    def run_after(self, delay: Delay, function: Any, /, *args: Any, **named: Any) -> str:
        """Run a mutation or action after `delay`; see `Scheduler.run_after`."""
        self._execution.check_alive()
        return _schedule(self._execution, check_delay(delay), function, args, named)

    @overload
    def run_at(self, time: Moment, function: Function[P, Any], /, *args: P.args, **named: P.kwargs) -> str: ...

    @overload
    def run_at(self, time: Moment, function: Function[..., Any], args: Mapping[str, Any], /) -> str: ...

    @overload
    def run_at(self, time: Moment, function: Schedulable[D, P], /, *args: P.args, **named: P.kwargs) -> str: ...

    @overload
    def run_at(self, time: Moment, function: Schedulable[D, P], /, *args: D.args, **named: D.kwargs) -> str: ...

    @overload
    def run_at(
        self, time: Moment, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any
    ) -> str: ...

    def run_at(self, time: Moment, function: Any, /, *args: Any, **named: Any) -> str:
        """Run a mutation or action at `time`; see `Scheduler.run_at`."""
        self._execution.check_alive()
        return _schedule(self._execution, check_time(time), function, args, named)

    def cancel(self, scheduled_id: str, /) -> None:
        """Keep a scheduled function from running; see `Scheduler.cancel`."""
        self._execution.check_alive()
        _cancel(self._execution, scheduled_id)


def check_delay(delay: object) -> When:
    """Return the time that a delay leads to.

    Raises:
        InvalidArgument: it is none.
    """
    if isinstance(delay, timedelta):
        milliseconds = delay / _MILLISECOND
    elif isinstance(delay, int | float) and not isinstance(delay, bool) and math.isfinite(delay):
        milliseconds = float(delay)
    else:
        raise InvalidArgument(f"A delay is a finite number of milliseconds or a timedelta, not {delay!r}.")
    if milliseconds < 0:
        raise InvalidArgument(f"A delay can't be negative: {delay!r}. For a time that has passed, use run_at.")
    return lambda now_ms: now_ms + milliseconds


def check_time(time: object) -> When:
    """Return the time that was asked for.

    Raises:
        InvalidArgument: it is none.
    """
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise InvalidArgument(
                f"{time!r} names no time zone: run_at takes an aware datetime, such as datetime(..., tzinfo=UTC)."
            )
        milliseconds = (time - _EPOCH) / _MILLISECOND
    elif isinstance(time, int | float) and not isinstance(time, bool) and math.isfinite(time):
        milliseconds = float(time)
    else:
        raise InvalidArgument(
            f"A time is a finite number of milliseconds since the Unix epoch or an aware datetime, not {time!r}."
        )
    return lambda now_ms: milliseconds


def _schedule(
    execution: Execution, when: When, function: object, args: tuple[object, ...], named: Mapping[str, object]
) -> str:
    target = _target(execution, function)
    data = encode_arguments(target, args, named)
    owner, transaction = execution.owner, execution.documents.transaction
    database = owner.database
    now_ms = execution.ambient.now_ms
    scheduled_ms = when(now_ms)
    if abs(scheduled_ms - now_ms) > _FURTHEST_MS:
        where = "future" if scheduled_ms > now_ms else "past"
        raise SchedulingError(
            "InvalidScheduledFunctionDelay", f"{scheduled_ms:.0f} is more than 5 years in the {where}"
        )
    table = job_table(database, execution.documents.scope.path)
    inserted = transaction.inserted(SCHEDULED_FUNCTIONS)
    if inserted.documents >= MAX_SCHEDULED_FUNCTIONS:
        raise LimitExceeded(
            "TooManyFunctionsScheduled",
            f"Too many functions scheduled by this mutation (limit: {MAX_SCHEDULED_FUNCTIONS})",
        )
    if inserted.bytes + len(data) > MAX_SCHEDULED_ARGS_BYTES:
        raise LimitExceeded(
            "ScheduledFunctionsArgumentsTooLarge",
            "Too large total size of the arguments of scheduled functions from this mutation "
            f"(limit: {MAX_SCHEDULED_ARGS_BYTES} bytes)",
        )
    call = owner.call
    parent = None if call.job is None else read_job(transaction, call.job)
    is_cancelled = parent is not None and parent["state"]["kind"] == "canceled"
    job_id = insert_job(
        database,
        transaction,
        table,
        name=target.shown,
        args=data,
        scheduled_ms=scheduled_ms,
        now_ms=now_ms,
        component=target.component,
        is_cancelled=is_cancelled,
    )
    if len(data) > LARGE_SCHEDULED_ARGS_BYTES:
        execution.ambient.log.warn(
            f"Large arguments of the scheduled function {target.shown} (actual: {len(data)} bytes, advised: at most "
            f"{LARGE_SCHEDULED_ARGS_BYTES}). Keep what is large in documents or stored files, and pass its id."
        )
    inserted.documents += 1
    inserted.bytes += len(data)
    return job_id


def _target(execution: Execution, function: object) -> RegisteredFunction:
    version, transaction = execution.owner.version, execution.documents.transaction
    assert version is not None
    scope = execution.documents.scope
    try:
        return find_target(version, transaction, scope, function)
    except FunctionNotFound as error:
        address = address_of(scope.path, function)
        if address.component != scope.path or address.path.startswith(HANDLE):
            raise SchedulingError("InvalidScheduledFunction", str(error)) from None
    try:
        path = parse_path(address.path)
    except ProtocolError as error:
        raise SchedulingError("InvalidScheduledFunction", str(error)) from None
    modules = {known.rpartition(":")[0] for known in scope.registry.functions}
    if path.module in modules:
        raise SchedulingError(
            "InvalidScheduledFunction",
            f"Attempted to schedule function, but no exported function {path.function} found in the file: "
            f"{path.module}.js. Did you forget to export it?",
        )
    raise SchedulingError(
        "InvalidScheduledFunction", f"Attempted to schedule function at nonexistent path: {path.module}.js"
    )


def _cancel(execution: Execution, scheduled_id: object) -> None:
    database, transaction = execution.owner.database, execution.documents.transaction
    table = job_table(database, execution.documents.scope.path)
    try:
        is_right = isinstance(scheduled_id, str) and decode_id(scheduled_id)[0] == table.number
    except InvalidArgument:
        is_right = False
    if not is_right:
        raise InvalidArgument(
            "Invalid scheduled function ID. The ID must be an ID on the '_scheduled_functions' table."
        )
    assert isinstance(scheduled_id, str)
    job = read_job(transaction, scheduled_id)
    if job is None or not is_unfinished(job):
        return
    # That it runs stands in the transaction of nobody but itself: an action's was committed before it began.
    if job["state"]["kind"] == "inProgress" and scheduled_id in transaction.writes:
        raise SchedulingError("ScheduledFunctionCancelingItself", "A mutation cannot cancel itself")
    end_job(transaction, job, "canceled", execution.ambient.now_ms)
