"""What can't be imported is refused whole, with the reason, and leaves everything as it was."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reactor.limits import Limits
from reactor.values.ids import encode_id
from tests.transfer.sites import archive, lines, site, write_project

pytestmark = pytest.mark.asyncio

USERS, NOTES, THINGS = 10003, 10001, 10002
FILE = encode_id(540, b"f" * 16)


def _id(number: int, text: str = "x") -> str:
    return encode_id(number, text.encode().ljust(16, b"."))


def _note(**fields: Any) -> dict[str, Any]:
    return {"_id": _id(NOTES), "_creationTime": 5.0, "text": "new"} | fields


def _raw(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries:
            made.writestr(name, content)
    return stream.getvalue()


def _link() -> bytes:
    info = zipfile.ZipInfo("notes/documents.jsonl")
    info.external_attr = 0o120777 << 16
    return _raw((info, b"/etc/passwd"))


def _lying(at_local: bool) -> bytes:
    """An archive whose directory says that an entry is smaller than it is."""
    data = bytearray(archive({"notes/documents.jsonl": [_note(text="y" * 500)]}))
    signature, offset = (b"PK\3\4", 22) if at_local else (b"PK\1\2", 24)
    at = data.index(signature) + offset
    data[at : at + 4] = struct.pack("<I", 10)
    return bytes(data)


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


GOOD = archive({"notes/documents.jsonl": [_note()]})
STORED = {"_id": FILE, "_creationTime": 1.0, "size": 3.0}
BOMB = archive({"notes/documents.jsonl": b" " * (100 << 20)})

ZIPS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "can't be read"),
    "no zip": (b"PK nonsense" * 10, "can't be read"),
    "half a zip": (_cut(GOOD), "can't be read"),
    "a climbing path": (archive({"../notes/documents.jsonl": [_note()]}), "leads out"),
    "a climbing path inside": (archive({"notes/../documents.jsonl": [_note()]}), "leads out"),
    "an absolute path": (archive({"/etc/documents.jsonl": [_note()]}), "no path inside"),
    "a drive": (archive({"C:/notes/documents.jsonl": [_note()]}), "no path inside"),
    "backslashes": (archive({"..\\notes\\documents.jsonl": [_note()]}), "no path inside"),
    "a symlink": (_link(), "link or a device"),
    "a bomb": (BOMB, "would grow"),
    "a lying directory": (_lying(False), "damaged"),
    "bad bytes": (GOOD.replace(GOOD[60:64], b"\0\1\2\3", 1), "damaged"),
    "no table name": (archive({"no-table/documents.jsonl": [_note()]}), "name of a table"),
    "no object": (archive({"notes/documents.jsonl": [5]}), "no object"),
    "no JSON": (archive({"notes/documents.jsonl": '{"text":'}), "row 1"),
    "half a row at the end": (archive({"notes/documents.jsonl": json.dumps(_note()) + '\n{"_id": '}), "row 2"),
    "a wrong type": (archive({"notes/documents.jsonl": [_note(text=5)]}), "text"),
    "an unknown field": (archive({"notes/documents.jsonl": [_note(other=1)]}), "other"),
    "a wrong reference": (archive({"notes/documents.jsonl": [_note(author=_id(THINGS))]}), "author"),
    "an id of another table": (
        archive({"notes/documents.jsonl": [_note(), _note(_id=_id(THINGS))]}),
        "table number 10002",
    ),
    "an id that is none": (archive({"notes/documents.jsonl": [_note(_id="abc")]}), "Unable to decode ID"),
    "an id that is a number": (archive({"notes/documents.jsonl": [_note(_id=7)]}), "no string"),
    "a time that is none": (archive({"notes/documents.jsonl": [_note(_creationTime="now")]}), "_creationTime"),
    "a reserved field": (archive({"things/documents.jsonl": [{"_private": 1}]}), "underscore"),
    "an id twice": (archive({"notes/documents.jsonl": [_note(), _note(text="again")]}), "two rows"),
    "a bad second table": (
        archive({"notes/documents.jsonl": [_note()], "users/documents.jsonl": [{"name": "A"}, {"name": 1}]}),
        "'users', row 2",
    ),
    "two tables of a number": (
        archive({"_tables/documents.jsonl": [{"name": "notes", "id": 10009}, {"name": "users", "id": 10009}]}),
        "same number",
    ),
    "a system number": (archive({"_tables/documents.jsonl": [{"name": "notes", "id": 513}]}), "no number of a table"),
    "no component": (archive({"_components/nobody/notes/documents.jsonl": [_note()]}), "nobody"),
    "a file without content": (archive({"_storage/documents.jsonl": [STORED]}), "missing"),
    "a file without row": (archive({"_storage/documents.jsonl": [], f"_storage/{FILE}": b"abc"}), "no row"),
    "contents alone": (archive({f"_storage/{FILE}": b"abc"}), "_storage/documents.jsonl"),
    "a file of another size": (archive({"_storage/documents.jsonl": [STORED], f"_storage/{FILE}": b"abcd"}), "4 bytes"),
    "a file of another digest": (
        archive({"_storage/documents.jsonl": [STORED | {"sha256": "AAAA"}], f"_storage/{FILE}": b"abc"}),
        "another sha256",
    ),
    "a file twice": (
        archive({"_storage/documents.jsonl": [STORED, STORED], f"_storage/{FILE}": b"abc"}),
        "already a file",
    ),
    "a header in a content type": (
        archive({"_storage/documents.jsonl": [STORED | {"contentType": "a\r\nb"}], f"_storage/{FILE}": b"abc"}),
        "content type",
    ),
    "files after a good table": (
        archive({"notes/documents.jsonl": [_note()], "_storage/documents.jsonl": [STORED], f"_storage/{FILE}": b"x"}),
        "1 bytes",
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
async def test_broken_and_hostile_zips(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    twice = _raw(("notes/documents.jsonl", b""), ("notes/documents.jsonl", b""))
    async with site(folder) as target:
        await target.deployment.mutation("all:add", table="users", document={"name": "Ada"})
        await target.deployment.mutation("all:add", table="things", document={"a": 1})
        before = await target.fingerprint()
        for mode in ("replace", "append"):
            for name, (content, reason) in {**ZIPS, "an entry twice": (twice, "twice")}.items():
                state = await target.bring(content, mode=mode)
                assert state["state"] in ("failed", "refused"), (name, state)
                assert reason in state.get("error_message", state.get("message", "")), (name, state)
                assert await target.fingerprint() == before, name
        assert not os.listdir(await target.deployment.backend().transfers._home()), "nothing that was uploaded is left"
        assert (await target.bring(GOOD))["state"] == "completed"


OTHERS: dict[str, tuple[bytes, dict[str, str], str]] = {
    "a table and a zip": (GOOD, {"format": "zip", "tableName": "notes"}, "zip names its tables"),
    "no table": (b"{}", {"format": "jsonLines"}, "Which table"),
    "a system table": (b"{}", {"format": "jsonLines", "tableName": "_storage"}, "is a system table"),
    "a bad name": (b"{}", {"format": "csv", "tableName": "a b"}, "can't name a table"),
    "a format": (b"{}", {"format": "xml", "tableName": "notes"}, "no format"),
    "a mode": (b"{}", {"format": "zip", "mode": "merge"}, "no mode"),
    "all tables from one": (b"{}", {"format": "csv", "tableName": "notes", "mode": "replaceAll"}, "Only a zip"),
    "a full table": (b'{"name": "B"}', {"format": "jsonLines", "tableName": "users"}, "already exists"),
    "no array": (b"{}", {"format": "jsonArray", "tableName": "things"}, "no JSON array"),
    "short rows": (b"a,b\n1,2\n3\n", {"format": "csv", "tableName": "things"}, "row 2: it has 1 cells"),
    "doubled columns": (b"a,a\n1,2\n", {"format": "csv", "tableName": "things"}, "none twice"),
    "an open quote": (b'a\n"never', {"format": "csv", "tableName": "things"}, "row 1"),
    "no text": (b"a\n\xff\xfe\n", {"format": "csv", "tableName": "things"}, "row 1"),
    "an endless line": (b'{"a": "' + b"x" * (9 << 20), {"format": "jsonLines", "tableName": "things"}, "longer than"),
    "too large a document": (
        json.dumps({"a": "x" * (2 << 20)}).encode(),
        {"format": "jsonLines", "tableName": "things"},
        "too large",
    ),
}


async def test_single_tables(tmp_path: Path) -> None:
    async with site(write_project(tmp_path)) as target:
        await target.deployment.mutation("all:add", table="users", document={"name": "Ada"})
        before = await target.fingerprint()
        for name, (content, asked, reason) in OTHERS.items():
            state = await target.bring(content, **asked)
            assert reason in state.get("error_message", state.get("message", "")), (name, state)
            answer = await target.client.post("/api/import", params=asked, content=content)
            assert (answer.status_code, reason in answer.json()["message"]) == (400, True), (name, answer.text)
            assert await target.fingerprint() == before, name


async def test_formats(tmp_path: Path) -> None:
    async with site(write_project(tmp_path)) as target:
        cells = b'\xef\xbb\xbfname,n\r\nA,1.5\r\n"x ""y""",\r\nnan,1_0\r\n'
        assert (await target.bring(cells, "csv", tableName="things"))["num_rows_written"] == "3"
        rows = [json.loads(line) for line in _lines_of(await target.take(), "things")]
        found = [(row["name"], row["n"]) for row in rows]
        assert found == [("A", 1.5), ('x "y"', ""), ({"$float": "AAAAAAAA+H8="}, "1_0")]
        answer = await target.client.post(
            "/api/import?tableName=users&format=jsonArray&mode=replace", content=b'[{"name": "A"}, {"name": "B"}]'
        )
        assert answer.json() == {"numWritten": 2}


def _lines_of(data: bytes, table: str) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return opened.read(f"{table}/documents.jsonl").splitlines()


async def test_a_number_that_another_table_has(tmp_path: Path) -> None:
    async with site(write_project(tmp_path)) as target:
        await target.deployment.mutation("all:add", table="users", document={"name": "Ada"})
        before = await target.fingerprint()
        taken = archive({"notes/documents.jsonl": [_note(_id=_id(USERS))]})
        state = await target.bring(taken, mode="replace")
        assert "conflict between `notes` and `users` with table number 10003" in state["error_message"]
        assert await target.fingerprint() == before
        assert (await target.bring(taken, mode="replaceAll"))["state"] == "completed"
        assert target.catalog.by_name["notes"].number == USERS
        assert len(target.catalog.by_name["users"]) == 0


async def test_data_beyond_its_budget(tmp_path: Path) -> None:
    async with site(write_project(tmp_path), limits=Limits(data_bytes=2 << 20)) as target:
        before, used = await target.fingerprint(), target.catalog.bytes
        rows = lines(*[{"text": "x" * 1000} for _ in range(3000)])
        state = await target.bring(rows, "jsonLines", tableName="things")
        assert "REACTOR_DATA_BYTES" in state["error_message"]
        assert await target.fingerprint() == before
        assert target.catalog.bytes < used + 10_000, "only the record of the import itself"


async def test_who_may(tmp_path: Path) -> None:
    async with site(write_project(tmp_path)) as target:
        for key in ("", "Convex reactor|00"):
            headers = {"Authorization": key} if key else {}
            target.client.headers.pop("Authorization", None)
            for path in ("import/start_upload", "import", "perform_import", "export/request/zip", "cancel_import"):
                answer = await target.client.post(f"/api/{path}", headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "BadDeployKey"), path
            assert (await target.client.get("/api/export/zip/1", headers=headers)).status_code == 403


async def test_it_can_be_cancelled(tmp_path: Path) -> None:
    async with site(write_project(tmp_path)) as target:
        before = await target.fingerprint()
        state = await target.begin(GOOD)
        await target.client.post("/api/cancel_import", json={"importId": state["id"]})
        assert (await target.state(state["id"]))["state"] == "failed"
        state = await target.begin(lines(*[{"n": n} for n in range(5000)]), "jsonLines", tableName="things")
        await target.client.post("/api/perform_import", json={"importId": state["id"]})
        await target.client.post("/api/cancel_import", json={"importId": state["id"]})
        assert "cancelled" in (await target.after(state["id"], "in_progress"))["error_message"]
        assert await target.fingerprint() == before
