"""Generated files: the same text for the same project, written where it differs; what runs means what is typed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

import reactor
from reactor.codegen import files
from reactor.codegen.names import camel_case, declared_type, table_types
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.runtime.references import fold
from reactor.schema.definition import define_schema, define_table
from reactor.schema.validators import v
from reactor.testing.deployment import MemoryDeployment
from tests.servers import REACTOR, Program, copy_project, running, start_dev

APP = Path(__file__).parents[1] / "typing" / "app"
NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,12}", fullmatch=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = copy_project(APP, tmp_path / "app")
    (folder / "pyproject.toml").write_text('[tool.reactor]\ntypescript = "web/convex"\n')
    files.begin(folder)
    return folder


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    project = ProjectLoader(folder).load()
    yield project
    project.release()


def codegen(folder: Path, *options: str, code: int = 0, **env: str) -> str:
    program = Program((*REACTOR, "codegen", *options), cwd=folder, env=env)
    with running(program):
        assert program.finish() == code, program.transcript()
    return program.transcript()


def test_the_command_writes_then_checks(tmp_path: Path) -> None:
    """Also where the functions import from a package that is still to be written."""
    folder = copy_project(APP, tmp_path / "app")
    (folder / "pyproject.toml").write_text('[tool.reactor]\ntypescript = "web/convex"\n')
    assert "_generated/__init__.py" in codegen(folder, "--check", code=1)
    assert not (folder / "_generated").exists(), "a check writes nothing"
    assert "Wrote _generated/__init__.py, _generated/__init__.pyi, web/convex/api.d.ts" in codegen(folder)
    assert "up to date" in codegen(folder)
    assert "up to date" in codegen(folder, "--check", PYTHONHASHSEED="1")

    api = folder / "web" / "convex" / "api.d.ts"
    api.write_text(api.read_text() + "\n")
    (folder / "_generated" / "__init__.pyi").unlink()
    old = codegen(folder, "--check", code=1)
    assert "Out of date: _generated/__init__.pyi, web/convex/api.d.ts." in old
    assert not (folder / "_generated" / "__init__.pyi").exists()

    (folder / "functions" / "messages.py").write_text("import nothing_such\n")
    assert "nothing_such" in codegen(folder, code=1)


def test_the_order_of_declarations_changes_nothing(folder: Path, project: Project) -> None:
    first = files.generated_files(project, folder)
    schema = folder / "schema.py"
    code = schema.read_text()
    tables = "schema.tables = dict(reversed(schema.tables.items()))\n"
    fields = (
        "for table in schema.tables.values():\n"
        "    if hasattr(table.validator, 'fields'):\n"
        "        table.validator.fields = dict(reversed(table.validator.fields.items()))\n"
    )
    schema.write_text(code + tables + fields)
    again = ProjectLoader(folder).load()
    try:
        assert list(again.schema.tables) != list(project.schema.tables)
        assert files.generated_files(again, folder) == first
    finally:
        again.release()
    assert all(text.endswith("\n") and "\r" not in text for text in first.values())


def test_a_file_that_is_right_is_not_touched(folder: Path, project: Project) -> None:
    wanted = files.generated_files(project, folder)
    files.write(wanted)
    before = {file: file.stat() for file in wanted}
    assert files.write(wanted) == []
    assert {file: (s.st_ino, s.st_mtime_ns) for file, s in before.items()} == {
        file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in wanted
    }
    assert sorted(path.name for path in (folder / "_generated").iterdir()) == ["__init__.py", "__init__.pyi"]


def test_a_folder_that_takes_no_file_is_an_error_with_its_name(folder: Path, project: Project) -> None:
    (folder / "web").write_text("a file")
    with pytest.raises(reactor.Error, match=r"web/convex/api\.d\.ts can't be written"):
        files.write(files.generated_files(project, folder))


def test_what_runs_is_the_same_object_as_in_reactor(folder: Path) -> None:
    code = (
        "import _generated, reactor; from _generated import api, ChannelsId, ChannelsDoc, Doc, Id, QueryCtx\n"
        "assert api is reactor.api and _generated.components is reactor.components and QueryCtx is reactor.QueryCtx\n"
        "assert ChannelsId('x') == 'x'\n"
        "try: _generated.NobodysDoc\n"
        "except AttributeError as error: print(error)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True).stdout
    assert out == "module '_generated' has no attribute 'NobodysDoc': the schema has no table for it\n"


@pytest.mark.asyncio
async def test_annotations_of_generated_types_declare_validators(folder: Path, project: Project) -> None:
    """`id: ChannelsId` takes ids of that table only, `-> ChannelsDoc | None` is a returns=."""
    spec = {entry["identifier"]: entry for entry in project.spec()}["messages.js:channel"]
    assert spec["args"]["value"] == {"id": {"fieldType": {"type": "id", "tableName": "channels"}, "optional": False}}
    assert json.dumps(spec["returns"]) == json.dumps(
        v.nullable(
            v.object(
                {"name": v.string(), "topic": v.optional(v.string())}
                | {"_id": v.id("channels"), "_creationTime": v.number()}
            )
        ).to_json()
    )
    async with MemoryDeployment(ProjectLoader(folder).load(), folder) as deployment:
        channel = await deployment.mutation("messages:make_channel", {"name": "general"})
        sent = await deployment.mutation(
            "messages:send", {"channelId": channel, "body": "Hello", "author": {"name": "Ann"}}
        )
        assert await deployment.query("messages:list_bodies", {"channel": channel}) == ["Hello"]
        assert (await deployment.query("messages:channel", {"id": channel}))["name"] == "general"
        with pytest.raises(reactor.Error, match=r"v\.id"):
            await deployment.query("messages:channel", {"id": sent})


def test_dev_keeps_them_up_to_date(folder: Path) -> None:
    """After each good load, and without a load of its own making."""
    stub = folder / "_generated" / "__init__.pyi"
    server = start_dev(folder, "--data", ":memory:")
    with running(server):
        assert "def list_bodies" in stub.read_text()
        source = folder / "functions" / "messages.py"
        edited = source.read_text().replace("list_bodies", "all_bodies")
        source.write_text(edited)
        server.wait_for_line("version 2", stream="out")
        (folder / "functions" / "late.py").write_text("from reactor import query\n\n@query\ndef late(ctx): ...\n")
        server.wait_for_line("version 3", stream="out")
        text = stub.read_text()  # written by then
        assert "def late" in text
        assert "def all_bodies" in text
        assert "def list_bodies" not in text
        server.end()
    assert "version 4" not in server.transcript()


@given(NAMES)
def test_camel_case_finds_the_same_function(name: str) -> None:
    assert fold(camel_case(name)) == fold(name)
    assert camel_case(camel_case(name)) == camel_case(name)


@given(st.sets(st.from_regex(r"[a-z][a-zA-Z0-9_]{0,3}", fullmatch=True), max_size=12))
def test_no_two_tables_share_a_type(tables: set[str]) -> None:
    names = table_types(tables)
    assert names.keys() == tables
    assert len(set(names.values())) == len(names)
    assert names == table_types(reversed(sorted(tables)))
    schema = define_schema({table: define_table({}) for table in tables})
    for table, base in names.items():
        assert declared_type(f"{base}Id", schema).__metadata__ == (v.id(table),)
