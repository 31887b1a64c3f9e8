"""`reactor dev`: a server that follows the project while it is edited.

Owns the cycle of watching and reloading. Promises that an edit made at any moment, also during a reload, is served in
the end; that a broken one is shown at the user's line while the last good version keeps serving; and that no client is
dropped. Leaves its address for the other commands and for front ends (`cli/target`). The server is a child process,
which `cli/supervisor` starts again when a function that can't be stopped has ended it.
"""

import asyncio
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from reactor.cli.console import say, show, show_function_logs
from reactor.cli.serve import DEFAULT_PORT, SitePort, site_port_of
from reactor.cli.target import Target, remove_dev_file, write_dev_file, write_env_local
from reactor.cli.watch import ProjectWatch
from reactor.errors import Error, PushError

if TYPE_CHECKING:
    from reactor.runtime.project import Project
    from reactor.runtime.push import PushReport
    from reactor.server.app import Deployment

_VARIABLES_SECONDS: Final = 0.5  # between two looks at the variables that a broken project may need


def dev(
    project: Annotated[Path, typer.Option(metavar="DIR", help="The project.")] = Path(),
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Where the data is kept, or :memory:.", show_default=".reactor in the project"
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="0 picks a free one.", min=0, max=65535)] = DEFAULT_PORT,
    site_port: SitePort = None,
    once: Annotated[bool, typer.Option("--once", help="Load the project, report, and exit.")] = False,
) -> None:
    """Serve a project, and follow its edits."""
    # Here, since the engine takes a moment to import and no other command needs it.
    from reactor.cli.settings import find_project, read_settings
    from reactor.cli.supervisor import supervised
    from reactor.server import run as server

    settings = read_settings(os.environ)
    folder = find_project(project)
    if once:
        deployment, listeners = settings.deployment(folder, data, development=True), None
    else:
        listeners = server.bind(host, port), server.bind(host, site_port_of(port, site_port), "--site-port")
        address, site_address = map(server.url_of, listeners)
        deployment = settings.deployment(folder, data, development=True, address=address, site_address=site_address)
    watch = ProjectWatch(folder, settings.limits.reload_debounce_ms)
    session = DevSession(deployment, folder, watch)
    if listeners is None:
        server.run(_ending_with_exit_code(session.push_once()))
        return
    listener, site = listeners
    session.url, session.site_url = address, site_address
    supervisor = supervised()
    show_function_logs()
    server.protect(settings.limits)
    try:
        server.run(
            server.serve(
                deployment,
                listener,
                site=site,
                page=True,
                load=False,
                before=session.begin,
                alongside=session.follow,
                supervisor=supervisor,
            )
        )
    finally:
        remove_dev_file(folder, os.getpid())


async def _ending_with_exit_code(work: "Coroutine[Any, Any, bool]") -> None:
    if not await work:
        raise typer.Exit(1)


class DevSession:
    """One run of `dev`: a deployment and the project folder it follows."""

    def __init__(self, deployment: "Deployment", project: Path, watch: ProjectWatch) -> None:
        self._deployment = deployment
        self._project = project
        self._watch = watch
        self._is_loaded = False  # by the last push
        self._variables: dict[str, str] = {}  # that the last push found
        self._is_following = False
        self.url = self.site_url = ""

    async def push_once(self) -> bool:
        """Open the data, push, report and close; return whether the push succeeded."""
        await self._deployment.open(load=False)
        try:
            return await self._push()
        finally:
            await self._deployment.close()

    async def begin(self) -> None:
        """Push the project for the first time: a client of the last server should not find an empty one."""
        # First its address, for what the push may need: `reactor env set`.
        write_dev_file(self._project, self._target)
        self._is_following = True
        self._is_loaded = await self._push()

    async def follow(self) -> None:
        """Announce the server when a push has succeeded, and push again at each edit, for ever."""
        is_announced = False
        while True:
            if self._is_loaded and not is_announced:
                self._announce()
                is_announced = True
            await self._news()
            self._is_loaded = await self._push()

    async def _news(self) -> None:
        """Return at an edit, or when something is broken and the variables have changed that it may need."""
        edit = asyncio.create_task(self._watch.changed())
        try:
            while not edit.done():
                await asyncio.wait({edit}, timeout=None if self._is_loaded else _VARIABLES_SECONDS)
                if not self._is_loaded and await self._deployment.env.all() != self._variables:
                    return
            edit.result()
        finally:
            edit.cancel()

    async def _push(self) -> bool:
        """Push what is on disk; return whether that is what runs now."""
        self._variables = await self._deployment.env.all()
        await asyncio.to_thread(self._begin_types)
        await asyncio.to_thread(self._watch.before_load)
        began = time.monotonic()
        try:
            report = await self._deployment.reload()
        except Error as error:
            self._watch.after_failure(self._deployment.files)
            show(error, self._project)
            if self._is_following and isinstance(error, PushError):
                say("The last good version keeps serving." if self._watch.has_loaded else "Waiting for an edit.")
            return False
        self._watch.after_load(self._deployment.files, self._deployment.function_folders)
        seconds = time.monotonic() - began
        await asyncio.to_thread(self._write_types, self._deployment.running())
        say(_described(report, seconds))
        return True

    def _begin_types(self) -> None:
        """Make sure that functions can import from `_generated`, whose types are written after the load."""
        from reactor.codegen import files

        try:
            files.begin(self._project)
        except PushError:
            pass  # which the load will say
        except Error as error:
            show(error, self._project)

    def _write_types(self, project: "Project") -> None:
        """Bring the types of functions and documents up to date; the project runs also where that is not possible."""
        from reactor.codegen import files

        try:
            files.write(files.generated_files(project, self._project))
        except Error as error:
            show(error, self._project)

    @property
    def _target(self) -> Target:
        return Target(self.url, self._deployment.admin_key, os.getpid(), self.site_url)

    def _announce(self) -> None:
        target = self._target
        write_env_local(self._project, target)
        say(f"Admin key: {target.admin_key}")
        say(f"HTTP actions: {self.site_url}")
        say(f"reactor dev: ready at {self.url}", style="bold green")


def _described(report: "PushReport", seconds: float) -> str:
    parts = [f"version {report.version}"]
    for names, what in (
        (report.created_tables, "new tables"),
        (report.built_indexes, "new indexes"),
        (report.changed_modules, "changed"),
    ):
        if names:
            parts.append(f"{what}: {', '.join(names)}")
    if report.checked_documents:
        parts.append(f"{report.checked_documents} documents checked")
    return f"Loaded in {seconds * 1000:.0f} ms; {'; '.join(parts)}."
