"""The command `reactor`, which dies at a named place: REACTOR_DIE_AT=<name>, REACTOR_DIE_AT_VISIT=<number>."""

import os
import signal
import threading

from reactor.cli.main import main
from reactor.storage import failpoints


def arm(name: str, visit: int) -> None:
    """Kill the process when it comes to the place `name` for the `visit`-th time, on whatever thread."""
    left = visit
    counting = threading.Lock()

    def reached(place: str) -> None:
        nonlocal left
        if place == name:
            with counting:
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

    failpoints.armed = reached


if "REACTOR_DIE_AT" in os.environ:
    arm(os.environ["REACTOR_DIE_AT"], int(os.environ["REACTOR_DIE_AT_VISIT"]))
main()
