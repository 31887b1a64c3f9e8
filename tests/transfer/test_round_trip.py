"""What is exported and imported is the same: ids, creation times, values of every type, and files."""

import base64
import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor.runtime.files.documents import FileRow
from reactor.values.ids import encode_id
from tests.sizes import size
from tests.transfer.sites import archive, lines, site, write_project

pytestmark = pytest.mark.asyncio


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


NUMBERS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: str(number) != "-0.0")
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0]).map(
        lambda number: {"$float": _b64(struct.pack("<d", number))}
    ),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: {"$integer": _b64(n.to_bytes(8, "little", signed=True))}),
    st.binary(max_size=20).map(lambda data: {"$bytes": _b64(data)}),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
FIELDS = st.text("abcxyz", min_size=1, max_size=4)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3), max_leaves=8
)
DOCUMENTS = st.lists(st.dictionaries(FIELDS, VALUES, max_size=4), max_size=12)


@settings(max_examples=size(12, 300))
@given(documents=DOCUMENTS, times=st.lists(st.floats(0, 1e13), min_size=12, max_size=12))
async def test_an_archive_brings_the_same_documents(
    tmp_path_factory: Any, documents: list[dict[str, Any]], times: list[float]
) -> None:
    folder = write_project(tmp_path_factory.mktemp("app"))
    rows = [{**document, "_creationTime": time} for document, time in zip(documents, times, strict=False)]
    async with site(folder) as source, site(folder) as target:
        done = await source.bring(lines(*rows), "jsonLines", tableName="things")
        assert (done["state"], done["num_rows_written"]) == ("completed", str(len(rows)))
        content = await source.take()
        assert (await target.bring(content))["state"] == "completed"
        for name in ("notes", "things", "users"):
            assert target.everything()[name] == source.everything()[name]
        assert len(target.everything()["things"][1]) == len(rows)
        again = await target.take()
        assert _contents(again) == _contents(content)


def _contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


async def test_files_and_references_come_along(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    contents = {b"": "text/plain", b"x" * 700_000: None, bytes(range(256)): "image/png"}
    async with site(folder) as source, site(folder) as target:
        user = await source.deployment.mutation("all:add", table="users", document={"name": "Ada"})
        await source.deployment.mutation("all:add", table="notes", document={"text": "hi", "author": user})
        rows, entries = [], {}
        for at, (content, kind) in enumerate(contents.items()):
            file = encode_id(540, bytes([at] * 16))
            digest = _b64(hashlib.sha256(content).digest())
            rows.append({"_id": file, "_creationTime": 7.5 + at, "sha256": digest, "size": len(content)})
            if kind is not None:
                rows[-1]["contentType"] = kind
            entries[f"_storage/{file}.bin"] = content
        assert (await source.bring(archive({"_storage/documents.jsonl": rows, **entries})))["state"] == "completed"
        taken = await source.take()
        assert sorted(_contents(taken)) == sorted(
            ["README.md", "_tables/documents.jsonl", "_storage/documents.jsonl"]
            + [
                f"{name}/{file}"
                for name in ("notes", "things", "users")
                for file in ("documents.jsonl", "generated_schema.jsonl")
            ]
            + [f"_storage/{row['_id']}{end}" for row, end in zip(rows, (".txt", "", ".png"), strict=True)]
        )
        assert json.loads(_contents(taken)["notes/generated_schema.jsonl"]) == "uniform"
        assert "_storage/documents.jsonl" not in _contents(await source.take(include_storage=False))
        assert (await target.bring(taken))["state"] == "completed"
        assert await target.deployment.query("all:notes") == await source.deployment.query("all:notes")
        for here in (source, target):
            (table,) = here.host.files.tables()
            found = {}
            for data in table.documents.values():
                row = FileRow.of(data)
                found[row.id] = (b"".join(here.host.files.parts_blocking(row)), row.content_type, row.uuid)
            assert [found[row["_id"]][:2] for row in rows] == list(contents.items())
            uuids = {row: found[row][2] for row in found}
        assert len(uuids) == 3
        await source.host.database.tablets.settled()


async def test_an_archive_made_by_hand_in_the_documented_layout(tmp_path: Path) -> None:
    """Its numbers are those of other tables here; tables that are empty give way."""
    folder = write_project(tmp_path)
    user, note = encode_id(10002, b"u" * 16), encode_id(10001, b"n" * 16)
    extra = encode_id(10003, b"e" * 16)
    entries: dict[str, Any] = {
        "README.md": "hello",
        "_tables/documents.jsonl": [
            {"name": "users", "id": 10002},
            {"name": "notes", "id": 10001},
            {"name": "extra", "id": 10003},
        ],
        "users/documents.jsonl": [{"_id": user, "_creationTime": 1700000000000.25, "name": "Ada"}],
        "users/generated_schema.jsonl": '"uniform"\n',
        "notes/documents.jsonl": [{"_id": note, "_creationTime": 1, "text": "x", "author": user}],
        "extra/documents.jsonl": [{"_id": extra, "_creationTime": 2, "n": {"$integer": _b64(b"\1" + b"\0" * 7)}}],
        "_scheduled_functions/documents.jsonl": [{"ignored": True}],
        "__MACOSX/x": "ignored",
    }
    async with site(folder) as target:
        assert target.catalog.by_name["users"].number == 10003
        done = await target.bring(archive(entries))
        assert (done["state"], done["num_rows_written"]) == ("completed", "3")
        numbers = {name: target.catalog.by_name[name].number for name in ("users", "notes", "extra", "things")}
        assert numbers == {"users": 10002, "notes": 10001, "extra": 10003, "things": 10004}
        assert await target.deployment.query("all:by_text", text="x") == [
            {"_id": note, "_creationTime": 1.0, "text": "x", "author": user}
        ]
        new = await target.deployment.mutation("all:add", table="things", document={})
        assert new in {key[1:-1].decode() for key in target.catalog.by_name["things"].documents}
