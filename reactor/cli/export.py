"""`reactor export`: all data of a running deployment as one zip, or one table as a file.

Promises one moment for all of it, and a file that is there whole or not at all.
"""

import tempfile
from pathlib import Path
from typing import Annotated, get_args
from urllib.parse import urlencode

import typer

from reactor.cli.console import fail, say, warn
from reactor.cli.remote import download, send
from reactor.cli.transfers import AdminKey, Component, Project, Url, looks, target_of
from reactor.transfer.columnar import LAYOUTS, Layout, check_layout, write_table


def export(
    path: Annotated[Path, typer.Option(metavar="PATH", help="A file to write, or for a zip a folder to put it into.")],
    include_file_storage: Annotated[
        bool, typer.Option("--include-file-storage", help="Put the stored files into the zip.")
    ] = False,
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="Only this one, as jsonl, csv or parquet.")] = None,
    format: Annotated[str | None, typer.Option(metavar="FORMAT", help="zip, jsonl, csv or parquet.")] = None,
    component: Component = "",
    url: Url = None,
    admin_key: AdminKey = None,
    project: Project = Path(),
) -> None:
    """Export everything as it is at one moment, while writes go on.

    reactor export --path backup.zip --include-file-storage

    reactor export --table users --path users.csv
    """
    target = target_of(url, admin_key, project)
    layout = _layout(path, table, format)
    query = urlencode({"includeStorage": str(include_file_storage).lower(), "component": component})
    send(target, f"/api/export/request/zip?{query}", b"")
    last = ""
    for row in looks(target, "_system/cli/exports:getLatest", {}):
        if row["state"] == "completed":
            break
        if row["state"] in ("failed", "canceled"):
            fail(row.get("error_message", "The export was cancelled."))
        if row.get("progress_message", last) != last:
            last = row["progress_message"]
            warn(last)
    place = f"/api/export/zip/{row['start_ts']}"
    if table is None:
        file = path / f"snapshot_{row['start_ts']}.zip" if path.is_dir() else path
        download(target, place, file)
        say(f"Wrote {file}.")
        return
    assert layout is not None
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".reactor-export-") as folder:
        archive, written = Path(folder) / "export.zip", Path(folder) / "table"
        download(target, place, archive)
        write_table(archive, table, layout, written)
        written.replace(path)
    say(f"Wrote {path}.")


def _layout(path: Path, table: str | None, format: str | None) -> Layout | None:
    """Return the layout of a single table, or None for a zip."""
    name = format or (path.suffix.lower().removeprefix(".") if table is not None else "zip")
    if (name == "zip") == (table is not None):
        fail("A zip has all tables; --format jsonl, csv or parquet has one: give --table with it, and only with it.")
    if name == "zip":
        return None
    if name not in get_args(Layout):
        fail(f"There is no format {name!r}: it is one of zip, {', '.join(LAYOUTS)}.")
    layout: Layout = name  # type: ignore[assignment]
    check_layout(layout)
    return layout
