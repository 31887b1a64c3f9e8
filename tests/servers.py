"""Real server processes and client programs for tests, started, watched and ended without a sleep."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reactor.server.credentials import Credentials
from reactor.server.deploys.archive import pack
from reactor.server.system import SystemClock, SystemRng

ROOT = Path(__file__).parent.parent
CONFORMANCE = ROOT / "tests" / "conformance"
FIXTURE = ROOT / "tests" / "fixtures" / "app"
REACTOR = (sys.executable, "-m", "reactor.cli.main")
SECRET = "a1" * 32
KILL_AFTER_SECONDS = 50.0  # below the per-test timeout, so that the test can still say what it saw
SHARED_KILL_AFTER_SECONDS = 900.0  # for a server that all tests of a module use, however loaded the machine is
_READY = re.compile(r"ready at (http://\S+)")
_SITE = re.compile(r"HTTP actions: (http://\S+)")
_OURS = re.compile(r"CONVEX_|REACTOR_|AI_|DATABASE_URL|POSTGRES_URL|MYSQL_URL|INSTANCE_|REDACT_LOGS")


class Program:
    """A child process whose output lines can be waited for. Killed when it outlives its timer."""

    def __init__(
        self,
        command: Sequence[str | Path],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        kill_after: float = KILL_AFTER_SECONDS,
    ) -> None:
        self.cwd = cwd
        inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=inherited | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._news = threading.Condition()
        self._open_streams = 2
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()
        self._timer = threading.Timer(kill_after, self.process.kill)
        self._timer.daemon = True
        self._timer.start()

    def wait_for(self, found: Callable[["Program"], object], what: str) -> None:
        """Return once `found(self)` holds; it is asked again after each line of output."""
        with self._news:
            while not found(self):
                assert self._open_streams, f"ended before {what}:\n{self.transcript()}"
                self._news.wait()

    def wait_for_line(self, part: str, stream: str = "out", after: int = 0) -> int:
        """Return the position after the first line containing `part`, from line `after` on."""

        def position() -> int:
            lines = getattr(self, stream)
            return next((at + 1 for at in range(after, len(lines)) if part in lines[at]), 0)

        self.wait_for(lambda _: position(), f"a line with {part!r} on std{stream}")
        return position()

    def finish(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait()
        for reader in self._readers:
            reader.join()
        self._timer.cancel()
        return code

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Signal the process, wait for it, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.finish()

    def close(self) -> None:
        """Make sure nothing of it is left."""
        if self.process.poll() is None:
            self.process.kill()
        self.finish()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def transcript(self) -> str:
        return "\n".join(["--- stdout", *self.out, "--- stderr", *self.err])

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._open_streams -= 1
            self._news.notify_all()


class Server(Program):
    """A `reactor dev` or `reactor serve` process; `url` and that of its HTTP actions are known once it is ready.

    A host application has no port for the latter.
    """

    url: str
    site_url: str

    def wait_until_ready(self) -> "Server":
        self.wait_for(lambda _: any(map(_READY.search, self.out)), "the readiness line")
        self.url = next(match[1] for match in map(_READY.search, self.out) if match)
        self.site_url = next((match[1] for match in map(_SITE.search, self.out) if match), "")
        return self


@contextmanager
def running(program: Program) -> Iterator[None]:
    """End `program` at the end of the block, gently at first."""
    try:
        yield
    finally:
        program.close()


def start_dev(
    project: Path,
    *options: str,
    port: int = 0,
    env: Mapping[str, str] | None = None,
    kill_after: float = KILL_AFTER_SECONDS,
) -> Server:
    """Start `reactor dev` for `project` on a free port, and return once it serves."""
    server = Server([*REACTOR, "dev", "--port", str(port), *options], cwd=project, env=env, kill_after=kill_after)
    try:
        return server.wait_until_ready()
    except BaseException:
        server.close()
        raise


def start_serve(
    project: Path,
    *options: str | Path,
    port: int = 0,
    env: Mapping[str, str] | None = None,
    program: Sequence[str | Path] = REACTOR,
    kill_after: float = KILL_AFTER_SECONDS,
) -> Server:
    """Start `reactor serve` for `project`, on a free port unless told, and return once it serves."""
    origins = {"CONVEX_CLOUD_ORIGIN": "http://127.0.0.1:3210", "CONVEX_SITE_ORIGIN": "http://127.0.0.1:3211"}
    command = [*program, "serve", "--project", ".", "--port", str(port), *options]
    server = Server(command, cwd=project, env=origins | dict(env or {}), kill_after=kill_after)
    try:
        return server.wait_until_ready()
    except BaseException:
        server.close()
        raise


def start_empty(
    folder: Path,
    *options: str | Path,
    port: int = 0,
    env: Mapping[str, str] | None = None,
    program: Sequence[str | Path] = REACTOR,
    kill_after: float = KILL_AFTER_SECONDS,
) -> Server:
    """Start `reactor serve` without a project, in a folder that has or gets its data, and return once it serves."""
    origins = {"CONVEX_CLOUD_ORIGIN": "http://127.0.0.1:3210", "CONVEX_SITE_ORIGIN": "http://127.0.0.1:3211"}
    folder.mkdir(exist_ok=True)
    command = [*program, "serve", "--data", "data", "--port", str(port), *options]
    server = Server(
        command, cwd=folder, env=origins | {"INSTANCE_SECRET": SECRET} | dict(env or {}), kill_after=kill_after
    )
    try:
        return server.wait_until_ready()
    except BaseException:
        server.close()
        raise


def deploy(url: str, files: Mapping[str, str | bytes]) -> dict[str, Any]:
    """Deploy a project of these files to a server that `start_empty` has started; return the last event."""
    with tempfile.TemporaryDirectory() as place:
        paths = {name: Path(place, str(number)) for number, name in enumerate(files)}
        for name, content in files.items():
            paths[name].write_bytes(content.encode() if isinstance(content, str) else content)
        body = pack(paths)
    headers = {"Authorization": f"Convex {admin_key()}", "Content-Type": "application/zip"}
    request = urllib.request.Request(f"{url}/api/deploys", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=50) as answer:
        last: dict[str, Any] = json.loads(answer.read().splitlines()[-1])
    return last


def admin_key(*, read_only: bool = False) -> str:
    """Return a key for the servers that `start_empty` starts."""
    return Credentials("reactor", SECRET).admin_key(SystemClock(), SystemRng(), read_only=read_only)


def free_port() -> int:
    """Return a port to serve on again and again, which no outgoing connection takes in between."""
    for _ in range(1000):
        port = secrets.randbelow(12_000) + 20_000  # below what the kernel gives to clients
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def javascript(name: str, *args: str, kill_after: float = KILL_AFTER_SECONDS) -> Program:
    """Start a driver of the official JavaScript client."""
    assert (CONFORMANCE / "node_modules" / "convex").is_dir(), "the JavaScript client is missing: run `make setup`"
    return Program(["node", CONFORMANCE / f"{name}.mjs", *args], cwd=CONFORMANCE, kill_after=kill_after)


def python(name: str, *args: str) -> Program:
    """Start a driver of a Python client."""
    env = {"PYTHONPATH": str(ROOT)}
    return Program([sys.executable, CONFORMANCE / f"{name}.py", *args], cwd=CONFORMANCE, env=env)


def output(program: Program) -> list[Any]:
    """Wait for a driver to end well, and return the lines of JSON it printed; clients print log lines in between."""
    with running(program):
        assert program.finish() == 0, program.transcript()
        return [json.loads(line) for line in program.out if not line.startswith(("[CONVEX", "[LOG]"))]


def copy_project(source: Path, target: Path) -> Path:
    """Copy a project made for tests."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def copy_fixture(target: Path) -> Path:
    """Copy the project made for end-to-end tests."""
    return copy_project(FIXTURE, target)


def copy_application(target: Path) -> Path:
    """Copy this repository's own project, so that a test may edit it and leave files beside it."""
    target.mkdir(parents=True, exist_ok=True)
    for file in ("schema.py", "pyproject.toml"):
        shutil.copy(ROOT / file, target)
    shutil.copytree(ROOT / "functions", target / "functions", ignore=shutil.ignore_patterns("__pycache__"))
    return target
