"""The last resort: a process in which user code can't be stopped ends itself, with the stacks of all its threads.

C code that holds the interpreter and never looks at signals can be ended by nothing in the process. So the watchdog
feeds a timer of the operating system; when it starves for `hard_seconds` of processor time, a handler written in C
dumps the stacks and leaves with `EXIT_CODE`, for the supervisor of `serve` to start it again. What was answered is
durable.
Used by `server/run` for processes that do nothing but serve; an embedding program is never ended.
"""

import ctypes
import faulthandler
import os
import signal
import sys
from typing import Final

from reactor.runtime.watchdog import watchdog

# That of SIGPROF. An exit and not a death by signal: the first process of a container survives those.
EXIT_CODE: Final = 27


def arm(hard_seconds: float) -> None:
    """End the process when the watchdog has not been able to run for `hard_seconds` of processor time.

    Only on the main thread, before it is served from. Does nothing where there are no such timers.
    """
    if not hasattr(signal, "SIGPROF"):
        return
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    # The handler gets the number of the signal, and `_exit` takes the exit code: no Python is needed in between.
    libc.signal(signal.SIGPROF, ctypes.cast(libc._exit, ctypes.c_void_p))
    faulthandler.register(signal.SIGPROF, file=sys.__stderr__ or sys.stderr, all_threads=True, chain=True)
    assert int(signal.SIGPROF) == EXIT_CODE

    def feed() -> None:
        signal.setitimer(signal.ITIMER_PROF, hard_seconds)

    feed()
    watchdog.feed = feed


def end(reason: str) -> None:
    """Say why, dump the stacks, and leave with `EXIT_CODE`."""
    stream = sys.__stderr__ or sys.stderr
    print(f"reactor: {reason}; ending with exit code {EXIT_CODE}, to be started again.", file=stream, flush=True)
    faulthandler.dump_traceback(stream, all_threads=True)
    os._exit(EXIT_CODE)
