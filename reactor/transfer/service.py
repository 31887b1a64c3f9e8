"""Imports and exports of a running deployment: what was uploaded, what waits, what runs, what can be fetched.

Owns the folder of uploads and archives, and the documents that say how far each transfer is; clients watch these.
Promises one import and one export at a time, that a transfer which was under way when the process ended is said to have
failed, and that nothing of it is left. Used by the HTTP endpoints; made by the composition root.
"""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reactor.engine.catalog import EXPORTS, IMPORTS
from reactor.errors import Error, TransferRefused
from reactor.limits import MIB
from reactor.ports import Clock, Rng
from reactor.runtime.host import Host
from reactor.runtime.transfers import change_transfer, make_transfer, newest, read_transfer
from reactor.schema.definition import Schema
from reactor.transfer.bundle import Bundle, Mode, open_bundle
from reactor.transfer.exporting import Export
from reactor.transfer.importing import Import
from reactor.transfer.requests import ImportRequest, checkpoints, summary
from reactor.values.types import Int64

log = logging.getLogger(__name__)

EXPORT_DAYS: Final = 14
PROGRESS_SECONDS: Final = 1.0  # between two reports of one transfer
_DAY_NS: Final = 86_400 * 10**9
_WRITE_BYTES: Final = 1 * MIB
_ENDED: Final = frozenset({"completed", "failed", "canceled"})
RESTARTED: Final = "The server was restarted. Nothing was imported; try again."


class Transfers:
    """The transfers of one open deployment."""

    def __init__(self, host: Host, folder: Path | None, name: str, clock: Clock, rng: Rng) -> None:
        """`folder` is the data directory, None for data in memory; `name` is that of the instance."""
        self._host = host
        self._database = host.database
        self._files = host.files
        self._clock = clock
        self._rng = rng
        self._name = name
        self._parent = folder
        self._folder: Path | None = None
        self._uploads: dict[str, dict[str, Path]] = {}  # parts by their tokens, by upload
        self._waiting: dict[str, tuple[ImportRequest, Path, Bundle]] = {}  # for confirmation, by import
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by transfer

    # Life.

    async def start(self) -> None:
        """Take up what an earlier process has left."""
        for row in self._rows(IMPORTS):
            if row["state"]["state"] not in _ENDED:
                state = {"state": "failed", "error_message": RESTARTED}
                change_transfer(self._database, row["_id"], state=state)
        for row in self._rows(EXPORTS):
            if row["state"] not in _ENDED:
                change_transfer(self._database, row["_id"], **self._failed_export(RESTARTED))
        await self._settled()
        if self._parent is not None:
            kept = {f"{row['_id']}.zip" for row in self._rows(EXPORTS) if row["state"] == "completed"}
            await asyncio.to_thread(_clean, self._parent / "transfer", kept)

    async def stop(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for _, _, bundle in self._waiting.values():
            bundle.close()
        self._waiting.clear()
        if self._parent is None and self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    # Uploads.

    def start_upload(self) -> str:
        """Begin an upload; return its token."""
        token = self._rng.token_bytes(16).hex()
        self._uploads[token] = {}
        return token

    async def upload_part(self, token: str, number: int, parts: AsyncIterable[bytes]) -> str:
        """Keep a part; return its token.

        Raises:
            TransferRefused: there is no such upload.
        """
        upload = self._uploads.get(token)
        if upload is None:
            raise TransferRefused("InvalidImport", "There is no such upload: start again.")
        path = await self._store(parts)
        part_token = f"{number}-{self._rng.token_bytes(8).hex()}"
        upload[part_token] = path
        return part_token

    async def finish_upload(self, token: str, part_tokens: Sequence[str], request: ImportRequest) -> str:
        """Make an import of what was uploaded; return its id.

        Raises:
            TransferRefused: it makes no sense, or parts are missing.
        """
        request.check()
        upload = self._uploads.pop(token, None)
        if upload is None or any(part not in upload for part in part_tokens):
            raise TransferRefused("InvalidImport", "A part of the upload is missing: start again.")
        path = await self._new_path()
        await self._files.in_thread(_join, [upload[part] for part in part_tokens], path)
        import_id = self._begin(request, path, is_confirmed=False)
        await self._settled()
        return import_id

    async def import_now(self, parts: AsyncIterable[bytes], request: ImportRequest) -> int:
        """Import a body without asking back; return how many rows were written.

        Raises:
            TransferRefused: it failed.
        """
        request.check()
        path = await self._store(parts)
        import_id = self._begin(request, path, is_confirmed=True)
        await asyncio.wait([self._tasks[import_id]])
        row = read_transfer(self._database.begin_mutation(), import_id)
        state: Any = {} if row is None else row["state"]
        if state.get("state") != "completed":
            raise TransferRefused("ImportFailed", str(state.get("error_message", "The import was cancelled.")))
        return int(state["num_rows_written"])

    async def _store(self, parts: AsyncIterable[bytes]) -> Path:
        path = await self._new_path()
        stream = await self._files.in_thread(open, path, "xb")
        try:
            waiting = bytearray()
            async for part in parts:
                waiting += part
                if len(waiting) >= _WRITE_BYTES:
                    await self._files.in_thread(stream.write, bytes(waiting))
                    waiting.clear()
            await self._files.in_thread(stream.write, bytes(waiting))
        except BaseException:
            await self._remove(path)
            raise
        finally:
            await self._files.in_thread(stream.close)
        return path

    # Imports.

    def _begin(self, request: ImportRequest, path: Path, *, is_confirmed: bool) -> str:
        if not self._host.has_version:
            path.unlink(missing_ok=True)
            raise TransferRefused("ImportFailed", "No project is deployed yet, so there are no tables to import into.")
        import_id = make_transfer(self._database, IMPORTS, {"state": {"state": "uploaded"}, **request.fields()})
        work = self._prepare(import_id, request, path, is_confirmed)
        self._run(import_id, work, _failed_import)
        return import_id

    async def _prepare(self, import_id: str, request: ImportRequest, path: Path, is_confirmed: bool) -> None:
        """Look at what was uploaded, and ask whether it shall be done."""
        try:
            bundle = await self._files.in_thread(open_bundle, path, request.format, request.table, request.component)
        except BaseException:
            await self._remove(path)
            raise
        try:
            plan = await self._import(bundle, request, lambda *_: None).plan()
        except BaseException:
            bundle.close()
            await self._remove(path)
            raise
        message, deletes = summary(plan, request, bundle)
        if is_confirmed:
            await self._perform(import_id, request, path, bundle)
            return
        self._waiting[import_id] = (request, path, bundle)
        state = {
            "state": "waiting_for_confirmation",
            "message_to_confirm": message,
            "require_manual_confirmation": deletes,
        }
        change_transfer(self._database, import_id, state=state, checkpoints=checkpoints(plan, request.mode))

    async def perform(self, import_id: str) -> None:
        """Do an import that waits for confirmation.

        Raises:
            TransferRefused: it does not.
        """
        waiting = self._waiting.pop(import_id, None)
        if waiting is None:
            raise TransferRefused("ImportFailed", "There is no such import that waits for confirmation.")
        change_transfer(self._database, import_id, state=_in_progress("Importing", []))
        self._run(
            import_id,
            self._perform(import_id, *waiting),
            _failed_import,
        )
        await self._settled()

    async def cancel_import(self, import_id: str) -> None:
        """End an import. Nothing of it is left."""
        waiting = self._waiting.pop(import_id, None)
        if waiting is not None:
            waiting[2].close()
            await self._remove(waiting[1])
            change_transfer(
                self._database, import_id, state={"state": "failed", "error_message": "The import was cancelled."}
            )
        elif import_id in self._tasks:
            self._tasks[import_id].cancel()
        await self._settled()

    async def _perform(self, import_id: str, request: ImportRequest, path: Path, bundle: Bundle) -> None:
        messages: list[str] = []
        reported = self._clock.monotonic()

        def progress(table: str, done: int, total: int) -> None:
            nonlocal reported
            now = self._clock.monotonic()
            if done == total:
                messages.append(f"Imported {done} rows into {table}")
            elif now - reported < PROGRESS_SECONDS:
                return
            reported = now
            text = f"Importing {table} ({done}/{total} rows)"
            change_transfer(self._database, import_id, state=_in_progress(text, messages))

        try:
            async with self._host.changing:
                change_transfer(self._database, import_id, state=_in_progress("Importing", []))
                done = await self._import(bundle, request, progress).run()
        finally:
            bundle.close()
            await self._remove(path)
        state = {"state": "completed", "timestamp": Int64(done.ts), "num_rows_written": Int64(done.rows)}
        change_transfer(self._database, import_id, state=state)

    def _import(self, bundle: Bundle, request: ImportRequest, progress: Callable[[str, int, int], None]) -> Import:
        mode: Mode = request.mode  # type: ignore[assignment]  # checked
        return Import(self._database, self._files, self._host.queue, self._schemas(), bundle, mode, progress)

    def _schemas(self) -> Mapping[str, Schema]:
        return {instance.path: instance.schema for instance in self._host.versions.latest().project.root.walk()}

    # Exports.

    async def request_export(self, *, include_storage: bool, component: str) -> str:
        """Begin an export of a component instance and those below it; return its id.

        Raises:
            TransferRefused: one is under way, or there is no such instance.
        """
        if any(row["state"] not in _ENDED for row in self._rows(EXPORTS)):
            raise TransferRefused("ExportInProgress", "There is already an export requested or in progress.")
        if not self._host.has_version:
            raise TransferRefused("InvalidExport", "No project is deployed yet, so there are no tables to export.")
        components = [path for path in self._schemas() if path == component or _is_below(path, component)]
        if component not in components:
            raise TransferRefused("InvalidExport", f"No component {component!r} is mounted here.")
        form = {"format": "zip", "include_storage": include_storage}
        export_id = make_transfer(
            self._database,
            EXPORTS,
            {
                "state": "requested",
                "format": form,
                "component": component or None,
                "requestor": "snapshotExport",
                "expiration_ts": Int64(self._clock.now_ns() + EXPORT_DAYS * _DAY_NS),
            },
        )
        self._run(
            export_id,
            self._export(export_id, form, components),
            self._failed_export,
        )
        await self._settled()
        return export_id

    async def _export(self, export_id: str, form: Mapping[str, Any], components: Sequence[str]) -> None:
        await self._expire()
        folder = await self._home()
        path = folder / f"{export_id}.zip"

        def progress(text: str) -> None:
            change_transfer(self._database, export_id, progress_message=text)

        export = Export(
            self._database,
            self._files,
            self._host.queue,
            components,
            progress,
            include_storage=bool(form["include_storage"]),
        )
        change_transfer(self._database, export_id, state="in_progress", start_ts=Int64(export.ts))
        try:
            await export.run(path)
        except BaseException:
            await self._remove(path)
            raise
        change_transfer(
            self._database,
            export_id,
            state="completed",
            complete_ts=Int64(self._clock.now_ns()),
            zip_object_key=path.name,
        )

    async def exported(self, key: str) -> tuple[Path, str]:
        """Return where the archive of an export is, by its id or the timestamp of its snapshot, and its name.

        Raises:
            TransferRefused: there is none, or not any more.
        """
        await self._expire()
        for row in self._rows(EXPORTS):
            if row["state"] == "completed" and key in (row["_id"], str(int(row["start_ts"]))):
                path = await self._home() / str(row["zip_object_key"])
                if await self._files.in_thread(path.exists):
                    return path, f"snapshot_{self._name}_{int(row['start_ts'])}.zip"
        raise TransferRefused("ExportNotFound", f"There is no finished export {key!r}, or not any more.")

    async def set_expiration(self, export_id: str, when_ns: int) -> None:
        """Keep an archive until a time.

        Raises:
            TransferRefused: there is none.
        """
        row = read_transfer(self._database.begin_mutation(), export_id)
        if row is None or row["state"] != "completed":
            raise TransferRefused("ExportNotFound", f"There is no finished export {export_id!r}.")
        change_transfer(self._database, export_id, expiration_ts=Int64(when_ns))
        await self._settled()

    def cancel_export(self, export_id: str) -> None:
        """End an export; nothing of it is left. One that is done stays."""
        task = self._tasks.get(export_id)
        if task is not None:
            task.cancel()

    async def _expire(self) -> None:
        """Remove archives whose time is over, and their documents."""
        now_ns = self._clock.now_ns()
        for row in self._rows(EXPORTS):
            if row["state"] == "completed" and int(row["expiration_ts"]) <= now_ns:
                await self._remove(await self._home() / str(row["zip_object_key"]))
                change_transfer(self._database, row["_id"], **self._failed_export("The export has expired."))

    def _failed_export(self, reason: str) -> dict[str, Any]:
        return {"state": "failed", "failed_ts": Int64(self._clock.now_ns()), "error_message": reason}

    # Inside.

    def _run(self, transfer_id: str, work: Any, failed: Callable[[str], dict[str, Any]]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(transfer_id, work, failed))
        self._tasks[transfer_id] = task
        task.add_done_callback(lambda task: self._ended(transfer_id, task))

    def _ended(self, transfer_id: str, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(transfer_id) is task:
            del self._tasks[transfer_id]

    async def _guarded(self, transfer_id: str, work: Any, failed: Callable[[str], dict[str, Any]]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            reason = "It was cancelled. Nothing was changed."
        except Error as error:
            reason = str(error)
        except Exception:
            log.exception("a transfer failed inside the server")
            reason = "It failed inside the server; the server's log says more. Nothing was changed."
        else:
            return
        with contextlib.suppress(Error):  # the next start says so
            change_transfer(self._database, transfer_id, **failed(reason))

    def _rows(self, name: str) -> list[dict[str, Any]]:
        transaction = self._database.begin_mutation()
        table = self._database.catalog.by_name[name]
        return newest(transaction, table, len(table) + 1)

    async def _settled(self) -> None:
        """Wait until what was said of a transfer is durable: whoever asks next shall see it."""
        await self._database.durable(self._database.applied_ts)

    async def _home(self) -> Path:
        if self._folder is None:
            if self._parent is None:
                self._folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="reactor-transfer-"))
            else:
                self._folder = self._parent / "transfer"
                await asyncio.to_thread(self._folder.mkdir, 0o700, parents=True, exist_ok=True)
        return self._folder

    async def _remove(self, path: Path) -> None:
        await self._files.in_thread(path.unlink, True)

    async def _new_path(self) -> Path:
        return await self._home() / f"upload-{self._rng.token_bytes(16).hex()}"


def _in_progress(text: str, messages: Sequence[str]) -> dict[str, Any]:
    return {"state": "in_progress", "progress_message": text, "checkpoint_messages": list(messages)}


def _failed_import(reason: str) -> dict[str, Any]:
    return {"state": {"state": "failed", "error_message": reason}}


def _is_below(path: str, component: str) -> bool:
    return not component or path.startswith(f"{component}/")


def _join(parts: Sequence[Path], path: Path) -> None:
    with open(path, "xb") as whole:
        for part in parts:
            with open(part, "rb") as stream:
                shutil.copyfileobj(stream, whole, _WRITE_BYTES)
            part.unlink()


def _clean(folder: Path, kept: set[str]) -> None:
    """Remove what no document names."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)
