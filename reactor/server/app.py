"""The composition root: the one place where storage, engine, runtime, sockets and HTTP are joined.

Owns the life of a deployment. Promises that nothing is opened before `open`, that what was opened is closed in the
opposite order whatever fails, that closing answers what is under way first, and that a deployment used from another
event loop or process says so instead of corrupting itself.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from starlette.types import ASGIApp

from reactor.auth.authenticator import Authenticator
from reactor.auth.fetching import ThreadedFetch
from reactor.errors import InvalidArgument, Unavailable
from reactor.limits import Limits
from reactor.ports import Alarms, Clock, Rng
from reactor.runtime.environment.origins import Origins
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.runtime.push import PushReport
from reactor.server.backend import Backend
from reactor.server.blocking import BlockingDeployment
from reactor.server.callers import Caller, Feed
from reactor.server.credentials import Credentials, load_credentials
from reactor.server.data import blobs_in, data_directory, log_in
from reactor.server.deploys.service import Deploys
from reactor.server.deploys.store import DeployStore
from reactor.server.environment import EnvironmentControl
from reactor.server.http.actions import HttpActions
from reactor.server.http.deploys import DeployApi
from reactor.server.http.environment import EnvironmentApi
from reactor.server.http.files import FileApi
from reactor.server.http.functions import FunctionApi
from reactor.server.http.logs import LogApi
from reactor.server.http.page import Page
from reactor.server.http.push import PushApi
from reactor.server.http.router import HttpApp
from reactor.server.http.transfers import TransferApi
from reactor.server.lifespan import WithLifespan
from reactor.server.ownership import Owner
from reactor.server.snapshots import Snapshots
from reactor.server.sync.connection import SyncEndpoint
from reactor.server.sync.outbox import Outbox
from reactor.server.sync.session import Session
from reactor.server.system import SystemAlarms, SystemClock, SystemRng
from reactor.server.version import version
from reactor.storage.interface import BlobStore, Persistence
from reactor.transfer.service import Transfers

NOT_OPEN: Final = (
    "This deployment is not open. Open it with its host application, as in FastAPI(lifespan=deployment.lifespan), "
    "or with `async with deployment:`."
)
CLOSE_CODE: Final = 1001  # "going away": official clients reconnect without logging an error
CLOSE_REASON: Final = "ServerShuttingDown"


class Deployment(Caller):
    """A project and its data, to be served, embedded or tested.

    Open it with `async with`, `lifespan` or `open`. Its verbs (`query`, `mutation`, `run`, `subscribe`) call functions
    in this process, and `env` changes the variables they read; `asgi` serves everybody else.
    """

    def __init__(
        self,
        project: str | os.PathLike[str] | None = ".",
        *,
        data: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        alarms: Alarms | None = None,
        rng: Rng | None = None,
        limits: Limits | None = None,
        instance_name: str | None = None,
        instance_secret: str | None = None,
        redact_logs: bool = False,
        development: bool = False,
        cloud_origin: str | None = None,
        site_origin: str | None = None,
    ) -> None:
        """Choose what to open; nothing is opened yet.

        Args:
            project: the folder with `schema.py` and `functions/`, or None for a deployment that runs what was deployed
                to it last (`reactor deploy`).
            data: the data directory, or ":memory:" for none. By default what the project's pyproject.toml says, else
                `.reactor` in the project, or here.
            instance_name: with `instance_secret` (64 hex digits) decides which admin keys are good; by default both
                are kept in the data directory.
            redact_logs: send clients neither error texts nor log lines. Data of a `ReactorError` is always sent.
            development: repeat one run of a query or mutation in `limits.determinism_sample`, and warn when it differs.
            cloud_origin: the address under which clients reach this deployment, mount prefix included; by default that
                of `reactor dev`. Functions see it as `CONVEX_CLOUD_URL`.
            site_origin: the same for its HTTP actions, `CONVEX_SITE_URL`; by default `/http` below the other one.
        """
        self.project_dir = Path() if project is None else Path(project)
        self._takes_deploys = project is None
        self.clock: Clock = SystemClock() if clock is None else clock
        self.limits = Limits() if limits is None else limits
        self._alarms: Alarms = SystemAlarms() if alarms is None else alarms
        self._rng: Rng = SystemRng() if rng is None else rng
        self._data = data
        self._instance = (instance_name, instance_secret)
        self._redact_logs = redact_logs
        self._development = development
        self.origins = Origins.of(cloud_origin, site_origin)
        self._loader = ProjectLoader(self.project_dir)
        self._loading = asyncio.Lock()
        self._host: Host | None = None
        self._deploys: Deploys | None = None
        self._backend: Backend | None = None
        self._transfers: Transfers | None = None
        self._credentials: Credentials | None = None
        self._authenticator: Authenticator | None = None
        self._admin_key: str | None = None
        self._owner: Owner | None = None
        self._is_opening = False
        self._live_feeds: set[Feed] = set()
        self.http_actions = HttpActions(self.backend, self.limits)
        self.sockets = SyncEndpoint(self._new_session, self.clock, self.limits)
        super().__init__(self.backend, self._live_feeds)
        self.env = EnvironmentControl(self.backend, self)

    # Opening and closing.

    async def open(self, *, load: bool = True) -> None:
        """Open the data and deploy the project. `load=False` leaves that to a later `reload` or `push`.

        Raises:
            PushError: the project can't be loaded, or existing documents do not match its schema.
            DeployRefused: what was deployed last needs a package that is not installed here any more.
            StorageError: the data is held by another process, damaged, or of a newer version.
            InvalidArgument: it is open already.
        """
        if self._is_opening or self._host is not None:
            raise InvalidArgument("This deployment is open already. One deployment belongs to one event loop.")
        self._is_opening = True
        project: Project | None = None
        try:
            # Before the data is touched: a project with a typo should leave no trace.
            is_here = load and not self._takes_deploys
            project = await asyncio.to_thread(self._loader.load) if is_here else None
            await self._open(project)
        except BaseException:
            if project is not None:
                project.release()
            raise
        finally:
            self._is_opening = False

    async def _open(self, project: Project | None) -> None:
        directory = data_directory(None if self._takes_deploys else self.project_dir, self._data)
        host = await Host.open(
            self._persistence(directory),
            clock=self.clock,
            alarms=self._alarms,
            rng=self._rng,
            limits=self.limits,
            redact=self._redact_logs,
            development=self._development,
            origins=self.origins,
            blobs=self._blobs(directory),
        )
        try:
            # Only now: the lease keeps two processes from making up a secret each.
            if directory is None:  # nothing is read or written, so no thread is needed
                credentials = load_credentials(None, *self._instance, self._rng)
            else:
                credentials = await asyncio.to_thread(load_credentials, directory, *self._instance, self._rng)
            host.seal_with(credentials.name, bytes.fromhex(credentials.secret))
            if project is not None:
                await host.push(project)
            transfers = Transfers(host, directory, credentials.name, self.clock, self._rng)
            await transfers.start()
            if self._takes_deploys:
                deploys = Deploys(host, DeployStore(directory, self.limits.deploy_bytes), self.clock)
                await deploys.start()
                self._deploys = deploys
        except BaseException:
            await host.close()
            raise
        self._credentials = credentials
        self._host = host
        self._owner = Owner()
        self._authenticator = self._new_authenticator(host)
        self._transfers = transfers
        self._backend = self._new_backend(host, credentials, self._authenticator, transfers)

    def _new_authenticator(self, host: Host) -> Authenticator:
        return Authenticator(
            lambda: host.versions.latest().project.auth,
            host.environment,
            ThreadedFetch(lambda: host.versions.latest().project.folder, self.limits.auth_fetch_seconds),
            self.clock,
            self.limits,
            redact=self._redact_logs,
        )

    def _new_backend(
        self, host: Host, credentials: Credentials, authenticator: Authenticator, transfers: Transfers
    ) -> Backend:
        return Backend(
            functions=host.executor,
            live=host.live,
            http=host.http,
            http_actions=self.http_actions,
            snapshots=Snapshots(
                pin=host.database.retention.pin,
                unpin=host.database.retention.unpin,
                durable_ts=lambda: host.database.durable_ts,
                seconds=self.limits.snapshot_seconds,
                later=asyncio.get_running_loop().call_later,
            ),
            durable_ts=lambda: host.database.durable_ts,
            check_admin=credentials.check_admin,
            check_token=authenticator.submit,
            identify=authenticator.identify,
            submit_handler=host.executor.submit_handler_as,
            rng=self._rng,
            files=host.files,
            log=host.executor.log,
            transfers=transfers,
            deploys=self._deploys,
            before_push=lambda: None if host.has_version else host,
        )

    async def quiesce(self) -> None:
        """Take no new calls, answer those under way, and close every connection. Waits up to `shutdown_seconds`.

        Actions under way are cancelled.
        """
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.snapshots.close()
            backend.log.close()
        if self._deploys is not None:
            await self._deploys.stop()
        acting = [self._host.actions.quiesce()] if self._host is not None else []
        await asyncio.gather(self.sockets.close(CLOSE_CODE, CLOSE_REASON), *acting)
        if self._authenticator is not None:
            await self._authenticator.close()

    async def close(self) -> None:
        """Answer what is under way, make it durable, and release the data. Closing twice is harmless."""
        host = self._host
        if host is None:
            return
        assert self._owner is not None
        self._owner.check()
        await self.quiesce()
        self._host = None
        deploys, self._deploys = self._deploys, None
        try:
            for feed in list(self._live_feeds):
                feed.end()
            if self._transfers is not None:
                await self._transfers.stop()
            if deploys is not None:
                await deploys.close()
        finally:
            await host.close()
            self._owner = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Open and close with a host application: `FastAPI(lifespan=deployment.lifespan)`."""
        async with self:
            yield

    def blocking(self) -> BlockingDeployment:
        """Open on an event loop in a thread of its own, for code that has none. Close what this returns.

        Raises:
            InvalidArgument: it is open already, on another loop.
            PushError, StorageError: as `open`.
        """
        return BlockingDeployment(self)

    # Serving.

    def asgi(self, *, page: bool = False) -> ASGIApp:
        """Return an ASGI application: the data plane for clients, mountable under any prefix.

        Answers 503 with a hint while the deployment is not open. Run by itself, it opens and closes the deployment
        with the server. `page` adds the small page for developers at `/`.
        """
        http = HttpApp(
            functions=FunctionApi(self.backend),
            environment=EnvironmentApi(self.backend),
            files=FileApi(self.backend, self.limits),
            push=PushApi(self.backend, self.running, self.origins),
            logs=LogApi(self.backend),
            transfers=TransferApi(self.backend),
            deploys=DeployApi(self.backend, self.limits),
            sync=self.sockets,
            actions=self.http_actions,
            limits=self.limits,
            name=lambda: self.instance_name,
            version=version(),
            page=Page(self.running) if page else None,
            redact=self._redact_logs,
        )
        return WithLifespan(self, http)

    def site_asgi(self) -> ASGIApp:
        """Return an ASGI application that serves nothing but the HTTP actions, at the paths of their routes.

        For a port or a host name of its own; `asgi` serves them below `/http`. It never opens the deployment.
        """
        return self.http_actions

    # The project.

    async def reload(self) -> PushReport:
        """Load the project as it is on disk now and deploy it. The running version goes on if that fails.

        Raises:
            PushError: it can't be loaded, or existing documents do not match its schema.
            Unavailable: the deployment is not open.
            InvalidArgument: it has no project folder, and runs what is deployed to it.
        """
        if self._takes_deploys:
            raise InvalidArgument("This deployment has no project folder to load again. Deploy to it.")
        async with self._loading:
            self.backend()
            return await self.push(await asyncio.to_thread(self._loader.load))

    async def push(self, project: Project) -> PushReport:
        """Deploy a loaded project, which then belongs to this deployment, also when that fails.

        Raises:
            PushError: existing documents do not match its schema. The running version goes on.
            Unavailable: the deployment is not open.
        """
        try:
            self.backend()
            assert self._host is not None
            return await self._host.push(project)
        except BaseException:
            project.release()
            raise

    def running(self) -> Project:
        """Return the loaded project that runs.

        Raises:
            Unavailable: the deployment is not open.
        """
        self.backend()
        assert self._host is not None
        return self._host.versions.latest().project

    @property
    def files(self) -> frozenset[Path]:
        """The project's files that the last load read, also when it failed."""
        return self._loader.seen

    @property
    def function_folders(self) -> frozenset[Path]:
        """The folders of the functions that the last load gave: the project's, and those of its components."""
        return self._loader.function_folders

    # What others need to know.

    @property
    def is_open(self) -> bool:
        """Whether calls are taken."""
        return self._backend is not None

    @property
    def has_version(self) -> bool:
        """Whether there is a project that functions can be called of."""
        return self._host is not None and self._host.has_version

    @property
    def instance_name(self) -> str:
        """The name in admin keys.

        Raises:
            Unavailable: the deployment was never opened.
        """
        return self._opened_credentials().name

    @property
    def admin_key(self) -> str:
        """A key that may do everything. It stays good until the instance secret changes.

        Raises:
            Unavailable: the deployment was never opened.
        """
        if self._admin_key is None:
            self._admin_key = self._opened_credentials().admin_key(self.clock, self._rng)
        return self._admin_key

    def backend(self) -> Backend:
        """Return the running parts.

        Raises:
            Unavailable: the deployment is not open, or belongs to another event loop or process.
        """
        if self._backend is None:
            raise Unavailable(NOT_OPEN)
        assert self._owner is not None
        self._owner.check()
        return self._backend

    # Inside.

    def _opened_credentials(self) -> Credentials:
        if self._credentials is None:
            raise Unavailable(NOT_OPEN)
        return self._credentials

    def _persistence(self, directory: Path | None) -> Persistence:
        return log_in(directory, self.limits)

    def _blobs(self, directory: Path | None) -> BlobStore:
        return blobs_in(directory, self.limits)

    def _new_session(self, outbox: Outbox, *, chunks: bool) -> Session:
        backend = self.backend()
        return Session(
            outlet=outbox,
            functions=backend.functions,
            live=backend.live,
            check_admin=backend.check_admin,
            check_token=backend.check_token,
            durable_ts=backend.durable_ts,
            clock=self.clock,
            alarms=self._alarms,
            rng=self._rng,
            limits=self.limits,
            chunks=chunks,
        )
