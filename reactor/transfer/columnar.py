"""One table of an exported archive as a single file: JSON lines, CSV or Parquet.

Owns how documents become rows with columns. Promises bounded memory, the same columns for the same data, and that
nothing is lost in JSON lines; CSV and Parquet write what has no column form as JSON. Parquet needs pyarrow, which is
imported only then. Blocking. Used by `reactor export`.
"""

import csv
import importlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from reactor.errors import TransferRefused
from reactor.transfer.archive import DOCUMENTS
from reactor.transfer.rows import batches
from reactor.values.json import json_from_value
from reactor.values.types import Int64, Value

Layout: TypeAlias = Literal["jsonl", "csv", "parquet"]

LAYOUTS: Final[tuple[Layout, ...]] = ("jsonl", "csv", "parquet")
NEEDS_ARROW: Final = "Parquet needs pyarrow: pip install 'reactor[arrow]'"
_SYSTEM: Final = ("_id", "_creationTime")
_COPY_BYTES: Final = 1 << 20


def check_layout(layout: Layout) -> None:
    """Check that a layout can be written here.

    Raises:
        TransferRefused: it needs what is not installed.
    """
    if layout == "parquet":
        _arrow()


def write_table(archive: Path, table: str, layout: Layout, target: Path) -> int:
    """Write one table of `archive`; return how many rows it has, or -1 for JSON lines, which are copied as they are.

    Raises:
        TransferRefused: there is no such table, or the layout needs what is not installed.
    """
    name = f"{table}/{DOCUMENTS}"
    with zipfile.ZipFile(archive) as opened:
        if name not in opened.namelist():
            tables = sorted(
                each.removesuffix(f"/{DOCUMENTS}") for each in opened.namelist() if each.endswith(DOCUMENTS)
            )
            known = ", ".join(each for each in tables if not each.startswith("_"))
            raise TransferRefused("InvalidExport", f"There is no table {table!r}, only {known or 'none at all'}.")
        if layout == "jsonl":
            with opened.open(name) as source, open(target, "wb") as stream:
                while part := source.read(_COPY_BYTES):
                    stream.write(part)
            return -1

        def rows() -> Iterator[dict[str, Value]]:
            with opened.open(name) as source:
                for batch in batches(source, "jsonLines"):
                    for row in batch:
                        document = row.read().value
                        assert isinstance(document, dict)
                        yield document

        return _write_csv(rows, target) if layout == "csv" else _write_parquet(rows, target)


Rows: TypeAlias = Callable[[], Iterator[dict[str, Value]]]


def _columns(rows: Rows) -> dict[str, set[type]]:
    """Return the fields of all documents, the system's first, with the types of their values."""
    found: dict[str, set[type]] = {name: set() for name in _SYSTEM}
    others: dict[str, set[type]] = {}
    for document in rows():
        for name, value in document.items():
            (found if name in found else others).setdefault(name, set()).add(type(value))
    return found | dict(sorted(others.items()))


def _write_csv(rows: Rows, target: Path) -> int:
    columns = list(_columns(rows))
    count = 0
    with open(target, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for document in rows():
            writer.writerow([_cell(document[name]) if name in document else "" for name in columns])
            count += 1
    return count


def _cell(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, Int64):
        return str(int(value))
    return _json(value)


def _json(value: Value) -> str:
    return msgspec.json.encode(json_from_value(value)).decode()


def _write_parquet(rows: Rows, target: Path) -> int:
    arrow, parquet = _arrow()
    plain = {
        float: arrow.float64(),
        str: arrow.string(),
        bool: arrow.bool_(),
        Int64: arrow.int64(),
        bytes: arrow.binary(),
    }
    kinds = {}
    for name, types in _columns(rows).items():
        real = types - {type(None)}
        kinds[name] = plain.get(next(iter(real)), None) if len(real) == 1 else None
    schema = arrow.schema([(name, kind or arrow.string()) for name, kind in kinds.items()])
    count = 0
    with parquet.ParquetWriter(target, schema) as writer:
        waiting: list[dict[str, Any]] = []

        def flush() -> None:
            writer.write_table(arrow.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        for document in rows():
            waiting.append({name: _arrow_value(document.get(name), kinds[name]) for name in kinds})
            count += 1
            if len(waiting) == 5000:
                flush()
        flush()
    return count


def _arrow_value(value: Value, kind: object) -> Any:
    if value is None:
        return None
    if kind is None:
        return _json(value)
    return int(value) if isinstance(value, Int64) else value


def _arrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise TransferRefused("InvalidExport", NEEDS_ARROW) from None
