"""The host: one deployment's engine and function runtime, joined and open.

Owns the parts below the server and their life: storage is opened first and closed last. This is where they are joined,
and in three ways only. A part gets what it needs by its constructor; the executor, through which results and actions
run what they need, gets these two by `join`; and who only wants to hear of something says so to whoever knows (a
list named `on_…` or `after_…`, or `sample_after`). Used by `server/app`, which adds sockets, and by tests.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextvars import Context
from typing import Any, Protocol

from reactor.auth.upload_token import UploadTokens
from reactor.engine.cursor import Cursors
from reactor.engine.database import Database
from reactor.errors import AuthConfigInvalid, PushError
from reactor.limits import Limits
from reactor.ports import Alarms, Clock, Rng
from reactor.protocol.deploys import Deploy
from reactor.runtime import guard, subtasks
from reactor.runtime.actions.service import Actions
from reactor.runtime.cache import LiveQueries
from reactor.runtime.deploys.plan import Planner
from reactor.runtime.deploys.progress import Tell, nobody
from reactor.runtime.environment.documents import change_variables, read_variables
from reactor.runtime.environment.mapping import SnapshotEnvironment, TransactionEnvironment, built_in_variables
from reactor.runtime.environment.origins import Origins
from reactor.runtime.executor import Executor
from reactor.runtime.files.collector import Collector
from reactor.runtime.files.store import Files
from reactor.runtime.http.runner import HttpRunner
from reactor.runtime.jobs.cronrunner import CronRunner
from reactor.runtime.jobs.schedulers import Schedulers
from reactor.runtime.project import Project
from reactor.runtime.push import Pusher, PushReport
from reactor.runtime.runqueue import RunQueue
from reactor.runtime.sampling import Sampler
from reactor.runtime.versions import Versions
from reactor.runtime.watchdog import watchdog
from reactor.storage.blobs_memory import MemoryBlobs
from reactor.storage.interface import BlobStore, Persistence

log = logging.getLogger(__name__)


class TaskGroup:
    """Background tasks of one host: kept alive while they run, reported when they fail, awaited at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` in the background; see `ports.Spawn`."""
        task = asyncio.get_running_loop().create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background task %s failed", task.get_name(), exc_info=task.exception())

    async def join(self) -> None:
        """Wait for what still runs."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))


class Service(Protocol):
    """Something of the deployment that acts by itself: runs what is due, or removes what nobody needs."""

    def start(self) -> None:
        """Begin: the first project has been pushed."""

    async def stop(self) -> None:
        """End, leaving nothing running. Also called when it was never started; the database is still open."""


class Host:
    """An open deployment without sockets. Build with `await Host.open(...)`."""

    def __init__(
        self,
        database: Database,
        tasks: TaskGroup,
        clock: Clock,
        alarms: Alarms,
        rng: Rng,
        limits: Limits,
        *,
        redact: bool,
        development: bool,
        origins: Origins,
        blobs: BlobStore,
    ) -> None:
        self.database = database
        self.origins = origins
        self.limits = limits
        self.alarms = alarms
        self.queue = RunQueue(limits.slice_ms, clock.monotonic)
        self.versions = Versions()
        self.files = Files(database, blobs, origins, clock, rng, limits)
        self.executor = Executor(database, self.versions, self.queue, self.files, clock, redact=redact)
        self.live = LiveQueries(database, self.executor, self.queue, clock, int.from_bytes(rng.token_bytes(8), "big"))
        sample = limits.determinism_sample if development else 0
        self.sampler = Sampler(self.executor, sample, clock) if sample else None
        self.actions = Actions(self.executor, clock, limits)
        self.executor.join(self.live.results.answer, self.actions.act)
        self.scheduler = Schedulers(self.executor, clock, alarms)
        self.crons = CronRunner(self.executor, clock, alarms, rng)
        self.http = HttpRunner(self.actions, self.executor)
        self._built_in = built_in_variables(origins)
        self._pusher = Pusher(database, self.versions, self.queue, built_in=self._built_in, stages=(self.crons.stage,))
        self.changing = self._pusher.lock  # held while tables or the schema change
        self.planner = Planner(database, self.versions, self.queue, self._pusher.parts)
        self._tasks = tasks
        collector = Collector(database, self.files, alarms, clock, limits, tasks.spawn)
        self.services: list[Service] = [  # stopped in the opposite order
            collector,
            self.actions,
            self.scheduler,
            self.crons,
        ]
        self._are_started = False
        self.watch = watchdog.watch(limits)

    @classmethod
    async def open(
        cls,
        persistence: Persistence,
        *,
        clock: Clock,
        alarms: Alarms,
        rng: Rng,
        limits: Limits,
        redact: bool = False,
        development: bool = False,
        origins: Origins | None = None,
        blobs: BlobStore | None = None,
    ) -> "Host":
        """Open storage and bring the engine up; nothing can be called before the first `push`.

        In development, one run in `limits.determinism_sample` is repeated, and reported when it differs. Without
        `blobs`, the content of stored files is kept in memory.

        Raises:
            StorageError: the data is held by another process, damaged, or of a newer version.
        """
        guard.install()
        subtasks.install()
        guard.guard_loop(type(asyncio.get_running_loop()))
        tasks = TaskGroup()
        database = await Database.open(persistence, clock=clock, rng=rng, limits=limits, spawn=tasks.spawn)
        origins = Origins.of(None, None) if origins is None else origins
        blobs = MemoryBlobs() if blobs is None else blobs
        try:
            blobs.open()  # only now: the database holds the lease
        except BaseException:
            await database.close()
            raise
        return cls(
            database,
            tasks,
            clock,
            alarms,
            rng,
            limits,
            redact=redact,
            development=development,
            origins=origins,
            blobs=blobs,
        )

    async def push(self, project: Project, *, deploy: Deploy | None = None, tell: Tell = nobody) -> PushReport:
        """Deploy a loaded project; see `Pusher.push`.

        Raises:
            PushError: existing documents do not match its schema, or its authentication providers can't be had with
                the environment as it is. The old version goes on.
        """
        self._check_providers(project)
        report = await self._pusher.push(project, deploy=deploy, tell=tell)
        if not self._are_started:
            self._are_started = True
            for service in self.services:
                service.start()
        self.scheduler.follow()
        return report

    def _check_providers(self, project: Project) -> None:
        if project.auth is None:
            return
        try:
            project.auth.resolve(self.environment(project))
        except AuthConfigInvalid as error:
            file = getattr(project.namespace("auth_config"), "__file__", None)
            raise PushError(f"functions/auth_config.py: {error.rule}: {error}", file=file) from None

    def seal_with(self, name: str, secret: bytes) -> None:
        """Make the cursors and upload URLs of this deployment good beyond its closing; before the first call.

        `name` is that of the instance, `secret` is kept with its data. Without this, both are made up.
        """
        self.database.cursors = Cursors(secret)
        self.files.tokens = UploadTokens(name, secret)

    def environment(self, project: Project | None = None) -> Mapping[str, str]:
        """Return the application's environment variables in the latest durable state, for code on any thread.

        `project` is whose defaults stand in for those that are not set, by default the deployed one.
        """
        transaction = self.database.begin_query()
        defaults = (self.versions.at(transaction.begin_ts).project if project is None else project).env
        return SnapshotEnvironment(TransactionEnvironment(transaction, defaults, self._built_in).everything())

    @property
    def has_version(self) -> bool:
        """Whether a project was pushed, so that functions can run."""
        return not self.versions.is_empty

    async def change_variables(self, changes: Mapping[str, str | None]) -> None:
        """Change environment variables while no function can: what is pushed first may need them.

        Raises:
            LimitExceeded, ValidationError: see `variables.change_variables`.
        """
        transaction = self.database.begin_mutation()
        change_variables(self.database, transaction, changes)
        await self.database.durable(self.database.committer.commit(transaction, source=""))

    def variables(self) -> dict[str, str]:
        """Return the environment variables that are set, while no function can."""
        return {str(row["name"]): str(row["value"]) for row in read_variables(self.database.begin_query())}

    async def close(self) -> None:
        """Stop the services, wait until everything applied is durable, then release storage and the loaded project."""
        try:
            for service in reversed(self.services):
                await service.stop()
        finally:
            await self._close_database()

    async def _close_database(self) -> None:
        try:
            self.files.close()
            await self.database.close()
        finally:
            watchdog.leave(self.watch, self.limits)
            await self._tasks.join()
            self.versions.close()
