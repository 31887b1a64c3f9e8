"""The deployment that tests get: in memory, on a virtual clock, with a project that was loaded once.

Promises that everything but time and the disk is the real thing, that a fresh one costs milliseconds, since code is
not imported again, and that a fork of a prepared one starts with its data, of which neither sees what the other does
later. Used by the pytest plugin.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reactor.errors import Unavailable
from reactor.limits import Limits
from reactor.runtime.loader import Project
from reactor.server.app import NOT_OPEN, Deployment
from reactor.server.blocking import BlockingCaller, BlockingDeployment
from reactor.server.callers import Caller
from reactor.server.data import MEMORY
from reactor.storage.blobs_memory import MemoryBlobs
from reactor.storage.interface import BlobStore, Persistence
from reactor.storage.memory import MemoryPersistence
from reactor.testing.clock import START, VirtualClock
from reactor.testing.interleaving import BlockingHeldMutation, HeldMutation


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
        super().__init__(
            folder,
            data=MEMORY,
            clock=clock,
            alarms=clock,
            limits=Limits(determinism_sample=determinism_sample, cron_splay_seconds=0),
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
        determinism_sample: int,
    ) -> None:
        self.data = data
        self.files = files
        self.time = time
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
