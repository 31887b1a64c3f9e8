"""The command `reactor`, which dies at a named place.

Either REACTOR_DIE_AT=<name> and REACTOR_DIE_AT_VISIT=<number>; or REACTOR_DIE_BY=<file>, which holds both, a line each,
from the moment on from which visits are to be counted.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from reactor.cli.main import main
from reactor.storage import failpoints

Hook = Callable[[str], None]


def dying(name: str, visit: int) -> Hook:
    """Return a hook that kills the process when it comes to the place `name` for the `visit`-th time."""
    left = visit
    counting = threading.Lock()

    def reached(place: str) -> None:
        nonlocal left
        if place == name:
            with counting:  # places are come to on several threads
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

    return reached


def waiting(order: Path) -> Hook:
    """Return a hook that does nothing until there is an order."""

    def reached(place: str) -> None:
        if order.exists():
            name, visit = order.read_text().splitlines()
            failpoints.armed = dying(name, int(visit))
            failpoints.armed(place)

    return reached


if "REACTOR_DIE_AT" in os.environ:
    failpoints.armed = dying(os.environ["REACTOR_DIE_AT"], int(os.environ["REACTOR_DIE_AT_VISIT"]))
elif "REACTOR_DIE_BY" in os.environ:
    failpoints.armed = waiting(Path(os.environ["REACTOR_DIE_BY"]))
main()
