"""`reactor import`: data of a file, into a running deployment.

Promises that nothing is imported unless all of it is, and that rows are only deleted after a question, or with `--yes`.
"""

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
import typer

from reactor.cli.console import fail, say, warn
from reactor.cli.remote import ask, send
from reactor.cli.transfers import AdminKey, Component, Project, Url, looks, target_of

PART_BYTES: Final = 5 << 20
_FORMATS: Final = {".jsonl": "jsonLines", ".json": "jsonArray", ".csv": "csv", ".zip": "zip"}
_NAMES: Final = {"jsonl": "jsonLines", "json": "jsonArray", "csv": "csv", "zip": "zip"}


class _Upload(msgspec.Struct, rename="camel"):
    upload_token: str


class _Import(msgspec.Struct, rename="camel"):
    import_id: str


_uploads: Final = msgspec.json.Decoder(_Upload)
_parts: Final = msgspec.json.Decoder(str)
_imports: Final = msgspec.json.Decoder(_Import)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .zip of an export, or .jsonl, .json or .csv.")],
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="Where to; needed for all but a zip.")] = None,
    format: Annotated[str | None, typer.Option(metavar="FORMAT", help="jsonl, json, csv or zip.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to what is there.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the tables that are in the file.")] = False,
    replace_all: Annotated[bool, typer.Option("--replace-all", help="Replace all tables.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before rows are deleted.")] = False,
    component: Component = "",
    url: Url = None,
    admin_key: AdminKey = None,
    project: Project = Path(),
) -> None:
    """Import a file, all or nothing. Without --append or --replace the tables must be empty.

    reactor import backup.zip --replace-all

    reactor import --table users users.csv --append
    """
    target = target_of(url, admin_key, project)
    kind = _format(file, format)
    if append + replace + replace_all > 1:
        fail("Only one of --append, --replace and --replace-all makes sense.")
    mode = "append" if append else "replace" if replace else "replaceAll" if replace_all else "requireEmpty"
    token = ask(target, "/api/import/start_upload", _uploads, b"").upload_token
    parts: list[str] = []
    try:
        with open(file, "rb") as stream:
            while part := stream.read(PART_BYTES):
                place = f"/api/import/upload_part?uploadToken={quote(token)}&partNumber={len(parts) + 1}"
                parts.append(ask(target, place, _parts, part))
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}.")
    asked: dict[str, str] = {"mode": mode, "format": kind}
    if table is not None:
        asked["tableName"] = table
    if component:
        asked["componentPath"] = component
    body = msgspec.json.encode({"import": asked, "uploadToken": token, "partTokens": parts})
    import_id = ask(target, "/api/import/finish_upload", _imports, body).import_id
    shown = 0
    last = ""
    for row in looks(target, "_system/cli/queryImport", {"importId": import_id}):
        state = row["state"]
        match state["state"]:
            case "waiting_for_confirmation":
                if state["require_manual_confirmation"] and not yes:
                    warn(state["message_to_confirm"])
                    if not typer.confirm("Delete these rows and import?", err=True):
                        send(target, "/api/cancel_import", msgspec.json.encode({"importId": import_id}))
                        fail("Nothing was imported.")
                send(target, "/api/perform_import", msgspec.json.encode({"importId": import_id}))
            case "in_progress":
                for message in state["checkpoint_messages"][shown:]:
                    warn(message)
                shown = len(state["checkpoint_messages"])
                if state["progress_message"] != last:
                    last = state["progress_message"]
                    warn(last)
            case "completed":
                say(f"Imported {state['num_rows_written']} rows.")
                return
            case "failed":
                fail(state["error_message"])


def _format(file: Path, name: str | None) -> str:
    if name is not None:
        if name not in _NAMES:
            fail(f"There is no format {name!r}: it is one of {', '.join(_NAMES)}.")
        return _NAMES[name]
    found = _FORMATS.get(file.suffix.lower())
    if found is None:
        fail(f"What {file.name} holds can't be told from its name: give --format ({', '.join(_NAMES)}).")
    return found
