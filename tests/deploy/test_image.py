"""The image without Docker: a script made from the Dockerfile does what it says, in a folder.

The server, the health check and the script for admin keys are then run as the Dockerfile and compose name them, and the
checklist of docs/howto/deploy.md is gone through.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Image, read
from tests.servers import ROOT, SHARED_KILL_AFTER_SECONDS, Program, Server, free_port, running

BUILD_SECONDS = 280
SETTINGS = {"DEPLOYMENT_NAME": "seed", "REDACT_LOGS_TO_CLIENT": "true"}
pytestmark = pytest.mark.timeout(BUILD_SECONDS + 20)  # the first test builds


@pytest.fixture(scope="module")
def image() -> Image:
    return read(ROOT / "Dockerfile", sys.executable)


@pytest.fixture(scope="module")
def built(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the script made."""
    folder = tmp_path_factory.mktemp("image")
    clean = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    clean |= {
        name: value for name, value in os.environ.items() if re.match(r"PIP_|(https?|no)_proxy$|SSL_", name, re.I)
    }
    done = subprocess.run(
        ["/bin/sh", "-c", image.script, "sh", folder, ROOT],
        env={**clean, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    return folder


class Container:
    """What runs in the image, on ports of its own and with the settings of a compose file."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.image, self.folder = image, folder
        self.port, self.site_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.site_url = f"http://127.0.0.1:{self.site_port}"
        self.data = folder / "image" / "convex" / "data"
        self.env = SETTINGS | {"DATABASE_URL": f"sqlite://{self.data}/seed.db"}
        self.env |= {"CONVEX_CLOUD_ORIGIN": self.url, "CONVEX_SITE_ORIGIN": self.site_url}

    def command(self, *words: str) -> list[str | Path]:
        return [self.folder / "in-image", *words]

    def run(self, *words: str) -> str:
        """Run a command in the image, which must end well, and return what it prints."""
        program = Program(self.command(*words), cwd=self.folder, env=self.env)
        with running(program):
            assert program.finish() == 0, program.transcript()
        return "\n".join(program.out)

    def is_healthy(self) -> bool:
        words = [word.replace(":3210", f":{self.port}") for word in self.image.health]
        return subprocess.run(self.command(*words), capture_output=True, timeout=30).returncode == 0

    def files(self) -> set[Path]:
        root = self.folder / "image"
        return {path for path in root.rglob("*") if self.data not in path.parents}


@pytest.fixture(scope="module")
def container(image: Image, built: Path) -> Iterator[Container]:
    container = Container(image, built)
    before = container.files()
    assert not container.is_healthy()
    ports = ("--port", str(container.port), "--site-port", str(container.site_port))
    server = Server(
        container.command(*image.command, *ports),
        cwd=built,
        env=container.env,
        kill_after=SHARED_KILL_AFTER_SECONDS,
    )
    with running(server):
        server.wait_until_ready()
        yield container
        server.end()
    assert container.files() == before, "something was written beside the volume"


def test_what_needs_root_is_written_down_and_nothing_else(built: Path) -> None:
    root = built / "image"
    assert (built / "root-commands").read_text().splitlines() == [
        "apt-get update",
        "apt-get install -y --no-install-recommends curl",
        f"useradd --uid 10001 --home-dir {root}/convex --no-create-home --shell /usr/sbin/nologin convex",
        f"chown convex:convex {root}/convex/data {root}/data",
    ]


def test_the_image_is_of_a_python_we_run_on_and_has_one_volume_and_no_root(image: Image) -> None:
    lowest = re.search(r'requires-python = ">=(.*)"', (ROOT / "pyproject.toml").read_text())
    assert lowest is not None
    assert image.bases == [f"python:{lowest[1]}-slim"] * 2
    assert (image.user, image.volumes, image.ports) == ("convex", ["/convex/data"], ["3210", "3211"])
    assert image.folder == "/convex"


def test_the_image_is_small(built: Path) -> None:
    """Beside the base image, which has a pip of its own."""
    files = [path for path in (built / "image").rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < 90 * 1024 * 1024
    packages = next((built / "image" / "convex" / "venv").glob("lib/*/site-packages"))
    assert not [name for name in ("pip", "pytest", "mypy", "hypothesis") if (packages / name).exists()]
    assert not (built / "image" / "build").exists()


def test_the_health_check(container: Container) -> None:
    assert container.is_healthy()


def test_admin_keys_are_made_in_the_working_directory(container: Container) -> None:
    """The checklist uses one."""
    assert re.fullmatch(r"seed\|[0-9a-f]+", container.run("./generate_admin_key.sh"))


def test_the_checklist(container: Container) -> None:
    page = (ROOT / "docs" / "howto" / "deploy.md").read_text(encoding="utf-8").partition("## Checklist")[2]
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 6
    addresses = {
        "CONVEX_SELF_HOSTED_URL": container.url,
        "CONVEX_SELF_HOSTED_ADMIN_KEY": container.run("./generate_admin_key.sh"),
        "DATA": str(container.data),
    }
    for block in blocks:
        program = Program(
            container.command("/bin/sh", "-euc", block), cwd=container.folder, env=container.env | addresses
        )
        with running(program):
            assert program.finish() == 0, f"{block}\n{program.transcript()}"


def run_script(folder: Path, *words: str, env: dict[str, str], mounted: bool) -> list[str]:
    """Run deploy/run.sh with a `reactor` that prints its words, where `/data` is a volume or is none."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / "reactor").write_text('#!/bin/sh\necho "${INSTANCE_NAME-unset}" "$@"\n')
    (tools / "mountpoint").write_text(f'#!/bin/sh\n[ "$*" = "-q /data" ] && exit {0 if mounted else 1}\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    shutil.copy(ROOT / "deploy" / "run.sh", folder)
    done = subprocess.run(
        ["./run.sh", *words],
        cwd=folder,
        env={"PATH": f"{tools}:/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.rstrip("\n").split(" ")


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, ""),
        ({"DEPLOYMENT_NAME": "old"}, "old"),
        ({"INSTANCE_NAME": "new"}, "new"),
        ({"INSTANCE_NAME": "new", "DEPLOYMENT_NAME": "old"}, "new"),
        ({"INSTANCE_NAME": "", "DEPLOYMENT_NAME": "old"}, "old"),
    ],
)
@pytest.mark.parametrize("mounted", [False, True])
def test_older_compose_files_find_their_volume_and_their_name(
    tmp_path: Path, env: dict[str, str], name: str, mounted: bool
) -> None:
    said = run_script(tmp_path, "serve", "--port", "1", env=env, mounted=mounted)
    data = "/data" if mounted else f"{tmp_path}/data"
    assert said == [name, "serve", "--project", f"{tmp_path}/project", "--data", data, "--port", "1"]
