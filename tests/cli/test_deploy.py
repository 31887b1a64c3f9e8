"""`reactor deploy` as a program, against a server without a project."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import (
    REACTOR,
    Program,
    Server,
    admin_key,
    copy_fixture,
    free_port,
    running,
    start_empty,
    start_serve,
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_fixture(tmp_path / "app")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = start_empty(tmp_path / "server")
    with running(server):
        yield server


def deploying(project: Path, server: Server | str, *options: str, key: str | None = None) -> Program:
    url = server if isinstance(server, str) else server.url
    named = ["--url", url, "--admin-key", admin_key() if key is None else key]
    return Program([*REACTOR, "deploy", *options, *named], cwd=project)


def done(project: Path, server: Server, *options: str) -> list[str]:
    program = deploying(project, server, *options)
    with running(program):
        assert program.finish() == 0, program.transcript()
    return list(program.out)


def refused(project: Path, server: Server | str, *options: str, key: str | None = None) -> str:
    program = deploying(project, server, *options, key=key)
    with running(program):
        assert program.finish() == 1, program.transcript()
    assert not any("Traceback" in line for line in program.err), program.transcript()
    return "\n".join(program.err)


def test_from_the_first_deploy_to_a_rollback(project: Path, server: Server, tmp_path: Path) -> None:
    assert any("new table messages" in line for line in done(project, server, "--dry-run"))
    assert done(project, server, "--list") == ["Nothing was deployed yet."]

    said = done(project, server)
    assert any("new functions: " in line for line in said)
    assert said[-1].startswith("Deployed as number 1 in ")
    things = project / "functions" / "things.py"
    things.rename(project / "functions" / "other_things.py")
    plan, outcome = map(json.loads, done(project, server, "--json"))
    assert all(name.startswith("things:") for name in plan["functions"]["removed"])
    assert outcome["deploy"]["number"] == 2

    assert "  nothing changes" in done(project, server)
    assert done(project, server, "--rollback", "1")[-1].startswith("Deployed as number 4 in ")
    numbers = [line.split()[0] for line in done(project, server, "--list")]
    assert numbers == ["1", "2", "3", "4"]
    listed = json.loads(done(project, server, "--list", "--json")[0])
    assert (listed["running"], listed["deploys"][-1]["source"]) == (4, 1)


def test_a_command_comes_first_and_decides(project: Path, server: Server) -> None:
    shutil.rmtree(project / "__pycache__", ignore_errors=True)
    write = "echo $MY_URL > address"
    assert "exit code 3" in refused(project, server, "--cmd", f"{write}; exit 3", "--cmd-url-env-var-name", "MY_URL")
    assert (project / "address").read_text() == f"{server.url}\n"
    assert done(project, server, "--list") == ["Nothing was deployed yet."]
    done(project, server, "--cmd", "echo $CONVEX_URL > address2")
    assert (project / "address2").read_text() == f"{server.url}\n"


def test_a_command_is_not_run_for_a_plan_that_fails(project: Path, server: Server) -> None:
    (project / "functions" / "broken.py").write_text("import missing_package_x\n")
    message = refused(project, server, "--cmd", "touch ran")
    assert "DependencyMissing: functions/broken.py:1" in message
    assert "what ran before goes on" in message
    assert not (project / "ran").exists()


def test_documents_out_of_reach(project: Path, server: Server) -> None:
    done(project, server)
    write = [*REACTOR, "run", "pairs:write", '{"marker": "a"}', "--url", server.url]
    program = Program(write, cwd=project)
    with running(program):
        assert program.finish() == 0, program.transcript()
    shutil.rmtree(project / "functions")
    (project / "functions").mkdir()
    (project / "functions" / "one.py").write_text("")
    (project / "schema.py").write_text(
        'from reactor import define_schema, define_table\nschema = define_schema({"other": define_table({})})\n'
    )
    assert "lefts (1 documents), table rights (1 documents)" in refused(project, server)
    assert done(project, server, "--yes")[-1].startswith("Deployed as number 2 ")


def test_keys(project: Path, server: Server) -> None:
    assert "BadDeployKey" in refused(project, server, key="reactor|wrong")
    assert "BadDeployKey: You do not have permission" in refused(project, server, key=admin_key(read_only=True))
    program = Program([*REACTOR, "deploy", "--url", server.url], cwd=project)
    with running(program):
        assert program.finish() == 1
    assert "needs an admin key" in program.err[0]


def test_a_server_that_is_away(project: Path) -> None:
    assert "No answer from" in refused(project, f"http://127.0.0.1:{free_port()}")


def test_a_server_with_a_project_of_its_own(project: Path) -> None:
    env = {"INSTANCE_SECRET": "a1" * 32}
    server = start_serve(project, env=env)
    with running(server):
        assert "ProjectIsLocal" in refused(project, server)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--list", "--rollback"], "don't go together"),
        (["3"], "Only --rollback takes the number"),
        (["--rollback", "9"], "NoSuchDeploy: Deploy 9 is not kept; kept are none"),
        (["--project", "nowhere"], "There is no project"),
    ],
)
def test_wishes_that_make_no_sense(project: Path, server: Server, options: list[str], said: str) -> None:
    assert said in refused(project, server, *options)


def test_a_restart_runs_what_was_deployed(project: Path, server: Server, tmp_path: Path) -> None:
    done(project, server)
    assert server.end() == 0, server.transcript()
    again = start_empty(tmp_path / "server")
    with running(again):
        assert not any("Nothing was deployed" in line for line in again.out)
        program = Program([*REACTOR, "run", "pairs:write", '{"marker": "a"}', "--url", again.url], cwd=project)
        with running(program):
            assert program.finish() == 0, program.transcript()
