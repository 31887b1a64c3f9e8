"""The supervisor of `dev`: a small parent process that starts the server again when that had to end itself.

Owns the server's process and the signals meant for it. Promises that the address stays taken from one server to the
next, so that a client which comes meanwhile waits instead of being refused; that a signal counts once, whether it was
sent to this process only or, as by Ctrl-C, to both; that the third one ends a server which does not react; and that the
server goes when this process goes. The server is forked off, so nothing may have been started before. Used by `dev`;
`serve` is left to the supervisors that production has anyway.
"""

import os
import select
import signal
import sys
import types
from typing import Final, NoReturn

from reactor.cli.console import warn
from reactor.limits import MAX_RESTART_SECONDS
from reactor.runtime.lastresort import EXIT_CODE
from reactor.server.run import KILLED, SIGNALS

PATIENCE: Final = 3  # signals until the server is killed: one asks for the end, one cuts it short


def restart_delay(restarts: int) -> float:
    """Return the seconds to wait before the server is started for the n-th time again: none, then 1, 2, 4 …"""
    return min(MAX_RESTART_SECONDS, 2.0 ** (restarts - 2)) if restarts > 1 else 0.0


def supervised() -> int | None:
    """Go on as the server, in a process of its own, while this one stays behind and does nothing else.

    Returns, in each server that is started, the end of a pipe: from it comes a byte for each signal to the supervisor,
    and the end of the file when that is gone. Returns None where processes can't be forked; then nobody supervises.

    Raises:
        SystemExit: in the supervisor, with the exit code of the last server.
    """
    return Supervisor().run() if hasattr(os, "fork") else None


class Supervisor:
    """Starts servers, one at a time."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._signals = 0
        self._child = 0

    def run(self) -> int:
        """See `supervised`.

        Raises:
            SystemExit: in the supervisor.
        """
        for number in SIGNALS:
            signal.signal(number, self._signalled)
        restarts = 0
        while self._start():
            code = self._wait()
            if code != EXIT_CODE or self._signals:
                self._leave(code)
            restarts += 1
            delay = restart_delay(restarts)
            warn(
                "reactor dev: a function that could not be stopped has ended the server; its place is shown above. "
                f"Starting again{f' in {delay:g} s' if delay else ''}."
            )
            if select.select([self._read], [], [], delay)[0]:  # a signal, since nothing else writes to it
                self._leave(code)
        return self._read

    def _start(self) -> bool:
        """Fork a server; return False in it."""
        sys.stdout.flush()
        self._child = os.fork()
        if self._child:
            return True
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.close(self._write)  # or it would never see the end of the file
        return False

    def _wait(self) -> int:
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return code
        return KILLED if self._signals >= PATIENCE else 128 - code  # as shells tell of a death by signal

    @staticmethod
    def _leave(code: int) -> NoReturn:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # one more would change the exit code
        sys.exit(code)

    def _signalled(self, number: int, frame: types.FrameType | None) -> None:
        self._signals += 1
        os.write(self._write, b".")
        if self._signals >= PATIENCE and self._child:
            os.kill(self._child, signal.SIGKILL)
