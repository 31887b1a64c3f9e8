"""One switch for the amount of work in a test: reduced for `make test`, full for `make torture`."""

import os
from typing import TypeVar

T = TypeVar("T")


def size(reduced: T, full: T) -> T:
    """Return `full` when REACTOR_TEST_SIZE=full is set, else `reduced`."""
    return full if os.environ.get("REACTOR_TEST_SIZE") == "full" else reduced
