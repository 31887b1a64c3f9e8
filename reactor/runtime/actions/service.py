"""Actions: functions that reach the world, away from the engine's thread.

Owns the actions under way: how many there may be, how long they may take, and what they may ask of the engine. Promises
that nothing an action does delays a query by more than one slice (but for what holds the interpreter itself), that
every end is reported exactly once, on the engine's thread, and that none outlives its deployment unreported. A service
of the host; its loops and threads are made on first use (`docs/design/15-actions.md`).
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from reactor.auth.identity import ANONYMOUS
from reactor.errors import (
    Error,
    FunctionNotFound,
    FunctionTimeout,
    ProtocolError,
    TooManyRequests,
    Unavailable,
)
from reactor.limits import Limits
from reactor.ports import Clock
from reactor.runtime.actions.line import Line
from reactor.runtime.actions.loops import ActionLoops, post
from reactor.runtime.actions.ports import Deliver, Receive, Request
from reactor.runtime.actions.runs import ActionRun, Ended, Task, Work
from reactor.runtime.arguments import encode_arguments
from reactor.runtime.calls import Call, Outcome, Refused, Success, request_id_of
from reactor.runtime.components.targets import Address, address_of, find_outside, find_scope
from reactor.runtime.decorators import Kind
from reactor.runtime.environment.mapping import SnapshotEnvironment
from reactor.runtime.executor import Executor
from reactor.runtime.failures import told_of
from reactor.runtime.files.store import Files
from reactor.runtime.invocation import check_depth, encode_result, find_action, read_arguments
from reactor.runtime.registry import RegisteredFunction
from reactor.runtime.runs import Done
from reactor.runtime.versions import Version

log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 1.0  # that loops which are not blocked take to end, at most


class Actions:
    """The actions of one deployment. Belongs to the engine's thread but for what says otherwise."""

    def __init__(self, executor: Executor, clock: Clock, limits: Limits) -> None:
        self._executor = executor
        self._database = executor.database
        self._clock = clock
        self._limits = limits
        self._engine = asyncio.get_running_loop()
        self._places = Line(limits.actions)
        self._admitted = Line(limits.actions)  # threads of those that somebody else admits
        self._runs: dict[ActionRun, Callable[[], None]] = {}  # not yet reported, with what takes a place for them
        self._loops = ActionLoops(limits.action_stall_seconds, limits.actions)
        self._is_closing = False
        self._quiet = asyncio.Event()

    # The service.

    def start(self) -> None:
        """Begin: nothing to do before the first action."""

    async def stop(self) -> None:
        """Cancel what is under way, and end the threads that can be ended."""
        await self.quiesce()
        await self._loops.close(CLOSE_SECONDS)

    async def quiesce(self) -> None:
        """Begin no action any more, cancel those under way, and return when all of their ends are reported."""
        self._is_closing = True
        for run in list(self._runs):
            run.cancel(Unavailable("The deployment is shutting down; the action was stopped. What it did stays."))
        while self._runs:
            self._quiet.clear()
            await self._quiet.wait()

    def __len__(self) -> int:
        """How many actions are under way or wait for a place."""
        return len(self._runs)

    # Running.

    def act(
        self,
        call: Call,
        done: Done,
        *,
        is_patient: bool = False,
        parent: ActionRun | None = None,
        handler: RegisteredFunction | None = None,
    ) -> Callable[[], None] | None:
        """Run an action of the project, or `handler` instead; `done` gets its outcome. See `perform`."""
        executor, database = self._executor, self._database
        version: Version | None = None
        try:
            version = executor.versions.at(database.durable_ts)
            if handler is None:
                function = find_action(version, call)
            else:
                function = handler
                find_scope(version, None, call.component)
            if function.component != call.component:  # named by a handle
                call = msgspec.structs.replace(call, component=function.component)
            if parent is not None:
                check_depth(parent.depth)
        except (Unavailable, ProtocolError) as error:
            done(Refused(error))
            return None
        except Error as error:
            done(executor.failure(call, error, database.durable_ts, version, ()))
            return None
        task = Task(
            call, version, function.label, self._work(function, call), function.function.is_async, shown=function.path
        )
        return self.perform(task, partial(self._concluded, task, done), is_patient=is_patient, parent=parent)

    def perform(
        self,
        task: Task,
        done: Callable[[Ended], None],
        *,
        is_patient: bool = False,
        is_admitted: bool = False,
        parent: ActionRun | None = None,
    ) -> Callable[[], None]:
        """Run any code as an action: with a `ctx`, log lines, limits and cancellation.

        It waits for a place for `action_wait_seconds`, or when `is_patient` as long as it takes; a part of another
        action (`parent`) shares the place and the time of that one. One that `is_admitted` takes none: its caller
        bounds how many there are. One of these that needs a thread of its own waits for a place all the same, of
        which there are as many again: threads cost more than whoever admits can know.

        Returns what cancels it; doing so late or twice is harmless.
        """
        run = ActionRun(self, task, done, parent)
        task.version.hold()
        begin = partial(self.begin, run)
        self._runs[run] = begin
        if parent is not None:
            begin()
        elif self._is_closing:
            self._engine.call_soon(run.cancel, Unavailable("The deployment is shutting down; no action is begun."))
        elif is_admitted and task.is_async:
            self.begin(run)
        else:
            line = run.line = self._admitted if is_admitted else self._places
            if not is_patient and line.running >= line.places:
                run.timers.append(self._engine.call_later(self._limits.action_wait_seconds, self._refuse, run))
            line.enter(begin)
        return lambda: run.cancel(Unavailable("Nobody waits for this action any more."))

    def begin(self, run: ActionRun) -> None:
        """Start `run`, which has a place now."""
        run.has_place = True
        run.began_ns = self._clock.now_ns()
        scope = run.task.version.scopes[run.call.component]
        run.variables = SnapshotEnvironment(scope.environment(self._database.begin_query()).everything())
        for timer in run.timers:
            timer.cancel()
        if run.parent is None:
            run.timers.append(self._engine.call_later(self._limits.action_seconds, self._time_is_up, run))
        try:
            if run.task.is_async:
                self._loops.take(run)
            else:
                run.begin_in_thread()
        except (OSError, RuntimeError, MemoryError) as error:
            log.warning("The action %s was not begun: %s", run.task.path, error)
            full = TooManyRequests(f"The process can't have another thread ({error}), so nothing was begun.")
            self._engine.call_soon(run.cancel, full)  # later, since its end gives its place to the next

    def _refuse(self, run: ActionRun) -> None:
        limit = self._limits.actions
        run.cancel(
            TooManyRequests(
                f"Too many concurrent requests. Your backend is limited to {limit} concurrent actions. "
                "Try again later, or raise REACTOR_ACTIONS."
            )
        )

    def _time_is_up(self, run: ActionRun) -> None:
        limit = self._limits.action_seconds
        run.cancel(FunctionTimeout(f"Function execution timed out (maximum duration: {limit:g}s)"))

    def interrupt(self, run: ActionRun) -> None:
        """Give a run that was cancelled some time to end."""
        grace = min(self._limits.action_grace_seconds, self._limits.shutdown_seconds / 2)
        run.timers.append(self._engine.call_later(grace, run.abandon))

    def forget(self, run: ActionRun) -> None:
        """Give the place of a run, whose end was reported, to another."""
        begin = self._runs.pop(run)
        if run.line is not None and not run.line.withdraw(begin) and run.has_place:
            run.line.leave()
        self._quiet.set()

    def left(self, run: ActionRun) -> None:
        """Let go of what a run used, which has really ended."""
        self._loops.leave(run)
        run.task.version.let_go()

    # The function log.

    def new_execution(self) -> int:
        """Return a number for the function log."""
        return self._executor.log.new_execution()

    def take_down_lines(self, run: ActionRun, lines: tuple[str, ...]) -> None:
        """Have the function log take down what a run has logged since the last time."""
        task = run.task
        self._executor.log.add(
            run.call,
            _kind_of(task),
            task.shown,
            execution=run.execution,
            began_ns=run.began_ns,
            lines=lines,
            is_progress=True,
        )

    def take_down(self, run: ActionRun, ended: Ended) -> None:
        """Have the function log take down how a run has ended, if it has begun."""
        task, error = run.task, ended.error
        if not run.has_place:
            return
        text = None if error is None else told_of(error, task.version.project.files)
        self._executor.log.add(
            run.call,
            _kind_of(task),
            task.shown,
            execution=run.execution,
            began_ns=run.began_ns,
            error=text,
            size=len(ended.result) if isinstance(ended.result, bytes) else 0,
            status=0 if task.answered is None else task.answered.status,
        )

    # Functions of the project.

    def _work(self, function: RegisteredFunction, call: Call) -> Work:
        handler, data = function.function.handler, bytes(call.args)
        tables = self._database.catalog.namespace(function.component)

        async def run_async(ctx: Any) -> bytes:
            return encode_result(function, await handler(ctx, **read_arguments(function, data, tables)), tables)

        def run(ctx: Any) -> bytes:
            return encode_result(function, handler(ctx, **read_arguments(function, data, tables)), tables)

        return run_async if function.function.is_async else run

    def _concluded(self, task: Task, done: Done, ended: Ended) -> None:
        executor, ts = self._executor, self._database.durable_ts
        log_lines = () if executor.redact else ended.log_lines
        if isinstance(ended.stopped, Unavailable | TooManyRequests):
            done(Refused(ended.stopped))
        elif ended.error is not None:
            done(executor.failure(task.call, ended.error, ts, task.version, log_lines))
        else:
            done(Success(ended.result, ts, log_lines))

    # What actions ask of the engine; on their threads.

    @property
    def files(self) -> Files:
        """The stored files of the deployment."""
        return self._executor.files

    def post(self, callback: Callable[..., None], *args: Any) -> bool:
        """Have `callback` called on the engine's thread; False when it has closed."""
        return post(self._engine, callback, *args)

    def now_ns(self) -> int:
        """Return the wall clock in nanoseconds."""
        return self._clock.now_ns()

    def request_handler(self, run: ActionRun, kind: str, handler: Callable[[Any], Any]) -> Request:
        """Return the request to run a handler as an internal query or mutation."""
        call = _part_of(run, run.call.path, b"{}")

        async def run_handler(ctx: Any) -> Any:
            result = handler(ctx)
            return await result if inspect.isawaitable(result) else result

        submit = self._executor.submit_handler if kind == "mutation" else self._executor.submit_query_handler
        return lambda deliver: submit(run_handler, call, deliver)

    def request_function(
        self, run: ActionRun, kind: str, function: object, args: tuple[object, ...], named: Mapping[str, object]
    ) -> tuple[Request, Receive]:
        """Return the request to run a function of the project, and what turns its result into the caller's."""
        address = address_of(run.call.component, function)
        target = self._find(run.task.version, address)
        call = _part_of(run, target.path, encode_arguments(target, args, named))
        if target.component != call.component:
            identity = call.identity if call.identity.kind == "admin" else ANONYMOUS
            call = msgspec.structs.replace(call, component=target.component, identity=identity)
        executor = self._executor

        def request(deliver: Deliver) -> Callable[[], None] | None:
            if kind == "action":
                return self.act(call, deliver, parent=run)

            def heard(outcome: Outcome) -> None:
                if not isinstance(outcome, Refused):
                    run.log.relay(outcome.log_lines, f"[{target.label}] ")
                deliver(outcome)

            submit = executor.submit_query if kind == "query" else executor.submit_mutation
            submit(call, heard)
            return None

        return request, target.binder.receive

    def _find(self, version: Version, address: Address) -> RegisteredFunction:
        """Return what is at `address` for code of `version`, whose types the result should have; else for the newest.

        Raises:
            FunctionNotFound: there is nothing in either.
        """
        try:
            return find_outside(version, address)
        except FunctionNotFound:
            return find_outside(self._executor.versions.latest(), address)


def _kind_of(task: Task) -> Kind:
    return "action" if task.answered is None else "http_action"


def _part_of(run: ActionRun, path: str, args: bytes) -> Call:
    """Return a call that code of `run` makes."""
    call = run.call
    return Call(
        path=path,
        args=args,
        identity=call.identity,
        request_id=request_id_of(call),
        internal=True,
        component=call.component,
        job=call.job,
        caller="Action",
        parent=run.execution,
    )
