"""`ctx.scheduler` of an action: each call is a mutation of its own, which stays whatever becomes of the action.

What is checked, and when, is as in a mutation (`scheduling`). Used by `action_context`.
"""

import copy
from collections.abc import Mapping
from typing import Any, ParamSpec, overload

from reactor.runtime.actions.ports import ActionCall, Port
from reactor.runtime.decorators import Function
from reactor.runtime.jobs.scheduling import Delay, Moment, Schedulable, check_delay, check_time
from reactor.runtime.references import PathOrReference

D = ParamSpec("D")
P = ParamSpec("P")


class ActionScheduler:
    """`ctx.scheduler` of an action; in a plain `def` action the calls give their results, without `await`."""

    __slots__ = ("_port",)

    def __init__(self, port: Port) -> None:
        self._port = port

    @overload
    def run_after(
        self, delay: Delay, function: Function[P, Any], /, *args: P.args, **named: P.kwargs
    ) -> ActionCall[str]: ...

    @overload
    def run_after(self, delay: Delay, function: Function[..., Any], args: Mapping[str, Any], /) -> ActionCall[str]: ...

    @overload
    def run_after(
        self, delay: Delay, function: Schedulable[D, P], /, *args: P.args, **named: P.kwargs
    ) -> ActionCall[str]: ...

    @overload
    def run_after(
        self, delay: Delay, function: Schedulable[D, P], /, *args: D.args, **named: D.kwargs
    ) -> ActionCall[str]: ...

    @overload
    def run_after(
        self, delay: Delay, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any
    ) -> ActionCall[str]: ...

    def run_after(self, delay: Delay, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run a mutation or action after `delay` (milliseconds or a `timedelta`); give the id of the scheduled one.

        Raises:
            SchedulingError, ArgumentsInvalid, InvalidArgument, LimitExceeded: see `Scheduler.run_after`.
        """
        check_delay(delay)
        return self._schedule("run_after", delay, function, args, named)

    @overload
    def run_at(
        self, time: Moment, function: Function[P, Any], /, *args: P.args, **named: P.kwargs
    ) -> ActionCall[str]: ...

    @overload
    def run_at(self, time: Moment, function: Function[..., Any], args: Mapping[str, Any], /) -> ActionCall[str]: ...

    @overload
    def run_at(
        self, time: Moment, function: Schedulable[D, P], /, *args: P.args, **named: P.kwargs
    ) -> ActionCall[str]: ...

    @overload
    def run_at(
        self, time: Moment, function: Schedulable[D, P], /, *args: D.args, **named: D.kwargs
    ) -> ActionCall[str]: ...

    @overload
    def run_at(
        self, time: Moment, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any
    ) -> ActionCall[str]: ...

    def run_at(self, time: Moment, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run a mutation or action at `time`: milliseconds since the Unix epoch, or an aware `datetime`.

        Raises:
            SchedulingError, ArgumentsInvalid, InvalidArgument, LimitExceeded: see `Scheduler.run_after`.
        """
        check_time(time)
        return self._schedule("run_at", time, function, args, named)

    def cancel(self, scheduled_id: str, /) -> ActionCall[None]:
        """Keep a scheduled function from running; see `Scheduler.cancel`.

        Raises:
            InvalidArgument: it is no id of a scheduled function.
        """
        call: ActionCall[None] = self._port.mutate(lambda ctx: ctx.scheduler.cancel(scheduled_id), "scheduler.cancel()")
        return call

    def _schedule(self, verb: str, when: Any, function: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        # The mutation runs later: what the action does to the arguments meanwhile must not reach it.
        given, by_name = copy.deepcopy(args), copy.deepcopy(dict(named))
        return self._port.mutate(
            lambda ctx: getattr(ctx.scheduler, verb)(when, function, *given, **by_name), f"scheduler.{verb}()"
        )
