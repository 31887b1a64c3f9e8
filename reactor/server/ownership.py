"""Who may use an open deployment: the process and the event loop that opened it.

Promises that use from anywhere else says so instead of corrupting anything. Used by the composition root.
"""

import asyncio
import os

from reactor.errors import Unavailable


class Owner:
    """The process and the event loop that this is made in."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()

    def check(self) -> None:
        """Refuse everybody else.

        Raises:
            Unavailable: this is another process, another event loop, or none.
        """
        if self._process != os.getpid():
            raise Unavailable(
                f"This deployment was opened by process {self._process} and can't be used from {os.getpid()}: "
                "open it after forking, in one process only."
            )
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._loop:
            raise Unavailable(
                "This deployment was opened on another event loop. Use it there, or use `deployment.blocking()`, "
                "or a client over the network."
            )
