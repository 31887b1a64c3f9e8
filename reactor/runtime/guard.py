"""The determinism guard: what queries and mutations may not do, refused wherever it is called from.

Promises that files, sockets, threads, processes, waiting, signals and the process environment raise `DeterminismError`
inside queries and mutations, through the standard library and through packages imported by user code, and that nothing
changes outside of these. Three means: dispatchers in front of functions that say nothing of themselves, an audit hook
for everything that does, and façades among the builtins of user modules. `docs/reference/determinism.md` lists what
each catches, and what none does. Protects from accidents, not from hostile code.

A late import is no part of the execution that happens to come first: it runs outside of it. Host code that runs inside
an execution and needs the operating system uses `outside`. Used by `host`, `loader` and `importing`.
"""

import _thread
import asyncio
import concurrent.futures
import contextvars
import inspect
import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from reactor.errors import DeterminismError
from reactor.runtime import determinism
from reactor.runtime.determinism import ambient, frozen_ambient, is_user_code, replace

P = ParamSpec("P")
T = TypeVar("T")

# Modules of the standard library that may use files on behalf of a query: tracebacks, handlers of the process, zones.
_TRUSTED: Final = frozenset({"linecache", "logging", "zoneinfo", "_colorize"})

_ACTION: Final = "Do it in an action, which may call ctx.run_query and ctx.run_mutation."
_FILES: Final = "Read and write files in an action, or keep the data in a document."
_ENVIRONMENT: Final = (
    "Nothing would run it again when the variable changes: use reactor.env, whose variables are set with "
    "`reactor env set` or listed in [tool.reactor] env, or pass the value as an argument."
)
_SPAWN: Final = "What it starts would outlive the transaction and run again with each retry. " + _ACTION
_LATER: Final = "Schedule a function with ctx.scheduler.run_after, or use an action."
_GATHER: Final = "Use asyncio.gather over ctx calls, or an action."
_NO_TIMEOUT: Final = "Calls on ctx return at once, so there is nothing to time out; use an action for slow work."
_PROCESS: Final = "It changes the whole process for everybody. " + _ACTION


def outside(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` as code of the host: with the real clock, and nothing refused.

    For the engine's own code that may run inside an execution, such as one that arms a timer.
    """
    return contextvars.Context().run(function, *args, **kwargs)


def refuse(call: str, instead: str) -> None:
    """Refuse `call` in a query or mutation; do nothing elsewhere.

    Raises:
        DeterminismError: names the call, the user's file and line, the package it came through, and what to do instead.
    """
    if frozen_ambient() is not None:
        _refuse(call, instead, sys._getframe(2))


def _refuse(call: str, instead: str, caller: types.FrameType) -> None:
    package = ""
    frame: types.FrameType | None = caller
    while frame is not None and not is_user_code(frame):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in _TRUSTED:
            return
        frame = frame.f_back
    if frame is None:
        frame, package = caller, ""
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    if package and package != "reactor":
        place = f"{place}, through {package}"
    raise DeterminismError(f"Can't use {call} in queries and mutations ({place}). {instead}")


def guarded(original: Callable[..., Any], call: str, instead: str) -> Callable[..., Any]:
    """Return a function that does what `original` does, and refuses in queries and mutations."""

    current = ambient.get

    def dispatcher(*args: Any, **kwargs: Any) -> Any:
        found = current()
        if found is not None and found.frozen:
            _refuse(call, instead, sys._getframe(1))
        return original(*args, **kwargs)

    if inspect.iscoroutinefunction(original):
        # Frameworks ask whether a function is a coroutine function; the dispatcher must answer alike.
        mark: Callable[[Any], Any] | None = getattr(inspect, "markcoroutinefunction", None)
        if mark is not None:
            mark(dispatcher)
        else:
            dispatcher._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return dispatcher


# What raises an audit event, by the name of the event. Those of `open` and `import` that Python itself makes for an
# import never come here, since imports run outside of executions.
AUDITED: Final[dict[str, tuple[str, str]]] = {
    "open": ("open()", _FILES),
    "builtins.input": ("input()", _ACTION),
    "builtins.breakpoint": ("breakpoint()", _ACTION),
    "mmap.__new__": ("mmap", _FILES),
    "sqlite3.connect": ("sqlite3.connect()", "Keep the data in documents, or use an action."),
    **{f"os.{name}": (f"os.{name}()", _FILES) for name in """
        chdir chflags chmod chown getxattr link listdir listdrives listmounts listvolumes listxattr lockf mkdir mkfifo
        mknod remove removexattr rename rmdir scandir setxattr symlink truncate utime walk fwalk
       """.split()},
    **{f"shutil.{name}": (f"shutil.{name}()", _FILES) for name in """
        chown copyfile copymode copystat copytree make_archive move rmtree unpack_archive
       """.split()},
    **{f"tempfile.{name}": (f"tempfile.{name}()", _FILES) for name in ("mkdtemp", "mkstemp")},
    **{f"{name}": (f"{name}()", _FILES) for name in ("glob.glob", "glob.glob/2")},
    **{f"fcntl.{name}": (f"fcntl.{name}()", _FILES) for name in ("fcntl", "flock", "ioctl", "lockf")},
    **{f"os.{name}": (f"os.{name}()", _SPAWN) for name in """
        exec fork forkpty posix_spawn spawn startfile startfile/2 system
       """.split()},
    **{name: (f"{name}()", _SPAWN) for name in """
        subprocess.Popen pty.spawn webbrowser.open _posixsubprocess.fork_exec _winapi.CreateProcess
        _thread.start_new_thread _thread.start_joinable_thread
       """.split()},
    **{f"os.{name}": (f"os.{name}()", _PROCESS) for name in ("kill", "killpg", "add_dll_directory")},
    **{f"os.{name}": (f"os.{name}()", _ENVIRONMENT) for name in ("putenv", "unsetenv")},
    **{name: (f"{name}()", _PROCESS) for name in """
        signal.pthread_kill resource.setrlimit resource.prlimit syslog.openlog syslog.syslog syslog.setlogmask
        sys.addaudithook
       """.split()},
    "socket.__new__": ("socket.socket()", _ACTION),
    **{f"socket.{name}": (f"socket.{name}()", _ACTION) for name in """
        bind connect getaddrinfo gethostbyaddr gethostbyname gethostname getnameinfo getservbyname getservbyport
        sendmsg sendto sethostname
       """.split()},
    **{name: (f"{name}()", _ACTION) for name in """
        ftplib.connect http.client.connect http.client.send imaplib.open poplib.connect smtplib.connect smtplib.send
        urllib.Request
       """.split()},
    **{f"ctypes.{name}": (f"ctypes.{name}", _ACTION) for name in "dlopen dlsym dlsym/handle call_function".split()},
}  # fmt: skip


def _is_time_zone(path: object) -> bool:
    """Whether a file is one of those that `zoneinfo` opens from C, where no frame tells of it."""
    zoneinfo = sys.modules.get("zoneinfo")
    return zoneinfo is not None and isinstance(path, str) and path.startswith(tuple(zoneinfo.TZPATH))


def _install_audit() -> None:
    current, audited = ambient.get, AUDITED

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in audited:
            found = current()
            if found is not None and found.frozen and not (event == "open" and _is_time_zone(args[0])):
                _refuse(*audited[event], sys._getframe(1))

    sys.addaudithook(hook)


# What raises no audit event: owner, names, how the error calls it, what to do instead.
_SILENT: Final[list[tuple[Any, str, str, str]]] = [
    (time, "sleep", "time.sleep()", _LATER),
    (signal, "signal alarm setitimer siginterrupt pause sigwait raise_signal", "signal.{}()", _PROCESS),
    (sys, "setrecursionlimit setswitchinterval", "sys.{}()", _PROCESS),
    (threading.Thread, "start", "threading.Thread.start()", _SPAWN),
    (_thread, "start_new_thread start_new", "_thread.{}()", _SPAWN),
    (threading.Condition, "wait", "threading.Condition.wait()", _ACTION),
    (concurrent.futures.ThreadPoolExecutor, "submit", "ThreadPoolExecutor.submit()", _SPAWN),
    (select, "select poll", "select.{}()", _ACTION),
    (socket.socket, "accept send sendall recv recv_into", "socket.{}()", _ACTION),
    (ssl.SSLSocket, "read write send sendall recv recv_into", "ssl.SSLSocket.{}()", _ACTION),
    (os, "stat lstat access readlink statvfs getcwd getcwdb pipe pipe2 read write sendfile", "os.{}()", _FILES),
    (os, "wait waitpid getloadavg times getlogin", "os.{}()", _ACTION),
    (asyncio.TaskGroup, "__init__", "asyncio.TaskGroup()", _GATHER),
]
_ASYNCIO: Final = {
    "sleep": _LATER,
    "wait_for": _NO_TIMEOUT,
    "timeout": _NO_TIMEOUT,
    "timeout_at": _NO_TIMEOUT,
    "to_thread": _SPAWN,
}
_FOLLOWS: Final = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")


def _install_silent() -> None:
    for owner, names, shown, instead in _SILENT:
        for name in names.split():
            if hasattr(owner, name):
                original = getattr(owner, name)
                dispatcher = guarded(original, shown.format(name), instead)
                replace(owner, name, dispatcher)
                if owner is os:  # `os.stat in os.supports_fd` is how callers ask what a function can do
                    for followed in (getattr(os, kind) for kind in _FOLLOWS):
                        if original in followed:
                            followed.add(dispatcher)
    for name, instead in _ASYNCIO.items():
        original = getattr(asyncio, name)
        dispatcher = guarded(original, f"asyncio.{name}()", instead)
        replace(sys.modules[original.__module__], name, dispatcher)
        setattr(asyncio, name, dispatcher)


def _install_environment() -> None:
    kind: Any = type(os.environ)
    for name in ("__getitem__", "__setitem__", "__delitem__", "__iter__", "__len__"):
        replace(kind, name, guarded(getattr(kind, name), "os.environ", _ENVIRONMENT))


_LOOP_CALLS: Final = {
    "call_later": _LATER,
    "call_at": _LATER,
    "run_in_executor": _SPAWN,
    **dict.fromkeys(("subprocess_exec", "subprocess_shell"), _SPAWN),
    **dict.fromkeys(("add_signal_handler", "remove_signal_handler"), _PROCESS),
    **dict.fromkeys(
        """
        add_reader add_writer connect_accepted_socket connect_read_pipe connect_write_pipe create_connection
        create_datagram_endpoint create_server create_unix_connection create_unix_server getaddrinfo getnameinfo
        sendfile sock_accept sock_connect sock_recv sock_recv_into sock_recvfrom sock_sendall sock_sendfile sock_sendto
        start_tls
        """.split(),
        _ACTION,
    ),
}
_guarded_loops: Final[weakref.WeakSet[type]] = weakref.WeakSet()


def guard_loop(kind: type[asyncio.AbstractEventLoop]) -> None:
    """Guard the methods of an event loop class that reach out of a query or mutation. Harmless when repeated."""
    with _installing:
        if kind in _guarded_loops:
            return
        for name, instead in _LOOP_CALLS.items():
            original = getattr(kind, name, None)
            if original is not None and not hasattr(original, "__reactor_guarded__"):
                dispatcher = guarded(original, f"loop.{name}()", instead)
                dispatcher.__reactor_guarded__ = True  # type: ignore[attr-defined]
                replace(kind, name, dispatcher)
        _guarded_loops.add(kind)


def _install_imports() -> None:
    bootstrap: Any = sys.modules["_frozen_importlib"]
    find_and_load: Callable[..., Any] = bootstrap._find_and_load

    def _find_and_load(name: str, import_: Callable[..., Any]) -> Any:
        if frozen_ambient() is None:
            return find_and_load(name, import_)
        return contextvars.Context().run(find_and_load, name, import_)

    # Under the file name of its neighbours, so that `warnings` and tracebacks skip this frame as they skip theirs.
    _find_and_load.__code__ = _find_and_load.__code__.replace(co_filename=find_and_load.__code__.co_filename)
    bootstrap._find_and_load = _find_and_load


_installing: Final = threading.Lock()
_installed = False


def install() -> None:
    """Put the frozen clock, seeded chance and the guard in place, once per process."""
    global _installed
    determinism.install()
    with _installing:
        if _installed:
            return
        _install_imports()
        _install_silent()
        _install_environment()
        _install_audit()
        _installed = True


def facades() -> dict[str, Callable[..., Any]]:
    """Return the builtins that user modules get instead of their own."""
    return {
        "open": guarded(open, "open()", _FILES),
        "input": guarded(input, "input()", _ACTION),
        "breakpoint": guarded(breakpoint, "breakpoint()", _ACTION),
    }
