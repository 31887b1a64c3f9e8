"""`ctx.storage` in every form: URLs that live queries follow, deletion with the transaction, content in actions."""

import asyncio
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from reactor.errors import (
    DeterminismError,
    InvalidArgument,
    InvalidStorageId,
    LimitExceeded,
    StorageError,
    StoredFileNotFound,
)
from reactor.limits import Limits
from reactor.runtime.files.documents import Incoming
from reactor.runtime.files.storage import add_file
from reactor.runtime.files.store import PART_BYTES
from tests.runtime.hosts import Bench, Form, as_coroutine, as_function, open_bench, project_files, value_of

pytestmark = pytest.mark.asyncio
forms = pytest.mark.parametrize("form", [as_coroutine, as_function])

FUNCTIONS = project_files(
    files="""
import pathlib

@query
async def url(ctx, id: str):
    return await ctx.storage.get_url(id)

@query
def url_blocking(ctx, id: str):
    return ctx.storage.get_url(id)

@mutation
async def remove(ctx, id: str):
    await ctx.storage.delete(id)

@mutation
async def remove_and_fail(ctx, id: str):
    await ctx.storage.delete(id)
    raise ValueError("no")

@mutation
async def try_to_remove(ctx, id: str):
    try:
        await ctx.run_mutation(remove_and_fail, id=id)
    except ValueError:
        pass
    return await ctx.storage.get_url(id)

@query
async def write_in_a_query(ctx, name: str):
    return await getattr(ctx.storage, name)()

@action
async def store_checked(ctx, data: bytes, sha256: str):
    return await ctx.storage.store(data, sha256=sha256)

@action
def store_checked_blocking(ctx, data: bytes, sha256: str):
    return ctx.storage.store(data, sha256=sha256)

@action
async def round_trip(ctx, text: str, kind: str | None = None):
    id = await ctx.storage.store(text.encode(), kind)
    file = await ctx.storage.get(id)
    parts = [part async for part in file.stream()]
    assert b"".join(parts) == await file.read()
    url = await ctx.storage.get_url(id)
    known = [id, (await file.read()).decode(), file.size, file.sha256, file.content_type, url]
    await ctx.storage.delete(id)
    return [*known, await ctx.storage.get(id), await ctx.storage.get_url(id)]

@action
def round_trip_blocking(ctx, text: str, kind: str | None = None):
    id = ctx.storage.store(text.encode(), kind)
    file = ctx.storage.get(id)
    assert b"".join(file.stream()) == file.read()
    url = ctx.storage.get_url(id)
    known = [id, file.read().decode(), file.size, file.sha256, file.content_type, url]
    ctx.storage.delete(id)
    return [*known, ctx.storage.get(id), ctx.storage.get_url(id)]

async def some(*parts):
    for part in parts:
        yield part
        await asyncio.sleep(0)

@action
async def store_any(ctx, name: str):
    return [
        await ctx.storage.store(pathlib.Path(name)),
        await ctx.storage.store(some(b"ab", bytearray(b"cd"), memoryview(b"ef"))),
        await ctx.storage.store(some()),
        await ctx.storage.store(bytearray(b"xy")),
    ]

@action
def store_any_blocking(ctx, name: str):
    return [
        ctx.storage.store(pathlib.Path(name)),
        ctx.storage.store(part for part in (b"ab", bytearray(b"cd"), memoryview(b"ef"))),
        ctx.storage.store([]),
        ctx.storage.store(bytearray(b"xy")),
    ]

WRONG = {"text": "abc", "none": None, "texts": ["abc"]}

@action
async def store_wrong(ctx, what: str):
    async def texts():
        yield "abc"
    await ctx.storage.store(texts() if what == "texts" else WRONG[what])

@action
def store_wrong_blocking(ctx, what: str):
    ctx.storage.store(WRONG[what])

@action
async def fail_half_way(ctx):
    async def parts():
        yield b"abc"
        raise ValueError("broken off")
    await ctx.storage.store(parts())

@action
def fail_half_way_blocking(ctx):
    def parts():
        yield b"abc"
        raise ValueError("broken off")
    ctx.storage.store(parts())

@action
async def an_upload_url(ctx):
    return await ctx.storage.generate_upload_url()

@action
async def forget(ctx):
    ctx.storage.store(b"never")
"""
)


async def store(bench: Bench, data: bytes = b"hello", kind: str | None = "text/plain") -> str:
    """Store a file as an upload does."""

    async def parts() -> Any:
        yield data

    async def insert(incoming: Incoming) -> str:
        return str(await bench.run(lambda ctx: add_file(ctx, incoming)))

    return await bench.host.files.store(parts(), kind, insert)


def blobs(bench: Bench) -> dict[str, bytes]:
    """Return all content that is kept."""
    return {key: content for key, (content, _) in bench.host.files.blobs.blobs.items()}  # type: ignore[attr-defined]


@forms
async def test_what_applications_see_of_a_file(tmp_path: Path, form: Form) -> None:
    """By id, in a scan, in `filter` and in `where`: its private fields do not exist."""
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        await store(bench, b"ab", None)
        typed = await store(bench)
        (row,) = await bench.run(form(lambda ctx: (yield ctx.db.system.query("_storage").take(1))))
        assert row.keys() == {"_id", "_creationTime", "sha256", "size"}

        def look(ctx: Any) -> Any:
            seen: list[set[str]] = []
            system = ctx.db.system
            found = yield system.query("_storage").where(lambda document: seen.append(set(document)) or True).collect()
            by_id = yield ctx.db.system.get(typed)
            assert found[1] == by_id
            for field in ("uuid", "blob"):
                assert (yield system.query("_storage").filter(lambda q: q.field(field) >= "").collect()) == []  # noqa: B023
            page = yield system.query("_storage").paginate(num_items=10, cursor=None)
            assert page["page"] == found
            return [by_id, [sorted(fields) for fields in seen]]

        by_id, seen = await bench.run(form(look))
        assert by_id == {
            "_id": typed,
            "_creationTime": by_id["_creationTime"],
            "sha256": b64encode(sha256(b"hello").digest()).decode(),
            "size": 5.0,
            "contentType": "text/plain",
        }
        assert isinstance(by_id["size"], float)
        assert seen == [
            ["_creationTime", "_id", "sha256", "size"],
            ["_creationTime", "_id", "contentType", "sha256", "size"],
        ]


@pytest.mark.parametrize("path", ["files:url", "files:url_blocking"])
async def test_a_live_query_learns_that_a_file_is_gone(tmp_path: Path, path: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        stored_id, other = await store(bench), await store(bench)
        watcher = bench.watch(path, id=stored_id)
        (url,) = await watcher.next()
        assert re.fullmatch(r"http://127\.0\.0\.1:3210/api/storage/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", url)
        assert stored_id not in url
        assert await bench.query("files:url", id=other) != url

        await bench.mutation("files:remove", id=other)
        await bench.settle()
        assert watcher.value == url
        await bench.mutation("files:remove", id=stored_id)
        await bench.settle()
        assert watcher.value is None


@forms
async def test_deleting_is_part_of_the_transaction(tmp_path: Path, form: Form) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        stored_id = await store(bench)

        def delete_and_look(ctx: Any) -> Any:
            yield ctx.storage.delete(stored_id)
            url, row = (yield ctx.storage.get_url(stored_id)), (yield ctx.db.system.get(stored_id))
            raise ValueError(repr((url, row)))

        with pytest.raises(ValueError, match=r"\(None, None\)"):
            await bench.run(form(delete_and_look))
        assert await bench.query("files:url", id=stored_id) is not None
        # A part of a mutation that failed is undone, too.
        assert await bench.mutation("files:try_to_remove", id=stored_id) == await bench.query("files:url", id=stored_id)

        def delete_twice(ctx: Any) -> Any:
            yield ctx.storage.delete(stored_id)
            yield ctx.storage.delete(stored_id)

        with pytest.raises(StoredFileNotFound, match=f"^storage id {stored_id} not found$"):
            await bench.run(form(delete_twice))
        await bench.mutation("files:remove", id=stored_id)
        with pytest.raises(StoredFileNotFound, match=f"^storage id {stored_id} not found$"):
            await bench.mutation("files:remove", id=stored_id)


async def test_of_two_that_delete_a_file_one_finds_it_gone(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        stored_id = await store(bench)
        outcomes = await asyncio.gather(
            *(bench.mutation("files:remove", id=stored_id) for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "NoneType",
            "StoredFileNotFound",
            "StoredFileNotFound",
        ]


async def test_ids_that_are_not_those_of_files(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        stored_id = await store(bench)
        item = await bench.run(lambda ctx: ctx.db.insert("items", {"name": "x"}))
        for wrong in (item, "", "abc", stored_id[:-1], "../" + stored_id, 7, None):
            with pytest.raises(InvalidStorageId, match="expected an id of the table '_storage'"):
                await bench.run(lambda ctx: ctx.storage.get_url(wrong))  # noqa: B023
            with pytest.raises(InvalidStorageId):
                await bench.run(lambda ctx: ctx.storage.delete(wrong))  # noqa: B023
        # The UUID of its URL, which old applications have kept, stands for it.
        url = await bench.query("files:url", id=stored_id)
        uuid = url.rpartition("/")[2]
        watcher = bench.watch("files:url", id=uuid.upper())
        assert await watcher.next() == [url]
        await bench.mutation("files:remove", id=uuid)
        assert await bench.query("files:url", id=stored_id) is None
        await bench.settle()
        assert watcher.value is None


async def test_an_upload_url_carries_the_frozen_time(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        urls = [
            await bench.run(lambda ctx: ctx.storage.generate_upload_url()),
            await bench.run(as_function(lambda ctx: (yield ctx.storage.generate_upload_url()))),
            (await call(bench, "files:an_upload_url")),
        ]
        for url in urls:
            token = url.removeprefix("http://127.0.0.1:3210/api/storage/upload?token=")
            assert bench.host.files.tokens.check(token, bench.clock.wall) == ""
        assert len(await bench.run(lambda ctx: ctx.db.system.query("_storage").collect())) == 0


@pytest.mark.parametrize("name", ["store", "get", "generate_upload_url", "delete"])
async def test_what_a_query_may_not_do_with_files(tmp_path: Path, name: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        with pytest.raises(DeterminismError, match=rf"Can't use storage\.{name}\(\) in "):
            await bench.query("files:write_in_a_query", name=name)


@forms
@pytest.mark.parametrize("name", ["store", "get"])
async def test_content_is_for_actions(tmp_path: Path, form: Form, name: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        with pytest.raises(
            DeterminismError,
            match=rf"^Can't use storage\.{name}\(\) in queries and mutations\. Please consider using an action\. "
            r"See https://docs\.convex\.dev/functions/actions for more details\.$",
        ):
            await bench.run(form(lambda ctx: (yield getattr(ctx.storage, name)(b""))))
        with pytest.raises(AttributeError, match="no attribute 'stoer'"):
            await bench.run(lambda ctx: ctx.storage.stoer)


# Actions.


async def call(bench: Bench, path: str, **args: object) -> Any:
    return value_of(await bench.submit("action", path, args))


actions = pytest.mark.parametrize("suffix", ["", "_blocking"])


@actions
@pytest.mark.parametrize("text", ["hello", "", "x" * (2 * PART_BYTES + 1)])
async def test_an_action_stores_reads_and_deletes(tmp_path: Path, suffix: str, text: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        stored_id, read, size, digest, kind, url, after, url_after = await call(
            bench, f"files:round_trip{suffix}", text=text, kind="text/plain; charset=utf-8"
        )
        assert (read, size, digest) == (text, len(text), b64encode(sha256(text.encode()).digest()).decode())
        assert kind == "text/plain; charset=utf-8"
        assert url.startswith("http://127.0.0.1:3210/api/storage/")
        assert (after, url_after) == (None, None)
        assert await bench.run(lambda ctx: ctx.db.system.get(stored_id)) is None


@actions
async def test_an_action_stores_bytes_files_and_iterators(tmp_path: Path, suffix: str) -> None:
    large = b"0123456789" * PART_BYTES
    (tmp_path / "large.bin").write_bytes(large)
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        ids = await call(bench, f"files:store_any{suffix}", name=str(tmp_path / "large.bin"))
        rows = [await bench.run(lambda ctx, at=at: ctx.db.system.get(at)) for at in ids]
        expected = [large, b"abcdef", b"", b"xy"]
        assert [(row["size"], row["sha256"]) for row in rows] == [
            (float(len(data)), b64encode(sha256(data).digest()).decode()) for data in expected
        ]
        assert sorted(blobs(bench).values()) == sorted(expected)
        assert bench.host.files.arriving == set()


@actions
@pytest.mark.parametrize("what", ["text", "none", "texts"])
async def test_what_is_no_content(tmp_path: Path, suffix: str, what: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        with pytest.raises(InvalidArgument, match=r"storage\.store\(\) takes "):
            await call(bench, f"files:store_wrong{suffix}", what=what)
        assert (blobs(bench), bench.host.files.arriving) == ({}, set())


@actions
@pytest.mark.parametrize("kind", ["a", "a/b\r\nx: y"])
async def test_what_is_no_content_type(tmp_path: Path, suffix: str, kind: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        with pytest.raises(InvalidArgument, match="is not a content type such as image/png"):
            await call(bench, f"files:round_trip{suffix}", text="", kind=kind)
        assert blobs(bench) == {}


@actions
async def test_content_that_is_not_what_was_promised_is_not_stored(tmp_path: Path, suffix: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        right = b64encode(sha256(b"abc").digest()).decode()
        actual = b64encode(sha256(b"abd").digest()).decode()
        with pytest.raises(InvalidArgument, match=re.escape(f"Sha256 mismatch. Expected: {right} Actual: {actual}")):
            await call(bench, f"files:store_checked{suffix}", data=b"abd", sha256=right)
        with pytest.raises(InvalidArgument, match="sha256= is the base64 of 32 bytes, not 'abc'"):
            await call(bench, f"files:store_checked{suffix}", data=b"abd", sha256="abc")
        assert (blobs(bench), bench.host.files.arriving) == ({}, set())
        assert await call(bench, f"files:store_checked{suffix}", data=b"abc", sha256=right)
        assert list(blobs(bench).values()) == [b"abc"]


@actions
async def test_content_that_breaks_off_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        with pytest.raises(ValueError, match="broken off"):
            await call(bench, f"files:fail_half_way{suffix}")
        assert (blobs(bench), bench.host.files.arriving) == ({}, set())
        assert await bench.run(lambda ctx: ctx.db.system.query("_storage").collect()) == []


@actions
async def test_a_file_may_be_too_large(tmp_path: Path, suffix: str) -> None:
    async with open_bench(tmp_path, FUNCTIONS, limits=Limits(file_bytes=5)) as bench:
        assert (await call(bench, f"files:round_trip{suffix}", text="12345"))[2] == 5
        with pytest.raises(LimitExceeded, match="larger than REACTOR_FILE_BYTES=5") as refused:
            await call(bench, f"files:round_trip{suffix}", text="123456")
        assert refused.value.rule == "FileTooLarge"
        assert b"123456" not in blobs(bench).values()


async def test_a_store_that_is_not_awaited_is_an_error(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        with pytest.raises(Exception, match=r"storage\.store\(\) at .*files\.py"):
            await call(bench, "files:forget")
        assert blobs(bench) == {}


async def test_content_that_is_lost_is_an_error_that_says_so(tmp_path: Path) -> None:
    async with open_bench(tmp_path, FUNCTIONS) as bench:
        stored_id = await store(bench)
        table = bench.host.files.tables()[0]
        row = bench.host.files.find(table, (await bench.query("files:url", id=stored_id)).rpartition("/")[2])
        assert row is not None
        assert row.id == stored_id
        bench.host.files.blobs.delete([row.key])
        with pytest.raises(StorageError, match=f"The content of file {stored_id} is missing"):
            await anext(bench.host.files.parts(row))
