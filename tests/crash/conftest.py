"""`shim_library`: the compiled shim; tests that need it are skipped where there is no C compiler or no preloading."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.crash.shim import build


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    return build(tmp_path_factory.mktemp("shim"))
