"""A real server process for the clients in this folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, copy_application, running, start_dev

HERE = Path(__file__).parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of this repository's own project, to be edited at will."""
    return copy_application(tmp_path / "app")


@pytest.fixture
def server(project: Path) -> Iterator[Server]:
    """A `reactor dev` serving the copy, where anybody may log and read, as with `make dev`."""
    server = start_dev(project, env={"AI_PUBLIC_LOGGING": "true"})
    with running(server):
        yield server


@pytest.fixture(scope="session")
def node() -> str:
    """The Node executable, with the official client installed beside these tests."""
    found = shutil.which("node")
    assert found, "the client tests need Node 20 or newer"
    assert (HERE / "node_modules" / "convex").is_dir(), "run `make setup`, or `npm ci` in tests/conformance"
    return found
