"""Readers see all of an import or none of it, whatever they and others do meanwhile, and whatever breaks."""

import asyncio
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reactor.engine.catalog import document_bytes, document_key
from reactor.engine.snapshot import count_at, read_at, scan_at
from reactor.errors import DocumentNotFound, StorageError
from reactor.storage import failpoints
from tests.sizes import size
from tests.transfer.sites import lines, site, write_project

pytestmark = pytest.mark.asyncio
ROWS = size(3000, 100_000)


@pytest.mark.parametrize("mode", ["replace", "append"])
async def test_a_live_query_sees_it_once(tmp_path: Path, mode: str) -> None:
    """Others write to the table meanwhile: a replaced one takes their writes along, one appended to keeps them."""
    folder = write_project(tmp_path)
    async with site(folder) as target:
        call = target.deployment.mutation
        ids = [await call("all:add", table="notes", document={"text": "old"}) for _ in range(20)]
        counts: list[int] = []
        all_seen = asyncio.Event()
        texts: list[str] = []

        async def watch() -> None:
            async with target.deployment.subscribe("all:by_text", text="new") as live:
                async for value in live:
                    counts.append(len(value))
                    if value:
                        all_seen.set()

        async def write() -> None:
            for at, document in enumerate(ids * 1000):
                if (await target.state(waiting["id"]))["state"] != "in_progress":
                    return
                try:
                    await call("all:rename", id=document, text=f"mine {at}")
                    texts.append(document)
                    await call("all:add", table="notes", document={"text": "added"})
                except DocumentNotFound:
                    return

        watching = asyncio.create_task(watch())
        waiting = await target.begin(
            lines(*[{"text": "new"} for _ in range(700)]), "jsonLines", mode, tableName="notes"
        )
        assert waiting["require_manual_confirmation"] == (mode == "replace")
        assert waiting["message_to_confirm"].startswith("Import change summary:")
        await target.client.post("/api/perform_import", json={"importId": waiting["id"]})
        await asyncio.gather(write(), write())
        assert (await target.after(waiting["id"], "in_progress"))["state"] == "completed"
        await all_seen.wait()
        watching.cancel()
        assert counts == [0, 700]
        assert len(texts) > 5, "others went on"
        notes = await target.deployment.query("all:notes")
        old = [note for note in notes if note["text"] != "new"]
        if mode == "append":
            assert {note["_id"] for note in old} >= set(ids)
            assert all(note["text"].startswith(("mine", "added")) or note["_id"] not in texts for note in old)
            added = sum(note["text"] == "added" for note in old)
            assert len(texts) - 2 <= added <= len(texts), "each writer may have been stopped before its second write"
        await target.host.database.tablets.settled()
        assert target.catalog.bytes == _measured(target.catalog)


def _measured(catalog: Any) -> int:
    tables = [table for table in catalog.by_number.values() if table.unloaded is None]
    documents = sum(document_bytes(data) for table in tables for data in table.documents.values())
    return documents + sum(index.keys.bytes for table in tables for index in table.order)


async def test_a_snapshot_from_before_sees_what_was_there(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    async with site(folder) as target:
        database, table = target.host.database, target.catalog.by_name["notes"]
        index = table.indexes[("text", "_creationTime")]

        def seen(ts: int) -> tuple[Any, ...]:
            rows = scan_at(index, b"", None, 100, False, ts).rows
            backwards = scan_at(index, b"", None, 100, True, ts).rows
            assert backwards == rows[::-1]
            assert count_at(index, b"", None, ts) == len(rows)
            for key, data in rows:
                assert read_at(table, document_key(key), ts) == data
            return tuple(data for _, data in rows)

        pinned: dict[int, tuple[Any, ...]] = {}
        for at in range(4):
            await target.deployment.mutation("all:add", table="notes", document={"text": f"a{at}"})
            ts = database.durable_ts
            database.retention.pin(ts)
            pinned[ts] = seen(ts)
            done = await target.bring(
                lines(*[{"text": f"{at} {n}"} for n in range(5)]), "jsonLines", "replace", tableName="notes"
            )
            assert done["state"] == "completed"
            ts = database.durable_ts
            database.retention.pin(ts)
            pinned[ts] = seen(ts)
        assert len(set(pinned.values())) == 8
        for ts, rows in pinned.items():
            assert seen(ts) == rows
        for ts in pinned:
            database.retention.unpin(ts)
        await target.host.database.tablets.settled()
        assert index.before is None
        assert target.catalog.bytes == _measured(target.catalog)


async def test_what_is_replaced_is_what_a_restart_finds(tmp_path: Path) -> None:
    folder, data = write_project(tmp_path / "app"), tmp_path / "data"
    async with site(folder, data) as target:
        for at in range(3):
            await target.deployment.mutation("all:add", table="notes", document={"text": "before"})
            rows = lines(*[{"text": f"{at} {n}"} for n in range(200)])
            assert (await target.bring(rows, "jsonLines", "replace", tableName="notes"))["state"] == "completed"
            await target.deployment.mutation("all:add", table="notes", document={"text": "after"})
        extra = lines(*[{"n": n} for n in range(50)])
        assert (await target.bring(extra, "jsonLines", tableName="extra"))["state"] == "completed"
        wanted = await target.deployment.query("all:notes")
        numbers = {name: table.number for name, table in target.catalog.by_name.items()}
    async with site(folder, data) as target:
        assert await target.deployment.query("all:notes") == wanted
        assert len(wanted) == 201
        assert {name: table.number for name, table in target.catalog.by_name.items()} == numbers
        await target.host.database.loading.load(target.catalog.by_name["extra"])
        assert len(target.catalog.by_name["extra"]) == 50
        await target.host.database.tablets.settled()


@pytest.mark.parametrize("place", ["import: rows", "import: before the switch"])
async def test_a_crash_leaves_nothing(tmp_path: Path, place: str) -> None:
    """The storage fails for good in the middle, which is as if the process had ended there."""
    folder, data = write_project(tmp_path / "app"), tmp_path / "data"
    async with site(folder, data) as target:
        await target.deployment.mutation("all:add", table="notes", document={"text": "old"})
        wanted = await target.deployment.query("all:notes")
        tablets: set[int] = set()

        def crash(name: str) -> None:
            if name == place:
                tablets.update(table.tablet for table in target.catalog.by_number.values())
                raise RuntimeError("the process ends here")

        failpoints.armed = crash
        try:
            # What the process would do after its end, it does not do.
            target.host.database.tablets.discard = lambda *args, **kwargs: None
            rows = lines(*[{"text": f"{n}"} for n in range(2000)])
            state = await target.bring(rows, "jsonLines", "replace", tableName="notes")
        finally:
            failpoints.armed = None
        assert state["state"] == "failed"
        assert await target.deployment.query("all:notes") == wanted
        await target.host.database._folding._persistence.fold(100_000)
        assert set(await target.host.database.persistence.tables()) - tablets - {1}, "there is something to clean up"
    async with site(folder, data) as target:
        assert await target.deployment.query("all:notes") == wanted
        database = target.host.database
        await database.tablets.settled()
        await database.persistence.fold(100_000)
        assert (
            not set(await database.persistence.tables())
            - {table.tablet for table in target.catalog.by_number.values()}
            - {1}
        )


async def test_a_restart_says_that_it_failed(tmp_path: Path) -> None:
    folder, data = write_project(tmp_path / "app"), tmp_path / "data"
    async with site(folder, data) as target:
        state = await target.begin(lines({"text": "x"}), "jsonLines", tableName="notes")
        assert state["state"] == "waiting_for_confirmation"
        exported = await target.take()
    async with site(folder, data) as target:
        found = await target.state(state["id"])
        assert (found["state"], "restarted" in found["error_message"]) == ("failed", True)
        row = await target.query("_system/cli/exports:getLatest", {})
        answer = await target.client.get(f"/api/export/zip/{row['_id']}")
        assert answer.content == exported
        assert {path.name for path in (data / "transfer").iterdir()} == {f"{row['_id']}.zip"}
        expire = await target.client.post(f"/api/export/set_expiration/{row['_id']}", json={"expirationTsNs": 1})
        assert expire.status_code == 200
        assert (await target.client.get(f"/api/export/zip/{row['_id']}")).status_code == 400
        assert not list((data / "transfer").iterdir())


async def test_an_export_is_of_one_moment(tmp_path: Path) -> None:
    """A note and its user are always written together; an import replaces both in the middle of it."""
    folder = write_project(tmp_path)
    async with site(folder) as target:
        rows = lines(*[{"text": "t"} for _ in range(ROWS)])
        await target.bring(rows, "jsonLines", "replace", tableName="notes")
        taking = asyncio.create_task(target.take())
        for _ in range(10_000):
            if len(target.host.database.retention):
                break
            await asyncio.sleep(0)
        else:
            pytest.fail("the export never began")
        await target.deployment.mutation("all:add", table="notes", document={"text": "late"})
        done = await target.bring(lines({"text": "later"}), "jsonLines", "replace", tableName="notes")
        assert done["state"] == "completed"
        with zipfile.ZipFile(io.BytesIO(await taking)) as opened:
            found = opened.read("notes/documents.jsonl").splitlines()
        assert len(found) == ROWS
        assert not any(b"late" in line for line in found)
        await target.host.database.tablets.settled()
        assert target.catalog.bytes == _measured(target.catalog)


async def test_storage_that_fails(tmp_path: Path) -> None:
    folder = write_project(tmp_path)
    async with site(folder) as target:
        append = target.host.database.append_unseen
        count = 0

        def fail(writes: Any) -> int:
            nonlocal count
            count += 1
            if count == 3:
                raise StorageError("the disk is full")
            done: int = append(writes)
            return done

        before = await target.fingerprint()
        target.host.database.append_unseen = fail
        rows = lines(*[{"text": "x"} for _ in range(2000)])
        state = await target.bring(rows, "jsonLines", tableName="notes")
        assert (state["state"], state["error_message"]) == ("failed", "the disk is full")
        assert await target.fingerprint() == before
