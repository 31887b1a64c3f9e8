"""One table as CSV and Parquet: the same rows and columns, and nothing lost that has a column form."""

import csv
import json
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from reactor.errors import TransferRefused
from reactor.transfer.columnar import check_layout, write_table
from tests.transfer.sites import archive

ROWS = [
    {
        "_id": "a",
        "_creationTime": 1.5,
        "s": 'x,\n"y"',
        "f": 2.0,
        "i": {"$integer": "AQAAAAAAAAA="},
        "b": {"$bytes": "AP8="},
    },
    {"_id": "b", "_creationTime": 2.0, "s": "", "f": {"$float": "AAAAAAAA+H8="}, "mixed": 1, "list": [1, {"a": None}]},
    {"_id": "c", "_creationTime": 3.0, "mixed": "m", "t": True, "s": None},
]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    path.write_bytes(archive({"rows/documents.jsonl": ROWS, "none/documents.jsonl": []}))
    return path


def test_csv(exported: Path, tmp_path: Path) -> None:
    assert write_table(exported, "rows", "csv", tmp_path / "rows.csv") == 3
    with open(tmp_path / "rows.csv", encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert list(found[0]) == ["_id", "_creationTime", "b", "f", "i", "list", "mixed", "s", "t"]
    assert [row["s"] for row in found] == ['x,\n"y"', "", "null"]
    assert [row["f"] for row in found] == ["2", "nan", ""]
    assert (found[0]["i"], found[0]["b"], found[1]["list"]) == ("1", '{"$bytes":"AP8="}', '[1.0,{"a":null}]')


def test_parquet(exported: Path, tmp_path: Path) -> None:
    assert write_table(exported, "rows", "parquet", tmp_path / "rows.parquet") == 3
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "_id": "string",
        "_creationTime": "double",
        "b": "binary",
        "f": "double",
        "i": "int64",
        "list": "string",
        "mixed": "string",
        "s": "string",
        "t": "bool",
    }
    found = table.to_pylist()
    assert [row["b"] for row in found] == [b"\0\xff", None, None]
    assert [row["i"] for row in found] == [1, None, None]
    assert [row["mixed"] for row in found] == [None, "1.0", '"m"']
    assert write_table(exported, "none", "parquet", tmp_path / "none.parquet") == 0


def test_lines_are_copied(exported: Path, tmp_path: Path) -> None:
    write_table(exported, "rows", "jsonl", tmp_path / "rows.jsonl")
    assert list(map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())) == ROWS
    with pytest.raises(TransferRefused, match="no table 'row', only none, rows"):
        write_table(exported, "row", "jsonl", tmp_path / "row.jsonl")


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    check_layout("csv")
    with pytest.raises(TransferRefused, match=r"pip install 'reactor\[arrow\]'"):
        check_layout("parquet")
