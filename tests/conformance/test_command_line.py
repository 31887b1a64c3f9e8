"""The official command line, unchanged, against a real server: with the right key, with a wrong one, with no server."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import CONFORMANCE, SHARED_KILL_AFTER_SECONDS, Program, Server, free_port, running, start_dev
from tests.sizes import size

OFFICIAL = ("node", CONFORMANCE / "node_modules" / "convex" / "bin" / "main.js")
SCHEMA = """
from reactor import define_schema, define_table, v
schema = define_schema({
    "messages": define_table({"body": v.string()}),
    "rows": define_table({"number": v.int64()}),
    "empty": define_table({}),
})
"""
FUNCTIONS = """
from reactor import action, internal_query, mutation, query

@query
async def bodies(ctx):
    return [message["body"] async for message in ctx.db.query("messages")]

@mutation
async def send(ctx, body: str):
    print("sending", body)
    if body == "bad":
        raise ValueError("no such body")
    await ctx.db.insert("messages", {"body": body})

@query
async def who(ctx):
    return await ctx.auth.get_user_identity()

@internal_query
async def inside(ctx):
    return "inside"

@action
async def act(ctx):
    print("acting")
    return await ctx.run_query("messages:inside")
"""
FILL = """
from reactor import Int64, mutation

@mutation
async def fill(ctx):
    for number in range(3):
        await ctx.db.insert("rows", {"number": Int64(number)})
"""
WRONG_KEY = "reactor|" + "0" * 60
NO_PERMISSION = "You do not have permission to perform this operation"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("app")
    (project / "functions").mkdir()
    (project / "schema.py").write_text(SCHEMA)
    (project / "functions" / "messages.py").write_text(FUNCTIONS)
    (project / "functions" / "rows.py").write_text(FILL)
    (project / "front").mkdir()
    (project / "front" / "package.json").write_text('{"dependencies": {"convex": "1.48.0"}}')
    return project


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    server = start_dev(project, "--data", ":memory:", kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


@pytest.fixture(scope="module")
def target(server: Server, project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / ".reactor" / "dev.json").read_text())
    return found


class Official:
    """Starts the official command line as somebody with a key for a server."""

    def __init__(self, url: str, key: str, folder: Path) -> None:
        self._env = {"CONVEX_SELF_HOSTED_URL": url, "CONVEX_SELF_HOSTED_ADMIN_KEY": key, "CI": "1"}
        self._folder = folder

    def start(self, *args: str) -> Program:
        return Program([*OFFICIAL, *args], cwd=self._folder, env=self._env)

    @contextmanager
    def running(self, *args: str) -> Iterator[Program]:
        """Start it, and end it with the block."""
        program = self.start(*args)
        with running(program):
            yield program

    def __call__(self, *args: str, code: int = 0) -> tuple[list[str], str]:
        with self.running(*args) as program:
            assert program.finish() == code, program.transcript()
        return program.out, "\n".join(program.err)


@pytest.fixture
def official(node: str, target: dict[str, Any], project: Path) -> Official:
    return Official(target["url"], target["adminKey"], project / "front")


def test_run(official: Official) -> None:
    out, err = official("run", "messages:send", '{"body": "first"}')
    assert (out, err) == ([], "[CONVEX ?(messages:send)] [LOG] 'sending first'")
    assert official("run", "messages:inside")[0] == ['"inside"'], "internal functions, too"
    out, _ = official("run", "messages:who", "--identity", '{"name": "Ann", "subject": "ann"}')
    assert json.loads("".join(out)) == {
        "issuer": "https://convex.test",
        "name": "Ann",
        "subject": "ann",
        "tokenIdentifier": "https://convex.test|ann",
    }
    out, err = official("run", "messages:send", '{"body": "bad"}', code=1)
    assert (out, "Uncaught ValueError: no such body\n    at send (" in err) == ([], True)


def test_run_of_what_is_not_there_lists_what_is(official: Official) -> None:
    _, err = official("run", "messages:absent", code=1)
    assert "Could not find function for 'messages:absent'." in err
    assert re.findall(r"• (\S+)", err) == [
        f"messages:{name}" for name in ("act", "bodies", "inside", "send", "who")
    ] + ["rows:fill"]


def test_a_query_in_javascript_is_refused_in_words(official: Official) -> None:
    out, err = official("run", "--inline-query", 'await ctx.db.query("messages").take(1)', code=1)
    assert (out, "functions of this deployment are written in Python" in err) == ([], True)


def test_run_watch_shows_each_change(official: Official) -> None:
    with official.running("run", "messages:bodies", "--watch") as watch:
        watch.wait_for_line("]")
        assert '  "watched"' not in watch.out
        official("run", "messages:send", '{"body": "watched"}')
        watch.wait_for_line('"watched"')
        watch.end(signal.SIGINT)


def test_data(official: Official) -> None:
    official("run", "rows:fill")
    assert official("data")[0] == ["empty", "messages", "rows"]
    newest, err = official("data", "rows", "--limit", "2", "--format", "jsonLines")
    assert [re.sub(r'.*"number": ', "", line) for line in newest] == ["2n }", "1n }"]
    oldest, _ = official("data", "rows", "--limit", "1", "--order", "asc")
    assert re.split(r"\s*\|\s*", oldest[0]) == ["_id", "_creationTime", "number"]
    assert re.split(r"\s*\|\s*", oldest[2])[2:] == ["0n"]
    assert "There are no documents in this table." in official("data", "absent")[1]
    _, err = official("data", "--component", "absent", code=1)
    assert f"{NO_PERMISSION}: Component path 'absent' not found." in err
    assert "cli.bundle" not in err, "a clean line, no traceback"


def test_function_spec(official: Official, target: dict[str, Any]) -> None:
    spec = json.loads("".join(official("function-spec")[0]))
    assert spec["url"] == target["url"]
    functions = {entry["identifier"]: entry for entry in spec["functions"]}
    assert functions["messages.js:send"] == {
        "args": {"type": "object", "value": {"body": {"fieldType": {"type": "string"}, "optional": False}}},
        "functionType": "Mutation",
        "identifier": "messages.js:send",
        "returns": {"type": "any"},
        "visibility": {"kind": "public"},
    }


def test_logs(official: Official) -> None:
    """Lines and errors appear as they happen; each once."""
    with official.running("logs", "--success") as follow:
        follow.wait_for_line("Watching logs", "err")
        entry = official("run", "messages:act")[0]
        assert entry == ['"inside"']
        follow.wait_for_line("[CONVEX A(messages:act)] Function executed in")
        official("run", "messages:send", '{"body": "bad"}', code=1)
        follow.wait_for_line("[CONVEX M(messages:send)] Uncaught ValueError: no such body")
        said = [line.partition("[CONVEX ")[2] for line in follow.out]
        assert said.count("A(messages:act)] [LOG] 'acting'") == 1
        assert said.count("M(messages:send)] [LOG] 'sending bad'") == 1
    with official.running("logs", "--history", "2", "--jsonl") as history:
        history.wait_for(lambda program: len(program.out) >= 2, "two entries")
        assert [json.loads(line)["identifier"] for line in history.out] == ["messages:act", "messages:send"]


HTTP_COMMANDS = (("logs",), ("run", "messages:who"), ("env", "set", "A", "1"), ("env", "remove", "A"))
SOCKET_COMMANDS = (
    ("run", "messages:bodies", "--watch"),
    ("data",),
    ("data", "messages"),
    ("env", "list"),
    ("env", "get", "A"),
    ("function-spec",),
)


def some(*commands: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return all of them, or the first two: each takes a while to start."""
    return commands[: size(2, len(commands))]


def test_with_a_wrong_key_each_ends_with_one_clear_line(node: str, target: dict[str, Any], project: Path) -> None:
    stranger = Official(target["url"], WRONG_KEY, project / "front")
    with ExitStack() as stack:
        programs = {
            command: stack.enter_context(stranger.running(*command))
            for command in (*some(*HTTP_COMMANDS), *some(*SOCKET_COMMANDS))
        }
        for command, program in programs.items():
            assert program.finish() == 1, program.transcript()
            said = "\n".join(program.err)
            assert "The provided deploy key is invalid for deployment 'reactor'." in said, program.transcript()
            assert ("cli.bundle" not in said, program.out) == (True, []), program.transcript()
            if command in SOCKET_COMMANDS:
                assert NO_PERMISSION in said, program.transcript()


def test_with_the_server_away_each_says_so(node: str, project: Path) -> None:
    """`run` ends; what goes over HTTP otherwise tries a few times, and what goes over a socket does so for ever."""
    nobody = Official(f"http://127.0.0.1:{free_port()}", WRONG_KEY, project / "front")
    with ExitStack() as stack:
        programs = {
            command: stack.enter_context(nobody.running(*command))
            for command in (*some(*HTTP_COMMANDS), *some(*SOCKET_COMMANDS))
        }
        for command, program in programs.items():
            if command in SOCKET_COMMANDS:
                program.wait_for_line("ECONNREFUSED")
            else:
                program.wait_for_line("fetch failed" if command[0] == "run" else "Retrying request", "err")
