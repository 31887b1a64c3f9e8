"""What the checkers need."""

import shutil

import pytest


@pytest.fixture(scope="session")
def node() -> str:
    """The Node executable."""
    found = shutil.which("node")
    assert found, "pyright and tsc need Node 20 or newer"
    return found
