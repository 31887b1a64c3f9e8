"""`reactor deploy` as a program, against a server without a project."""

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor.cli.main import app, main
from reactor.client import BlockingClient
from reactor.errors import InvalidArgument
from tests.servers import (
    SECRET,
    SHARED_KILL_AFTER_SECONDS,
    Server,
    admin_key,
    copy_fixture,
    free_port,
    running,
    start_dev,
    start_empty,
)

Run = Callable[..., list[str]]
DEPLOY_BYTES = 5_000_000


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_fixture(tmp_path / "app")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests deploy to, none knowing what is there."""
    server = start_empty(
        tmp_path_factory.mktemp("servers") / "shared",
        env={"REACTOR_DEPLOY_BYTES": str(DEPLOY_BYTES)},
        kill_after=SHARED_KILL_AFTER_SECONDS,
    )
    with running(server):
        yield server


@pytest.fixture
def run(project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, which is the same but for the start of Python: what it printed, or said."""

    def run(server: Server | str, *options: str, key: str | None = None, code: int = 0) -> list[str]:
        url = server if isinstance(server, str) else server.url
        named = ["--url", url, "--admin-key", admin_key() if key is None else key]
        where = [] if "--project" in options else ["--project", str(project)]
        monkeypatch.setattr("sys.argv", ["reactor", "deploy", *options, *named, *where])
        monkeypatch.setattr("sys.stdin", io.StringIO())
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert (ended.value.code or 0) == code, err
        return (err if code else out).splitlines()

    return run


def test_from_the_first_deploy_to_a_restart(project: Path, run: Run, tmp_path: Path) -> None:
    server = start_empty(tmp_path / "server")
    with running(server):
        assert "Nothing was deployed yet: `reactor deploy` brings a project." in server.out
        assert any("new table messages" in line for line in run(server, "--dry-run"))
        assert run(server, "--list") == ["Nothing was deployed yet."]

        said = run(server)
        assert any("new functions: " in line for line in said)
        assert said[-1].startswith("Deployed as number 1 in ")
        things = project / "functions" / "things.py"
        things.rename(project / "functions" / "other_things.py")
        plan, outcome = map(json.loads, run(server, "--json"))
        assert all(name.startswith("things:") for name in plan["functions"]["removed"])
        assert outcome["deploy"]["number"] == 2
        assert "  nothing changes" in run(server)

        assert run(server, "--rollback", "1")[-1].startswith("Deployed as number 4 in ")
        assert [line.split()[0] for line in run(server, "--list")] == ["1", "2", "3", "4"]
        listed = json.loads(run(server, "--list", "--json")[0])
        assert (listed["running"], listed["deploys"][-1]["source"]) == (4, 1)
        assert server.end() == 0, server.transcript()
    again = start_empty(tmp_path / "server")
    with running(again):
        assert not any("Nothing was deployed" in line for line in again.out)
        with BlockingClient(again.url) as client:
            client.mutation("pairs:write", {"marker": "a"})


def test_a_command_comes_first_and_decides(project: Path, shared: Server, run: Run) -> None:
    before = run(shared, "--list", "--json")
    options = ("--cmd", "echo $MY_URL > address; exit 3", "--cmd-url-env-var-name", "MY_URL")
    assert "exit code 3" in "".join(run(shared, *options, code=1))
    assert (project / "address").read_text() == f"{shared.url}\n"
    assert run(shared, "--list", "--json") == before
    run(shared, "--cmd", "echo $CONVEX_URL > address2")
    assert (project / "address2").read_text() == f"{shared.url}\n"
    assert run(shared, "--list", "--json") != before


def test_a_command_is_not_run_for_a_plan_that_fails(project: Path, shared: Server, run: Run) -> None:
    (project / "functions" / "broken.py").write_text("import missing_package_x\n")
    said = "\n".join(run(shared, "--cmd", "touch ran", code=1))
    assert "DependencyMissing: functions/broken.py:1" in said
    assert "what ran before goes on" in said
    assert not (project / "ran").exists()


def test_documents_out_of_reach(project: Path, shared: Server, run: Run) -> None:
    run(shared, "--yes")
    with BlockingClient(shared.url) as client:
        client.mutation("pairs:write", {"marker": "a"})
    for module in (project / "functions").glob("*.py"):
        module.unlink()
    (project / "schema.py").write_text(
        'from reactor import define_schema, define_table\nschema = define_schema({"other": define_table({})})\n'
    )
    assert "table lefts (" in "\n".join(run(shared, code=1))
    assert run(shared, "--yes")[-1].startswith("Deployed as number ")


def test_keys(shared: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "BadDeployKey" in run(shared, key="reactor|wrong", code=1)[0]
    assert "BadDeployKey: You do not have permission" in run(shared, key=admin_key(read_only=True), code=1)[0]
    monkeypatch.setenv("CONVEX_SELF_HOSTED_URL", shared.url)
    monkeypatch.setattr("sys.argv", ["reactor", "deploy"])
    with pytest.raises(InvalidArgument, match="needs an admin key"):
        app(standalone_mode=False)


def test_a_large_project_is_refused_before_it_is_uploaded(project: Path, shared: Server, run: Run) -> None:
    """Otherwise the answer may be lost when the connection breaks."""
    (project / "pyproject.toml").write_text('[tool.reactor]\ndeploy = ["large"]\n')
    (project / "large").write_bytes(os.urandom(DEPLOY_BYTES))
    assert "DeployTooLarge" in run(shared, code=1)[0]
    (project / "large").write_bytes(os.urandom(DEPLOY_BYTES - 100_000))
    assert "BadDeployKey" in run(shared, key=admin_key(read_only=True), code=1)[0]
    assert run(shared, "--yes")[-1].startswith("Deployed as number ")


def test_a_server_that_is_away(run: Run) -> None:
    assert "No answer from" in run(f"http://127.0.0.1:{free_port()}", code=1)[0]


def test_a_server_with_a_project_of_its_own(project: Path, run: Run) -> None:
    server = start_dev(project, "--data", ":memory:", env={"INSTANCE_SECRET": SECRET})
    with running(server):
        assert "ProjectIsLocal" in run(server, code=1)[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--list", "--rollback"], "don't go together"),
        (["3"], "Only --rollback takes the number"),
        (["--rollback", "999"], "NoSuchDeploy: Deploy 999 is not kept"),
        (["--project", "nowhere"], "There is no project"),
    ],
)
def test_wishes_that_make_no_sense(shared: Server, run: Run, options: list[str], said: str) -> None:
    assert said in run(shared, *options, code=1)[0]
