"""`reactor deploy`: a project to a running server.

Promises that what changes is shown before it does, and agreed to where documents would be out of reach; that a failure
leaves the old version running and is exit code 1; and that `--cmd` has succeeded before anything is switched.
"""

import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode

import msgspec
import typer

from reactor.cli.console import fail, say, warn
from reactor.cli.remote import ask, follow
from reactor.cli.target import Target, find_target
from reactor.errors import InvalidArgument
from reactor.protocol.deploys import Deploy, DeployEvent, DeployList

if TYPE_CHECKING:
    from reactor.protocol.deploys import Change, Plan

PLACE: Final = "/api/deploys"
_ARCHIVE: Final = "application/zip"
_MOST_NAMES: Final = 10  # of one kind that are printed
_lists: Final = msgspec.json.Decoder(DeployList)
_events: Final = msgspec.json.Decoder(DeployEvent)


def deploy(
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", help="With --rollback: the deploy to go back to.", min=1)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on where documents would be out of reach.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Run an earlier deploy again.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Print the deploys that are kept.")] = False,
    cmd: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Run this first, and deploy only if it succeeds.")
    ] = None,
    cmd_url_env_var_name: Annotated[
        str, typer.Option(metavar="NAME", help="Where the command finds the server's address.")
    ] = "CONVEX_URL",
    as_json: Annotated[bool, typer.Option("--json", help="Print plan and outcome as JSON, a line each.")] = False,
    url: Annotated[str | None, typer.Option(metavar="URL", help="The server.")] = None,
    admin_key: Annotated[str | None, typer.Option(metavar="KEY", help="Its admin key; needs --url.")] = None,
    project: Annotated[Path, typer.Option(metavar="DIR", help="The project.")] = Path(),
) -> None:
    """Put a project on a running server, or go back to an earlier one.

    Examples:

    reactor deploy --url https://api.example.com --admin-key "$KEY"

    reactor deploy --cmd "npm run build" --cmd-url-env-var-name VITE_CONVEX_URL

    reactor deploy --rollback
    """
    if show_list + rollback + (cmd is not None) > 1:
        raise InvalidArgument("--list, --rollback and --cmd don't go together.")
    if number is not None and not rollback:
        raise InvalidArgument(f"What is {number}? Only --rollback takes the number of a deploy.")
    folder = project.resolve()
    target = find_target(url, admin_key, os.environ, folder)
    if target.admin_key is None:
        raise InvalidArgument("Deploying needs an admin key: give --admin-key, or CONVEX_SELF_HOSTED_ADMIN_KEY.")
    if show_list:
        _print_list(ask(target, PLACE, _lists), as_json)
        return
    if rollback:
        wanted = {} if number is None else {"number": str(number)}
        asking = _Asking(target, f"{PLACE}/rollback", b"", wanted, as_json)
    else:
        archive = _archive(folder)
        ask(target, f"{PLACE}?deploying={len(archive)}", _lists)  # who is refused should know before the upload
        asking = _Asking(target, PLACE, archive, {}, as_json)
    if dry_run:
        asking.send(dryRun=True)
        return
    if cmd is not None:
        asking.send(dryRun=True)
        _run_first(cmd, cmd_url_env_var_name, target, folder)
        asking.is_plan_shown = True
    asking.deploy(yes)


class _Asking:
    """One wish, which may be sent several times: to see the plan, to carry it out, and with consent."""

    def __init__(self, target: Target, place: str, body: bytes, wanted: dict[str, str], as_json: bool) -> None:
        self._target = target
        self._place = place
        self._body = body
        self._wanted = wanted
        self._as_json = as_json
        self.is_plan_shown = False

    def deploy(self, yes: bool) -> None:
        """Deploy, asking on a terminal where that is needed.

        Raises:
            typer.Exit: it was refused, or nobody agreed.
        """
        began = time.monotonic()
        last = self.send(yes=yes, may_ask=sys.stdin.isatty())
        if last.code == "DeployNeedsConfirmation":
            warn(last.message)
            typer.confirm("Go on?", abort=True, err=True)
            self.is_plan_shown = True
            last = self.send(yes=True)
        if last.deploy is not None and not self._as_json:
            say(f"Deployed as number {last.deploy.number} in {time.monotonic() - began:.1f} s to {self._target.url}.")

    def send(self, *, dryRun: bool = False, yes: bool = False, may_ask: bool = False) -> DeployEvent:
        """Send it once, printing what comes; return the last event: the end, or a question if `may_ask`.

        Raises:
            typer.Exit: it was refused, or failed.
        """
        flags = {name: "true" for name, value in (("dryRun", dryRun), ("yes", yes)) if value}
        query = urlencode(self._wanted | flags)
        place = f"{self._place}?{query}" if query else self._place
        event = DeployEvent(
            "failed", code="Unavailable", message="The answer ended early: see `reactor deploy --list`."
        )
        for line in follow(self._target, place, self._body, _ARCHIVE):
            event = _decoded(line)
            if event.kind == "step":
                _print_step(event)
            elif event.plan is not None and not self.is_plan_shown:
                self._print_plan(event.plan)
            if event.kind in ("done", "failed"):
                break
        if self._as_json and event.kind == "done":
            say(msgspec.json.encode(event).decode())
        if event.kind == "done" or (may_ask and event.code == "DeployNeedsConfirmation"):
            return event
        fail(f"{event.code}: {event.message}\nNothing was switched: what ran before goes on.")

    def _print_plan(self, plan: "Plan") -> None:
        if self._as_json:
            say(msgspec.json.encode(plan).decode())
            return
        lines = [
            *_named("functions", plan.functions),
            *_named("crons", plan.crons),
            *_named("components", plan.components),
        ]
        lines += [f"new table {name}" for name in plan.added_tables]
        lines += [f"new index {fill.table}.{fill.name}{_over(fill.documents)}" for fill in plan.added_indexes]
        lines += [f"index {name} goes" for name in plan.removed_indexes]
        lines += [f"table {gone.table} leaves the schema{_over(gone.documents)}" for gone in plan.detached_tables]
        lines += [
            f"table {check.table}: {check.documents} documents checked, {check.failing} don't match"
            for check in plan.checks
        ]
        for check in plan.failing:
            lines += [f"  {misfit.id}: {misfit.problem}" for misfit in check.samples]
        for line in lines or ["nothing changes"]:
            say(f"  {line}")


def _archive(folder: Path) -> bytes:
    # Here, since the engine takes a moment to import and no other command needs it.
    from reactor.cli.settings import find_project
    from reactor.runtime.project import read_options
    from reactor.server.deploys.archive import pack
    from reactor.server.deploys.selection import project_files

    root = find_project(folder)
    files = project_files(root, read_options(root))
    try:
        return pack(files)
    except OSError as error:
        fail(f"{error.filename} can't be read: {error.strerror}.")


def _run_first(command: str, variable: str, target: Target, folder: Path) -> None:
    """Run the user's command.

    Raises:
        typer.Exit: it failed.
    """
    result = subprocess.run(command, shell=True, cwd=folder, env=os.environ | {variable: target.url}, check=False)
    if result.returncode:
        fail(f"`{command}` ended with exit code {result.returncode}; nothing was deployed.")


def _decoded(line: bytes) -> DeployEvent:
    try:
        return _events.decode(line)
    except msgspec.MsgspecError:
        fail(f"The server's answer can't be understood: {line[:200].decode(errors='replace')}")


def _print_step(event: DeployEvent) -> None:
    """Show progress to people; a log gets the beginnings."""
    if sys.stderr.isatty() or not event.done:
        warn(f"{event.step} {event.done}/{event.total}" if event.total else event.step)


def _print_list(kept: DeployList, as_json: bool) -> None:
    if as_json:
        say(msgspec.json.encode(kept).decode())
        return
    for one in kept.deploys:
        say(_described(one, is_running=one.number == kept.running))
    if not kept.deploys:
        say("Nothing was deployed yet.")


def _described(one: Deploy, *, is_running: bool) -> str:
    time_ = datetime.fromtimestamp(one.deployed_ms / 1000).astimezone().isoformat(" ", "seconds")
    back = f", back to {one.source}" if one.source != one.number else ""
    return f"{one.number}  {time_}  {one.files} files, {one.bytes} bytes{back}{'  (runs)' if is_running else ''}"


def _named(what: str, change: "Change") -> list[str]:
    lines = []
    for names, how in ((change.added, "new"), (change.removed, "removed"), (change.changed, "changed")):
        if names:
            shown = ", ".join(names[:_MOST_NAMES]) + (
                f" and {len(names) - _MOST_NAMES} more" if names[_MOST_NAMES:] else ""
            )
            lines.append(f"{how} {what}: {shown}")
    return lines


def _over(documents: int | None) -> str:
    return " (not loaded yet)" if documents is None else f" ({documents} documents)"
