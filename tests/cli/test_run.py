"""`reactor run`: results on standard output, everything else on standard error, and who may call what."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import REACTOR, SHARED_KILL_AFTER_SECONDS, Program, Server, running, start_dev

FUNCTIONS = """
from reactor import Int64, ReactorError, internal_mutation, internal_query, mutation, query, v

@query
async def echo(ctx, value: object = None) -> object:
    print("called")
    return value

@query
async def kinds(ctx):
    return {"big": Int64(2**62), "bytes": b"ab", "text": "ü", "number": 1}

@query(name="default")
async def whole_module(ctx):
    return "default"

@mutation
async def refuse(ctx):
    raise ReactorError({"code": "NO"})

@mutation
async def break_(ctx):
    raise ValueError("mine")

@internal_mutation
async def inside(ctx):
    return "inside"

@internal_query
async def quiet(ctx):
    return "quiet"

@query
async def who(ctx):
    identity = await ctx.auth.get_user_identity()
    return identity and identity["subject"]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("app")
    (project / "functions").mkdir()
    (project / "functions" / "try_.py").write_text(FUNCTIONS.replace("value: object = None) -> object", "value=None)"))
    return project


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    server = start_dev(project, "--data", ":memory:", kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


def run(project: Path, *args: str, code: int = 0) -> tuple[list[str], list[str]]:
    program = Program([*REACTOR, "run", *args], cwd=project)
    with running(program):
        assert program.finish() == code, program.transcript()
    return program.out, program.err


@pytest.mark.usefixtures("server")
class TestWithTheRunningDev:
    def test_the_result_and_the_log(self, project: Path) -> None:
        out, err = run(project, "try_:echo", '{"value": [1, "ü", null]}')
        assert json.loads(out[0]) == [1, "ü", None]
        assert err == ["[LOG] 'called'"]

    def test_values_json_has_no_form_for_are_readable(self, project: Path) -> None:
        out, _ = run(project, "try_:kinds")
        assert json.loads(out[0]) == {"big": str(2**62), "bytes": "YWI=", "text": "ü", "number": 1}

    def test_a_module_stands_for_its_default(self, project: Path) -> None:
        assert run(project, "try_")[0] == ['"default"']

    def test_internal_functions(self, project: Path) -> None:
        assert run(project, "try_:inside")[0] == ['"inside"']

    def test_an_identity(self, project: Path) -> None:
        identity = '{"subject": "ann", "issuer": "https://example.com"}'
        assert run(project, "try_:who", "--identity", identity)[0] == ['"ann"']

    @pytest.mark.parametrize(
        ("args", "part"),
        [
            (("try_:refuse",), "NO"),
            (("try_:break_",), "mine"),
            (("try_:absent",), "absent"),
            (("try_:echo", "{"), "not JSON"),
            (("try_:echo", "[]"), "JSON object"),
            (("try_:echo", "--identity", "3"), "JSON object"),
            (("not a path",), "not a valid path"),
            (("try_:echo", "--watch", "--identity", '{"name": "Ann"}'), "tokenIdentifier"),
            (("try_:echo", "--admin-key", "x"), "--url"),
        ],
    )
    def test_failures_are_one_message(self, project: Path, args: tuple[str, ...], part: str) -> None:
        out, err = run(project, *args, code=1)
        assert out == []
        assert any(line.startswith("error: ") and part in line for line in err), err
        assert not any(line.startswith("Traceback") for line in err)


def test_without_a_key_only_public_functions(project: Path, server: Server) -> None:
    assert run(project, "try_:echo", "--url", server.url)[0] == ["null"]
    assert run(project, "try_", "--url", server.url)[0] == ['"default"']
    assert any("inside" in line for line in run(project, "try_:inside", "--url", server.url, code=1)[1])
    _, err = run(project, "try_:who", "--url", server.url, "--identity", "{}", code=1)
    assert "admin key" in err[0]
    _, err = run(project, "try_:who", "--watch", "--url", server.url, "--identity", "{}", code=1)
    assert "admin key" in err[0]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("try_:quiet",), '"quiet"'),
        (("try_:who", "--identity", '{"subject": "ann", "issuer": "https://example.com"}'), '"ann"'),
    ],
    ids=["internal", "identity"],
)
def test_an_administrator_watches_as_anybody(project: Path, server: Server, args: tuple[str, ...], line: str) -> None:
    watch = Program([*REACTOR, "run", *args, "--watch"], cwd=project)
    with running(watch):
        watch.wait_for_line(line)
        assert watch.end() == 0


def test_a_failing_live_query_is_shown_and_watched_on(project: Path, server: Server) -> None:
    watch = Program([*REACTOR, "run", "try_:coming", "--watch"], cwd=project)
    with running(watch):
        watch.wait_for_line("coming", "err")
        file = project / "functions" / "try_.py"
        file.write_text(file.read_text() + "\n@query\nasync def coming(ctx):\n    return 'present'\n")
        watch.wait_for_line("present")
        assert watch.end() == 0


def test_no_server_says_so(tmp_path: Path) -> None:
    assert "reactor dev" in run(tmp_path, "x:y", code=1)[1][0]
    assert "No answer from" in run(tmp_path, "x:y", "--url", "http://127.0.0.1:9", code=1)[1][0]
