"""`serve`, `dev --once` and `admin-key` as programs: what keeps one from starting is one message and exit code 1."""

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from reactor.cli.serve import site_port_of
from tests.servers import REACTOR, Program, Server, copy_application, running

SERVE = ("serve", "--project", ".")
ORIGINS = {"CONVEX_CLOUD_ORIGIN": "http://127.0.0.1:3210", "CONVEX_SITE_ORIGIN": "http://127.0.0.1:3211"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_application(tmp_path / "app")


@pytest.fixture
def server(project: Path) -> Iterator[Server]:
    server = Server([*REACTOR, *SERVE, "--port", "0"], cwd=project, env=ORIGINS)
    with running(server):
        yield server.wait_until_ready()


def refusal(project: Path, *command: str, env: Mapping[str, str] = ORIGINS) -> str:
    """Run a command that must fail, and return its message."""
    program = Program([*REACTOR, *command], cwd=project, env=env)
    with running(program):
        assert program.finish() == 1, program.transcript()
    assert not any("Traceback" in line for line in program.err), program.transcript()
    assert program.out == []
    assert program.err
    assert program.err[0].startswith("error: ")
    return "\n".join(program.err)


@pytest.mark.parametrize("missing", sorted(ORIGINS))
def test_a_missing_origin(project: Path, missing: str) -> None:
    env = {name: value for name, value in ORIGINS.items() if name != missing}
    assert f"{missing} is not set" in refusal(project, *SERVE, "--port", "0", env=env)


def test_an_unsupported_database(project: Path) -> None:
    env = {**ORIGINS, "DATABASE_URL": "postgres://localhost"}
    assert "DATABASE_URL" in refusal(project, *SERVE, "--port", "0", env=env)
    assert not (project / ".reactor").exists()


@pytest.mark.parametrize("command", [SERVE, ("dev",)], ids=str)
def test_a_busy_port(project: Path, command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refusal(project, *command, "--port", port)
    assert not (project / ".reactor" / "db.sqlite3").exists()


@pytest.mark.parametrize("command", [SERVE, ("dev",)], ids=str)
def test_a_busy_port_of_http_actions(project: Path, command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = refusal(project, *command, "--port", "0", "--site-port", port)
    assert f"port {port}" in message
    assert "--site-port" in message
    assert not (project / ".reactor" / "db.sqlite3").exists()


@pytest.mark.parametrize(("port", "wanted", "site"), [(3210, None, 3211), (0, None, 0), (65535, None, 0), (3210, 0, 0)])
def test_http_actions_are_beside_the_port(port: int, wanted: int | None, site: int) -> None:
    assert site_port_of(port, wanted) == site


@pytest.mark.parametrize("command", [(*SERVE, "--port", "0"), ("dev", "--port", "0"), ("dev", "--once")])
def test_data_held_by_another_process(project: Path, server: Server, command: tuple[str, ...]) -> None:
    assert str(server.process.pid) in refusal(project, *command)


@pytest.mark.parametrize("command", [SERVE, ("dev",)], ids=str)
def test_no_project(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert "reactor init" in refusal(tmp_path, *command, "--port", "0")


@pytest.mark.parametrize("command", [(*SERVE, "--port", "0"), ("dev", "--once")])
def test_a_broken_project_is_shown_at_its_line(project: Path, command: tuple[str, ...]) -> None:
    file = project / "functions" / "ai" / "analytics.py"
    lines = len(file.read_text(encoding="utf-8").splitlines())
    with file.open("a", encoding="utf-8") as stream:
        stream.write("raise RuntimeError('mine')\n")
    program = Program([*REACTOR, *command], cwd=project, env=ORIGINS)
    with running(program):
        assert program.finish() == 1
    text = "\n".join(program.err)
    assert f"functions/ai/analytics.py:{lines + 1}" in text
    assert "mine" in text
    assert "Traceback" not in text
    assert program.out == []  # above all not that it waits for an edit


def test_serving_leaves_no_dev_files_and_ends_cleanly(project: Path, server: Server) -> None:
    assert not (project / ".reactor" / "dev.json").exists()
    assert not (project / ".env.local").exists()
    assert server.end() == 0, server.transcript()
    assert server.err == []


def test_once_pushes_and_reports(project: Path) -> None:
    for version in (1, 2):
        program = Program([*REACTOR, "dev", "--once"], cwd=project)
        with running(program):
            assert program.finish() == 0, program.transcript()
        assert f"version {version}" in program.out[0]


def test_there_is_no_key_where_there_is_no_project(tmp_path: Path) -> None:
    assert "reactor init" in refusal(tmp_path, "admin-key")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "schema.py").write_text("")
    (tmp_path / "pyproject.toml").write_text('[tool.reactor]\ndata = ":memory:"\n')
    assert "in memory" in refusal(tmp_path, "admin-key")


def test_admin_keys_are_good_without_a_server_and_with_it(project: Path) -> None:
    made = Program([*REACTOR, "admin-key"], cwd=project)
    with running(made):
        assert made.finish() == 0, made.transcript()
    (key,) = made.out
    server = Server([*REACTOR, *SERVE, "--port", "0"], cwd=project, env=ORIGINS)
    with running(server):
        server.wait_until_ready()
        args = '{"provider": "x", "timeRange": {"start": 0}}'
        call = ["run", "ai/analytics:getProviderStats", args, "--url", server.url, "--admin-key"]
        good = Program([*REACTOR, *call, key], cwd=project)
        with running(good):
            assert good.finish() == 0, good.transcript()
        assert "BadDeployKey" in refusal(project, *call, key[:-1] + ("0" if key[-1] != "0" else "1"))


def test_the_data_may_be_elsewhere(project: Path, tmp_path: Path) -> None:
    program = Program([*REACTOR, "dev", "--once", "--project", "app", "--data", "elsewhere"], cwd=tmp_path)
    with running(program):
        assert program.finish() == 0, program.transcript()
    assert (tmp_path / "elsewhere" / "db.sqlite3").exists()
    assert not (project / ".reactor").exists()
