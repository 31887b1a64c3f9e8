"""`reactor data`: the tables of a running deployment, and their newest or oldest documents.

Promises that `--jsonl` loses nothing: it prints documents as `reactor import` and the official tools read them.
"""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from reactor.cli.console import say, warn
from reactor.cli.queries import system_query
from reactor.cli.target import Target, find_target
from reactor.limits import MAX_ADMIN_PAGE_ITEMS
from reactor.values.json import decode_json, encode_format

MAX_WIDTH: Final = 60  # of a column for people
SYSTEM_FIELDS: Final = ("_id", "_creationTime")


class Order(StrEnum):
    """By creation time."""

    DESC = "desc"
    ASC = "asc"


def data(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="Without it, the tables are listed.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="How many documents at most.")] = 100,
    order: Annotated[Order, typer.Option(help="The newest first, or the oldest.")] = Order.DESC,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print each as one line of JSON, without loss.")] = False,
    component: Annotated[str, typer.Option(metavar="PATH", help="Those of a mounted component.")] = "",
    url: Annotated[str | None, typer.Option(metavar="URL", help="The server.")] = None,
    admin_key: Annotated[str | None, typer.Option(metavar="KEY", help="Its admin key; needs --url.")] = None,
    project: Annotated[Path, typer.Option(metavar="DIR", help="Whose running `reactor dev` to use.")] = Path(),
) -> None:
    """List the tables of a deployment, or print documents of one.

    Examples: `reactor data`; `reactor data messages --limit 5`; `reactor data messages --order asc --jsonl`.
    """
    target = find_target(url, admin_key, os.environ, project.resolve())
    if table is None:
        _list(target, component, jsonl=jsonl)
        return
    documents = _documents(target, component, table, limit + 1, order)
    for line in _lines(documents[:limit], jsonl=jsonl):
        say(line)
    if not documents:
        warn(f"There are no documents in table {table!r}.")
    elif len(documents) > limit:
        which = "newest" if order == Order.DESC else "oldest"
        warn(f"Only the {which} of more than {limit} documents are shown; --limit shows more.")


def _list(target: Target, component: str, *, jsonl: bool) -> None:
    options = {"cursor": None, "numItems": MAX_ADMIN_PAGE_ITEMS}
    page = msgspec.json.decode(system_query(target, "_system/cli/tables", {"paginationOpts": options}, component))
    for entry in page["page"]:
        say(msgspec.json.encode(entry).decode() if jsonl else entry["name"])
    if not page["page"]:
        warn("There are no tables.")


def _documents(target: Target, component: str, table: str, limit: int, order: Order) -> list[dict[str, Any]]:
    """Return the first documents, as wire JSON has them."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        options = {"cursor": cursor, "numItems": min(limit - len(found), MAX_ADMIN_PAGE_ITEMS)}
        args = {"table": table, "order": order.value, "paginationOpts": options}
        page = msgspec.json.decode(system_query(target, "_system/cli/tableData", args, component))
        found += page["page"]
        if page["isDone"] or len(found) >= limit:
            return found
        cursor = page["continueCursor"]


def _lines(documents: list[dict[str, Any]], *, jsonl: bool) -> list[str]:
    if jsonl:
        return [msgspec.json.encode(document).decode() for document in documents]
    if not documents:
        return []
    rest = sorted({field for document in documents for field in document} - set(SYSTEM_FIELDS))
    fields = [*SYSTEM_FIELDS, *rest]
    rows = [fields, *([_shown(document, field) for field in fields] for document in documents)]
    is_cut = sys.stdout.isatty()
    widths = [min(max(len(row[at]) for row in rows), MAX_WIDTH) for at in range(len(fields))]
    return [
        "  ".join(_cell(text, width, is_cut=is_cut) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _cell(text: str, width: int, *, is_cut: bool) -> str:
    return text[: width - 1] + "…" if is_cut and len(text) > width else text.ljust(width)


def _shown(document: dict[str, Any], field: str) -> str:
    if field not in document:
        return ""
    value = decode_json(msgspec.json.encode(document[field]))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return encode_format(value, "json").decode()
