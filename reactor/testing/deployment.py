"""The deployment that tests get: in memory, on a virtual clock, with a project that was loaded once.

Promises that everything but time and the disk is the real thing, that a fresh one costs milliseconds, since code is
not imported again, and that a fork of a prepared one starts with its data, of which neither sees what the other does
later. Used by the pytest plugin.
"""

import difflib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from reactor.errors import InvalidArgument, Unavailable
from reactor.limits import FINISH_SECONDS, MAX_FINISH_ROUNDS, Limits
from reactor.runtime.failures import unwrap
from reactor.runtime.project import Project
from reactor.server.app import NOT_OPEN, Deployment
from reactor.server.backend import outcome_of
from reactor.server.blocking import BlockingCaller, BlockingDeployment
from reactor.server.callers import Caller
from reactor.server.data import MEMORY
from reactor.storage.blobs_memory import MemoryBlobs
from reactor.storage.interface import BlobStore, Persistence
from reactor.storage.memory import MemoryPersistence
from reactor.testing.clock import START, VirtualClock
from reactor.testing.interleaving import BlockingHeldMutation, HeldMutation
from reactor.testing.timeline import Timeline
from reactor.testing.usage import Usage, record_usage
from reactor.values.types import Value


class SharedProject(Project):
    """A loaded project that many deployments use at a time; the one who loaded it releases it."""

    def __init__(self, project: Project) -> None:
        self.__dict__.update(vars(project))

    def release(self) -> None:
        """Do nothing: a deployment that closes is not the last user."""


class MemoryDeployment(Deployment):
    """A `Deployment` for one test."""

    clock: VirtualClock

    def __init__(
        self, project: Project, folder: Path, snapshot: "Snapshot | None" = None, *, determinism_sample: int = 0
    ) -> None:
        """With `determinism_sample`, one run in so many is repeated, and a warning logged when it differs."""
        clock = VirtualClock(START if snapshot is None else snapshot.time)
        name, secret = (None, None) if snapshot is None else snapshot.instance
        super().__init__(
            folder,
            data=MEMORY,
            clock=clock,
            alarms=clock,
            limits=Limits(determinism_sample=determinism_sample, cron_splay_seconds=0),
            instance_name=name,
            instance_secret=secret,
            development=True,
        )
        self._project = project
        self._memory = MemoryPersistence() if snapshot is None else snapshot.data.fork()
        self._files = MemoryBlobs(self.limits.data_bytes) if snapshot is None else snapshot.files.fork()

    async def open(self, *, load: bool = True) -> None:
        """Open with the project given; `reload` reads the folder, as always.

        Raises:
            InvalidArgument: it is open already.
        """
        await super().open(load=False)
        if load:
            await self.push(SharedProject(self._project))

    # What runs by itself.

    async def advance(
        self,
        by: timedelta = timedelta(),
        /,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        timeout: float | None = FINISH_SECONDS,  # noqa: ASYNC109 - real seconds, and what still runs is named
    ) -> None:
        """Let time pass: `advance(minutes=5)`. Scheduled functions and crons run on the way, each at its own time.

        When this returns, everything that was due has ended. `clock.advance` is the step of a clock in one go, with
        nobody running meanwhile, as on a server that was down.

        Args:
            by: how long, or by named units.
            timeout: real seconds to wait, or None for as long as it takes.

        Raises:
            InvalidArgument: the span is negative.
            LimitExceeded: functions at one moment go on scheduling others for that same moment.
            TimeoutError: a function did not end; the text names it.
            Unavailable: the deployment is not open.
        """
        by = by + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
        await self._timeline().advance(by, MAX_FINISH_ROUNDS, timeout)

    async def finish_in_progress_scheduled_functions(
        self,
        *,
        max_iterations: int = MAX_FINISH_ROUNDS,
        timeout: float | None = FINISH_SECONDS,  # noqa: ASYNC109 - real seconds, and what still runs is named
    ) -> None:
        """Wait until every scheduled function and cron that is due has ended, and those it has scheduled for now, too.

        The clock stands still. What they did is durable then, and what has failed says so in its `state`.

        Args:
            max_iterations: how often what is scheduled may schedule others for now.
            timeout: real seconds to wait, or None for as long as it takes.

        Raises:
            LimitExceeded: more iterations were needed.
            TimeoutError: a function did not end; the text names it.
            Unavailable: the deployment is not open.
        """
        await self._timeline().finish_in_progress(max_iterations, timeout)

    async def finish_all_scheduled_functions(
        self,
        *,
        max_iterations: int = MAX_FINISH_ROUNDS,
        timeout: float | None = FINISH_SECONDS,  # noqa: ASYNC109 - real seconds, and what still runs is named
    ) -> None:
        """Let time pass until no scheduled function is left, those that were scheduled meanwhile included.

        The clock goes from one to the next. Crons that become due on the way run, too.

        Args:
            max_iterations: how often what is scheduled may schedule others, and the clock go on.
            timeout: real seconds to wait, or None for as long as it takes.

        Raises:
            LimitExceeded: more iterations were needed: a function that schedules itself has no end.
            TimeoutError: a function did not end; the text names it.
            Unavailable: the deployment is not open.
        """
        await self._timeline().finish_all(max_iterations, timeout)

    async def run_cron(self, name: str, /) -> Value:
        """Run a cron's function now, with its arguments, as nobody; return its result. Its schedule stays as it is.

        Raises:
            InvalidArgument: there is no cron of this name.
            Exception: whatever the function raised.
            Unavailable: the deployment is not open.
        """
        backend = self.backend()
        return unwrap(await outcome_of(backend.functions.submit_any, self._timeline().cron(name)))

    # Other deployments, and what is inside of this one.

    def module(self, name: str, /) -> ModuleType:
        """Return a module of the project as it runs here, for `monkeypatch.setattr(module, ...)`.

        An `import` in a test makes another one, which the deployment knows nothing of. The project is shared by all
        tests of a run, so what is changed in it must be put back, as `monkeypatch` does.

        Args:
            name: as in an import: `functions.messages`, or that of a helper that functions import.

        Raises:
            InvalidArgument: the project has not imported such a module.
            Unavailable: the deployment is not open.
        """
        modules = self.running().modules
        if name not in modules:
            close = difflib.get_close_matches(name, modules, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(modules))}."
            raise InvalidArgument(f"The project has no module {name!r}. {hint}")
        return modules[name]

    def _timeline(self) -> Timeline:
        self.backend()
        assert self._host is not None
        return Timeline(self._host, self.clock)

    def blocking(self) -> "BlockingMemoryDeployment":
        """Open on an event loop in a thread of its own, for plain tests. Close what this returns."""
        return BlockingMemoryDeployment(self)

    def snapshot(self) -> "Snapshot":
        """Return everything committed so far, with the time, for other deployments to start from."""
        time = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.clock.now_ns() // 1000)
        return Snapshot(
            self._project,
            self.project_dir,
            self._memory.fork(),
            self._files.fork(),
            time,
            self._instance if self._credentials is None else (self._credentials.name, self._credentials.secret),
            self.limits.determinism_sample,
        )

    def fork(self) -> "MemoryDeployment":
        """Return another deployment, not open yet, that starts with everything committed here so far."""
        return self.snapshot().fork()

    @asynccontextmanager
    async def hold(
        self, function: Any, args: Mapping[str, Any] | None = None, /, *, at: int, by: Caller | None = None
    ) -> AsyncIterator[HeldMutation]:
        """Start a mutation and hold it before its `at`-th `ctx` call: what others do in the block comes in between.

        `finish()` lets it go on and returns its result; the end of the block lets it go on in any case. A call that
        reads more documents than the engine does in one go counts once more for each further part.

        Args:
            function: a path, a reference or a decorated function.
            args: its arguments.
            at: 1 is before its first call, when it has read nothing yet.
            by: who calls, from `with_identity`.

        Raises:
            InvalidArgument: the mutation makes fewer calls.
            Exception: whatever the mutation raised before that call.
        """
        backend = self.backend()
        if self._host is None:
            raise Unavailable(NOT_OPEN)
        call = (by or self).call(backend, function, args or {})
        held = HeldMutation(self._host.executor, call, at)
        try:
            await held.reached()
            yield held
        finally:
            held.let_go()

    @contextmanager
    def record_usage(self) -> Iterator[list[Usage]]:
        """Give a list that grows by what each function run in the block has read and written, as limits count it.

        A question that is answered with a kept result is no run; an attempt that was lost is one.

        Raises:
            Unavailable: the deployment is not open.
        """
        if self._host is None:
            raise Unavailable(NOT_OPEN)
        with record_usage(self._host.executor) as runs:
            yield runs

    def _persistence(self, directory: Path | None) -> Persistence:
        return self._memory

    def _blobs(self, directory: Path | None) -> BlobStore:
        return self._files


class Snapshot:
    """The data of a deployment at one moment. It never changes; any number of deployments can start from it."""

    def __init__(
        self,
        project: Project,
        folder: Path,
        data: MemoryPersistence,
        files: MemoryBlobs,
        time: datetime,
        instance: tuple[str | None, str | None],
        determinism_sample: int,
    ) -> None:
        self.data = data
        self.files = files
        self.time = time
        self.instance = instance  # name and secret: kept with the data, so that cursors stay good
        self._project = project
        self._folder = folder
        self._determinism_sample = determinism_sample

    def fork(self) -> MemoryDeployment:
        """Return a deployment, not open yet, that starts with this data at this time."""
        return MemoryDeployment(self._project, self._folder, self, determinism_sample=self._determinism_sample)


class BlockingMemoryDeployment(BlockingDeployment):
    """A `MemoryDeployment` for plain tests."""

    def __init__(self, deployment: MemoryDeployment) -> None:
        super().__init__(deployment)
        self._memory_deployment = deployment

    @property
    def clock(self) -> VirtualClock:
        """The deployment's clock."""
        return self._memory_deployment.clock

    def snapshot(self) -> Snapshot:
        """See `MemoryDeployment.snapshot`."""
        return self._thread.run(self._memory_deployment.snapshot)

    def advance(
        self,
        by: timedelta = timedelta(),
        /,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        timeout: float | None = FINISH_SECONDS,
    ) -> None:
        """See `MemoryDeployment.advance`."""
        by = by + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
        self._thread.call(partial(self._memory_deployment.advance, by, timeout=timeout))

    def finish_in_progress_scheduled_functions(
        self, *, max_iterations: int = MAX_FINISH_ROUNDS, timeout: float | None = FINISH_SECONDS
    ) -> None:
        """See `MemoryDeployment.finish_in_progress_scheduled_functions`."""
        finish = self._memory_deployment.finish_in_progress_scheduled_functions
        self._thread.call(partial(finish, max_iterations=max_iterations, timeout=timeout))

    def finish_all_scheduled_functions(
        self, *, max_iterations: int = MAX_FINISH_ROUNDS, timeout: float | None = FINISH_SECONDS
    ) -> None:
        """See `MemoryDeployment.finish_all_scheduled_functions`."""
        finish = self._memory_deployment.finish_all_scheduled_functions
        self._thread.call(partial(finish, max_iterations=max_iterations, timeout=timeout))

    @contextmanager
    def record_usage(self) -> Iterator[list[Usage]]:
        """See `MemoryDeployment.record_usage`."""
        with self._memory_deployment.record_usage() as runs:
            yield runs

    def module(self, name: str, /) -> ModuleType:
        """See `MemoryDeployment.module`."""
        return self._thread.run(self._memory_deployment.module, name)

    def run_cron(self, name: str, /) -> Value:
        """See `MemoryDeployment.run_cron`."""
        return self._thread.call(self._memory_deployment.run_cron, name)

    @contextmanager
    def hold(
        self, function: Any, args: Mapping[str, Any] | None = None, /, *, at: int, by: BlockingCaller | None = None
    ) -> Iterator[BlockingHeldMutation]:
        """See `MemoryDeployment.hold`."""
        caller = None if by is None else by.caller
        holding = self._memory_deployment.hold(function, args, at=at, by=caller)
        held = self._thread.call(holding.__aenter__)
        try:
            yield BlockingHeldMutation(held, self._thread)
        finally:
            self._thread.call(holding.__aexit__, None, None, None)
