"""Deploys to an open deployment, one at a time: from an archive to the version that runs.

Owns the order of steps: unpack, load, plan, store the archive, and the push, whose one commit both switches the version
and names the archive. Promises that until that commit the old version runs, that from it on a restart runs the new one,
and that a deploy goes on to its end whether or not anybody still listens. Used by `http/deploys` and the composition
root.
"""

import asyncio
import gc
import importlib
import linecache
import logging
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from reactor.errors import DeployRefused, Error, OutcomeUnknown, PushError, StorageError, Unavailable
from reactor.ports import Clock
from reactor.protocol.deploys import Deploy, DeployEvent, DeployList, Plan
from reactor.runtime.deploys.kept import kept_deploys
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.server.deploys.store import DeployStore
from reactor.storage import failpoints

log: Final = logging.getLogger("reactor.server")

_LAST: Final = frozenset({"done", "failed"})


class DeployRun:
    """One deploy that is under way, or has ended."""

    def __init__(self) -> None:
        self._events: list[DeployEvent] = []
        self._news = asyncio.Event()
        self._told = ("", -1)  # the last step, and how many tenths of it

    def add(self, event: DeployEvent) -> None:
        """Tell those who listen."""
        self._events.append(event)
        self._news.set()

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say what is being done, at most once for each tenth of it."""
        tenths = done * 10 // total if total else 0
        if (what, tenths) != self._told:
            self._told = what, tenths
            self.add(DeployEvent("step", step=what, done=done, total=total))

    @property
    def has_ended(self) -> bool:
        """Whether the last event was told."""
        return bool(self._events) and self._events[-1].kind in _LAST

    async def events(self) -> AsyncIterator[DeployEvent]:
        """Yield all events, from the first to the last, as they come."""
        at = 0
        while True:
            while at < len(self._events):
                yield self._events[at]
                at += 1
            if self.has_ended:
                return
            self._news.clear()
            await self._news.wait()


class Deploys:
    """The deploys of one open deployment that has no project of its own."""

    def __init__(self, host: Host, store: DeployStore, clock: Clock) -> None:
        self._host = host
        self._store = store
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._folders: dict[Path, weakref.ref[Project]] = {}

    async def start(self) -> None:
        """Run the last deploy again, if there was one.

        Raises:
            PushError, DeployRefused: it can't be loaded here any more, such as without a package it needs.
            StorageError: its archive can't be read.
        """
        await asyncio.to_thread(self._store.open)
        deploys = kept_deploys(self._host.database)
        if deploys:
            data = await asyncio.to_thread(self._store.get, deploys[-1].archive)
            folder, _ = await asyncio.to_thread(self._store.unpack, data)
            await self._push(folder, await asyncio.to_thread(_load, folder), None, DeployRun())
            await asyncio.to_thread(self._store.keep_only, {deploy.archive for deploy in deploys})

    def listing(self) -> DeployList:
        """Return the deploys that are kept."""
        deploys = kept_deploys(self._host.database)
        return DeployList(deploys, deploys[-1].number if deploys else None, self._is_busy)

    def begin(self, archive: bytes, *, dry_run: bool, yes: bool) -> DeployRun:
        """Begin to deploy an archive.

        Args:
            dry_run: stop when the plan is known.
            yes: go on when documents would be out of reach of all functions.

        Raises:
            DeployRefused: `DeployInProgress`.
        """
        return self._begin(archive, None, dry_run, yes)

    def roll_back(self, number: int | None, *, dry_run: bool, yes: bool) -> DeployRun:
        """Begin to deploy again what was deployed before: `number`, or what ran before what runs now.

        Raises:
            DeployRefused: `DeployInProgress`, or `NoSuchDeploy`.
        """
        deploys = kept_deploys(self._host.database)
        if number is None:
            running = deploys[-1].source if deploys else 0
            wanted = [deploy for deploy in deploys if deploy.source < running]
            number = max((deploy.source for deploy in wanted), default=None)
            wanted = [deploy for deploy in wanted if deploy.source == number]
        else:
            wanted = [deploy for deploy in deploys if deploy.number == number]
        if not wanted:
            kept = ", ".join(str(deploy.number) for deploy in deploys) or "none"
            what = "There is nothing before it to roll back to" if number is None else f"Deploy {number} is not kept"
            raise DeployRefused(
                "NoSuchDeploy", f"{what}; kept are {kept} (the last REACTOR_DEPLOYS_KEPT={self._kept_count})."
            )
        return self._begin(None, wanted[-1], dry_run, yes)

    async def stop(self) -> None:
        """Stop a deploy that is under way, so that who listens hears the end of it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Remove what was unpacked."""
        await self.stop()
        await asyncio.to_thread(self._store.close)

    @property
    def _is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def _kept_count(self) -> int:
        return self._host.limits.deploys_kept

    def _begin(self, archive: bytes | None, source: Deploy | None, dry_run: bool, yes: bool) -> DeployRun:
        if self._is_busy:
            text = "Another deploy is under way on this server, and nothing was changed. Try again when it is done."
            raise DeployRefused("DeployInProgress", text)
        run = DeployRun()
        work = self._run(run, archive, source, dry_run, yes)
        self._task = asyncio.get_running_loop().create_task(work, name="reactor-deploy")
        return run

    async def _run(
        self, run: DeployRun, archive: bytes | None, source: Deploy | None, dry_run: bool, yes: bool
    ) -> None:
        try:
            deploy = await self._deploy(run, archive, source, dry_run, yes)
        except Error as error:
            rule = getattr(error, "rule", None)
            run.add(DeployEvent("failed", code=rule if isinstance(rule, str) else error.code, message=str(error)))
        except asyncio.CancelledError:
            gone = Unavailable("The server is shutting down. What runs after its start is what `--list` says then.")
            run.add(DeployEvent("failed", code=gone.code, message=str(gone)))
            raise
        except Exception:
            log.exception("a deploy failed inside the server")
            run.add(DeployEvent("failed", code=Error.code, message="The log of the server says more."))
        else:
            if failpoints.armed is not None:
                failpoints.armed("deploy: done")
            run.add(DeployEvent("done", deploy=deploy))

    async def _deploy(
        self, run: DeployRun, archive: bytes | None, source: Deploy | None, dry_run: bool, yes: bool
    ) -> Deploy | None:
        host, store = self._host, self._store
        run.tell("unpack")
        if archive is None:
            assert source is not None
            archive = await asyncio.to_thread(store.get, source.archive)
        folder, files = await asyncio.to_thread(store.unpack, archive)
        if failpoints.armed is not None:
            failpoints.armed("deploy: unpacked")
        project: Project | None = None
        is_settled = True  # whether it is certain which version a restart would run
        try:
            run.tell("load")
            project = await asyncio.to_thread(_load, folder)
            plan = await host.planner.plan(project, run.tell)
            run.add(DeployEvent("plan", plan=plan))
            _check(plan, yes=yes or dry_run)
            if dry_run:
                return None
            digest = await asyncio.to_thread(store.put, archive)
            if failpoints.armed is not None:
                failpoints.armed("deploy: archive stored")
            deploys = kept_deploys(host.database)
            number = deploys[-1].number + 1 if deploys else 1
            deploy = Deploy(
                number=number,
                source=number if source is None else source.source,
                archive=digest,
                bytes=len(archive),
                files=files,
                deployed_ms=self._clock.now_ns() // 1_000_000,
            )
            pushed, project = project, None
            is_settled = False
            try:
                await self._push(folder, pushed, deploy, run)
                is_settled = True
            except Error as error:
                is_settled = not isinstance(error, StorageError | OutcomeUnknown)
                raise
            finally:
                del pushed
            return deploy
        finally:
            if project is not None:
                project.release()
                project = None
            if is_settled:
                await asyncio.shield(self._tidy(folder))

    async def _push(self, folder: Path, project: Project, deploy: Deploy | None, run: DeployRun) -> None:
        """Switch to `project`, which was loaded from `folder`."""
        self._folders[folder] = weakref.ref(project)
        try:
            await self._host.push(project, deploy=deploy, tell=run.tell)
        except BaseException:
            project.release()
            raise

    async def _tidy(self, folder: Path) -> None:
        """Remove archives that no deploy names, and folders of projects that are gone; `folder` if it never ran."""
        # Modules are in cycles with their functions, and a server collects the oldest generation rarely.
        gc.collect()
        gone = [place for place, project in self._folders.items() if project() is None]
        for place in gone:
            del self._folders[place]
        if folder not in self._folders and folder not in gone:
            gone.append(folder)
        for file in [file for file in linecache.cache if any(Path(file).is_relative_to(place) for place in gone)]:
            linecache.cache.pop(file, None)
        kept = {deploy.archive for deploy in kept_deploys(self._host.database)}
        await asyncio.to_thread(self._remove, gone, kept)

    def _remove(self, folders: list[Path], kept: set[str]) -> None:
        for folder in folders:
            self._store.discard(folder)
        self._store.keep_only(kept)


def _load(folder: Path) -> Project:
    """Load the project in a folder, naming a package that it needs and the server does not have. Blocking."""
    importlib.invalidate_caches()  # it may have been installed since the last deploy
    try:
        return ProjectLoader(folder).load()
    except PushError as error:
        missing = error.__cause__
        if not isinstance(missing, ModuleNotFoundError) or missing.name is None:
            raise
        package = missing.name.partition(".")[0]
        raise DeployRefused(
            "DependencyMissing",
            f"{error}. The server does not have it: install the package that provides `{package}` there, in the same "
            "Python environment, and deploy again. If it belongs to the project, name its file in `deploy` of "
            "[tool.reactor] in pyproject.toml.",
        ) from None


def _check(plan: Plan, *, yes: bool) -> None:
    """Refuse a plan that can't be carried out, or that nobody has agreed to."""
    if plan.failing:
        lines = [
            f'{check.failing} of {check.documents} documents in table "{check.table}" do not match the schema. '
            + " ".join(f'Document with ID "{misfit.id}": {misfit.problem}' for misfit in check.samples)
            for check in plan.failing
        ]
        raise DeployRefused("SchemaValidationFailed", "\n".join(lines))
    if plan.losses and not yes:
        raise DeployRefused(
            "DeployNeedsConfirmation",
            f"No function could reach these documents any more, though they stay: {', '.join(plan.losses)}. "
            "Deploy with --yes if that is meant.",
        )
