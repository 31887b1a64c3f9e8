"""A JavaScript client stays on its socket through every edit, and its live query shows what the new code says."""

import gc
import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor import Deployment
from reactor.client import BlockingClient
from tests.crash.load import Load, check_end
from tests.servers import Program, Server, copy_fixture, javascript, running, start_dev
from tests.sizes import size

RELOADS = size(5, 50)

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({"notes": define_table({"text": v.string()})})
"""
SCHEMA_WITH_MORE = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "notes": define_table({"text": v.string(), "tag": v.optional(v.string())}).index("by_tag", ["tag"]),
    "tags": define_table({"name": v.string()}).index("by_name", ["name"]),
})
"""
HELPER = """
def shown(text):
    return text.upper()
"""
NOTES = """
from reactor import mutation, query

from helper import shown


@query
async def summary(ctx) -> str:
    return "first: " + ",".join([shown(note["text"]) for note in await ctx.db.query("notes").collect()])


@mutation
async def add(ctx, text: str) -> None:
    await ctx.db.insert("notes", {"text": text})
"""
NOTES_WITH_TAGS = """
from reactor import mutation, query

from helper import shown


@query
async def summary(ctx) -> str:
    tags = [tag["name"] async for tag in ctx.db.query("tags").with_index("by_name")]
    untagged = await ctx.db.query("notes").with_index("by_tag", lambda q: q.lt("tag", "")).count()
    tagged = []
    for tag in tags:
        tagged += [shown(note["text"]) async for note in ctx.db.query("notes").with_index("by_tag", tag=tag)]
    return f"tags: {','.join(tags)}; tagged: {','.join(tagged)}; untagged: {untagged}"


@mutation
async def add(ctx, text: str, tag: str) -> None:
    await ctx.db.insert("tags", {"name": tag})
    await ctx.db.insert("notes", {"text": text, "tag": tag})
"""


class Edited:
    """A project that `reactor dev` serves, and a client that watches it."""

    def __init__(self, folder: Path, server: Server, live: Program) -> None:
        self.folder, self.server, self.live = folder, server, live
        self._read = 0

    def write(self, **files: str) -> None:
        """Replace files the way editors do, each in one step."""
        for name, text in files.items():
            target = self.folder / name.replace("__", "/")
            fresh = self.folder.parent / "saved"
            fresh.write_text(text, encoding="utf-8")
            os.replace(fresh, target.with_suffix(".py"))

    def shows(self, text: str) -> None:
        """Wait for the live query to say `text`, still on the first connection."""
        self._read = self.live.wait_for_line(text, after=self._read)
        line = json.loads(self.live.out[self._read - 1])
        assert line == {"value": text, "connections": 1, "retries": 0}

    def call(self, **args: Any) -> None:
        with BlockingClient(self.server.url) as client:
            client.mutation("notes:add", args, timeout=30)


def write_project(folder: Path) -> Path:
    (folder / "functions").mkdir(parents=True)
    for name, text in (("schema", SCHEMA), ("helper", HELPER), ("functions/notes", NOTES)):
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[Edited]:
    folder = write_project(tmp_path / "app")
    server = start_dev(folder)
    with running(server):
        live = javascript("js_live", server.url, "notes:summary", "{}")
        with running(live):
            project = Edited(folder, server, live)
            project.shows("first: ")
            yield project
            assert live.err == [], "the client has seen nothing but results"


def test_every_kind_of_edit(edited: Edited) -> None:
    edited.call(text="a")
    edited.shows("first: A")

    edited.write(functions__notes=NOTES.replace("first: ", "second: "))
    edited.shows("second: A")

    edited.write(helper=HELPER.replace("text.upper()", "f'<{text}>'"))
    edited.shows("second: <a>")

    # A table, an index over documents that are there, and an optional field; then code that needs all three.
    edited.write(schema=SCHEMA_WITH_MORE)
    edited.server.wait_for_line("new tables: tags; new indexes: notes.by_tag, tags.by_name")
    edited.write(functions__notes=NOTES_WITH_TAGS)
    edited.shows("tags: ; tagged: ; untagged: 1")
    edited.call(text="b", tag="new")
    edited.shows("tags: new; tagged: <b>; untagged: 1")


def test_a_schema_that_the_documents_do_not_match(edited: Edited) -> None:
    edited.call(text="a")
    edited.shows("first: A")

    edited.write(schema=SCHEMA.replace("v.string()", "v.number()"))

    edited.server.wait_for_line("does not match the schema", "err")
    edited.server.wait_for_line("last good version keeps serving")
    edited.call(text="b")
    edited.shows("first: A,B")
    edited.write(schema=SCHEMA.replace("v.string()", "v.union(v.string(), v.number())"))
    edited.write(functions__notes=NOTES.replace("first: ", "healed: "))
    edited.shows("healed: A,B")


def test_a_syntax_error_and_its_repair(edited: Edited) -> None:
    broken = NOTES.replace('return "first: "', 'return return "first: "')
    line = next(at for at, text in enumerate(broken.splitlines(), 1) if "return return" in text)

    edited.write(functions__notes=broken)

    edited.server.wait_for_line(f"functions/notes.py:{line}", "err")
    edited.server.wait_for_line("last good version keeps serving")
    edited.call(text="a")
    edited.shows("first: A")
    edited.write(functions__notes=NOTES.replace("first: ", "healed: "))
    edited.shows("healed: A")
    assert not any("Traceback" in text for text in edited.server.err)


def test_reloads_under_load(tmp_path: Path) -> None:
    """Mutations caught by a reload happen once, on sockets that stay."""
    folder = copy_fixture(tmp_path / "app")
    server = start_dev(folder)
    with running(server):
        load = Load(server.url, rounds=1)
        with running(load.program):
            pairs = folder / "functions" / "pairs.py"
            loaded = server.wait_for_line("Loaded")
            for number in range(RELOADS):
                load.wait_for_more(20)
                pairs.write_text(f"{pairs.read_text()}\nEDIT = {number}\n")
                loaded = server.wait_for_line("changed: pairs", after=loaded)
            load.wait_for_more(20)
            check_end(load, server.url)
    assert server.err == []
    assert {connections for results in load.seen().values() for _, connections in results} == {1}


@pytest.mark.asyncio
async def test_fifty_reloads_leave_one_generation(tmp_path: Path) -> None:
    """Each version has run: a live query and a mutation hold on to nothing of it."""
    folder = write_project(tmp_path / "app")
    generations: list[weakref.ref[object]] = []
    async with Deployment(folder, data=":memory:") as deployment:
        live = deployment.subscribe("notes:summary")
        for number in range(50):
            (folder / "functions" / "notes.py").write_text(NOTES.replace("first: ", f"{number}: "))
            await deployment.reload()
            while not str(await live.next()).startswith(f"{number}: "):
                pass
            await deployment.mutation("notes:add", text="a")
            assert deployment._host is not None
            modules = deployment._host.versions.latest().project.modules
            generations += [weakref.ref(modules[name]) for name in ("schema", "helper", "functions.notes")]
            del modules
        live.close()
        gc.collect()
        assert sum(reference() is not None for reference in generations) == 3
