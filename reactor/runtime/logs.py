"""Log lines of one execution: what `print` and `logging` inside a function turn into.

Owns the line shape `[LEVEL] 'text'`, the limits on number and length of lines, the `print` given to user modules, and
the capture of `logging` records. Promises that a line is always valid UTF-8, that nothing a function logs can raise or
grow memory without bound, and that outside an execution `print` and `logging` behave as always.
Used by `determinism` (which knows the current execution), `loader` (which hands `print` to user modules) and whatever
runs functions that no client has called.
"""

import builtins
import logging
import sys
import time
import types
from collections.abc import Callable, Iterable
from typing import Any, Final

from reactor.limits import MAX_LOG_LINE_BYTES, MAX_LOG_LINES

TRUNCATED: Final = " (truncated due to length)"
OVERFLOW: Final = f"[ERROR] Log overflow (maximum {MAX_LOG_LINES}). Remaining log lines omitted."

CurrentLog = Callable[[], "LogBuffer | None"]

_unheard = logging.getLogger("reactor.functions")


def log_unheard(what: str, lines: Iterable[str]) -> None:
    """Write down the lines of a run that no client gets: `what` is called by the outside world, or by the clock."""
    for line in lines:
        _unheard.info("%s: %s", what, line)


class LogBuffer:
    """The log lines of one execution, nested calls included, oldest first."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: list[str] = []

    @property
    def is_heard(self) -> bool:
        """Whether handlers of the process get the records, too."""
        return True

    def add(self, level: str, text: str, path: str = "") -> None:
        """Append one line; past the limit a single last line says that the rest is missing.

        `path` goes between level and text: clients take what stands first for the level.
        """
        count = len(self._lines)
        if count < MAX_LOG_LINES - 1:
            self._lines.append(f"[{level}] {path}{_bounded(text)}")
        elif count == MAX_LOG_LINES - 1:
            self._lines.append(OVERFLOW)

    def relay(self, lines: Iterable[str], path: str) -> None:
        """Append the lines of another execution, under `path`; they count like this one's own."""
        for line in lines:
            count = len(self._lines)
            if count < MAX_LOG_LINES - 1:
                level, _, text = line.partition(" ")
                self._lines.append(f"{level} {path}{text}")
            elif count == MAX_LOG_LINES - 1:
                self._lines.append(OVERFLOW)

    def warn(self, text: str) -> None:
        """Append a line of the system's own, also when the function has logged too much."""
        self._lines.append(f"[WARN] {text}")

    def fall_silent(self) -> None:
        """Tell nobody of lines any more: the execution has really ended."""

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


class UnheardLog(LogBuffer):
    """The log of an execution that only repeats another: nobody hears of it."""

    __slots__ = ()

    @property
    def is_heard(self) -> bool:
        """Whether handlers of the process get the records, too."""
        return False


class NestedLog(LogBuffer):
    """The log of a nested function: its lines go to the outer function's log, under its path, and count there."""

    __slots__ = ("_outer", "_path")

    def __init__(self, outer: LogBuffer, path: str) -> None:
        self._lines = outer._lines
        self._outer = outer
        self._path = path

    @property
    def is_heard(self) -> bool:
        """Whether handlers of the process get the records, too."""
        return self._outer.is_heard

    def add(self, level: str, text: str, path: str = "") -> None:
        """Append one line to the outer log; see `LogBuffer.add`."""
        self._outer.add(level, text, f"[{self._path}] {path}")

    def relay(self, lines: Iterable[str], path: str) -> None:
        """Append the lines of another execution to the outer log; see `LogBuffer.relay`."""
        self._outer.relay(lines, f"[{self._path}] {path}")


class ToldLog(LogBuffer):
    """The log of an action, which may go on for long: each line of its own is told at once, on its thread.

    Lines of other executions are not: these tell of themselves.
    """

    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def add(self, level: str, text: str, path: str = "") -> None:
        """Append one line; see `LogBuffer.add`."""
        count = len(self._lines)
        super().add(level, text, path)
        if count < MAX_LOG_LINES:
            self._tell(f"[{level}] {path}{_bounded(text)}" if count < MAX_LOG_LINES - 1 else OVERFLOW)

    def fall_silent(self) -> None:
        """Tell nobody of lines any more."""
        self._tell = _nobody

    def warn(self, text: str) -> None:
        """Append a line of the system's own."""
        super().warn(text)
        self._tell(f"[WARN] {text}")


def _nobody(line: str) -> None:
    """It came too late."""


def _bounded(text: str) -> str:
    # A text of this many characters may be too long; only then is it worth counting bytes. Lone surrogates can't be
    # sent to anybody, so they leave as question marks.
    quoted = f"'{text}'"
    if quoted.isascii() and len(quoted) <= MAX_LOG_LINE_BYTES:
        return quoted
    data = quoted[: MAX_LOG_LINE_BYTES + 1].encode("utf-8", "replace")
    if len(data) <= MAX_LOG_LINE_BYTES and len(quoted) <= MAX_LOG_LINE_BYTES:
        return data.decode("utf-8")
    return data[:MAX_LOG_LINE_BYTES].decode("utf-8", "ignore") + TRUNCATED


def console(current: CurrentLog) -> Callable[..., None]:
    """Return the `print` of user modules: a log line inside an execution, the builtin outside.

    Printing to `sys.stderr` gives an ERROR line; printing to any other `file` is left alone.
    """

    def print(
        *values: object, sep: str | None = None, end: str | None = None, file: Any = None, flush: bool = False
    ) -> None:
        log = current()
        if log is None or not (file is None or file is sys.stdout or file is sys.stderr):
            builtins.print(*values, sep=sep, end=end, file=file, flush=flush)
            return
        text = (" " if sep is None else sep).join(map(str, values)) + ("" if end is None else end)
        log.add("ERROR" if file is not None and file is sys.stderr else "LOG", text.removesuffix("\n"))

    return print


def level_name(level: int) -> str:
    """Return the wire's name of a `logging` level."""
    if level >= logging.ERROR:
        return "ERROR"
    if level >= logging.WARNING:
        return "WARN"
    return "INFO" if level >= logging.INFO else "DEBUG"


def record_text(record: logging.LogRecord) -> str:
    """Return the message of a record with its traceback, if any. A bad format string gives its parts, not an error."""
    try:
        text = record.getMessage()
    except Exception:
        text = f"{record.msg} {record.args!r}"
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + _FORMATTER.formatException(record.exc_info)
    return text


_FORMATTER: Final = logging.Formatter()


def capture_logging(current: CurrentLog, is_user_code: Callable[[types.FrameType], bool]) -> None:
    """Make records logged inside an execution log lines. Called once per process, by `determinism.install`.

    User code is heard at every level unless its logger has a level of its own: the root logger's default would
    otherwise swallow `logging.info` in a function. Libraries are heard at the levels the process has configured.
    Handlers of the process still see what they would have seen.
    """
    enabled, dispatch = logging.Logger.isEnabledFor, logging.Logger.callHandlers

    def is_enabled_for(self: logging.Logger, level: int) -> bool:
        if enabled(self, level):
            return True
        if current() is None or self.manager.disable >= level:
            return False
        if self.level and self is not self.root:
            return False
        caller: types.FrameType | None = sys._getframe(1)
        while caller is not None and caller.f_globals.get("__name__") == "logging":
            caller = caller.f_back
        return caller is not None and is_user_code(caller)

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        log = current()
        if log is None or record.name.partition(".")[0] == "reactor":  # the engine's own words are the operator's
            dispatch(self, record)
            return
        log.add(level_name(record.levelno), record_text(record))
        if log.is_heard and enabled(self, record.levelno) and self.hasHandlers():
            dispatch(self, record)

    logging.Logger.isEnabledFor = is_enabled_for  # type: ignore[method-assign]
    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]
    # A record is stamped with the real time, and stamping it is not a look at the clock by the function.
    clock = types.ModuleType("time")
    clock.__dict__.update(time.__dict__)
    logging.time = clock  # type: ignore[attr-defined]
