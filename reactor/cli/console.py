"""What the commands say: results on standard output, everything else on standard error.

Promises that a line is never wrapped, so that programs can read it, and that a failure is one message without a
traceback. Used by every command.
"""

import logging
import re
import sys
from pathlib import Path
from typing import Final, NoReturn

import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from reactor.errors import Error, PushError

_OUT = Console(soft_wrap=True, highlight=False, markup=False)
_ERR = Console(soft_wrap=True, highlight=False, markup=False, stderr=True)
_HEAD: Final = re.compile(r"\[Request ID: \S+\] Server Error")  # of use only where the server tells no more
_EXCERPT_LINES = 2  # shown before and after the line of an error


def say(text: str, style: str | None = None) -> None:
    """Print a line for the user on standard output, at once: readers of a pipe wait for it."""
    _OUT.print(text, style=style)
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print a line on standard error."""
    _ERR.print(text, style="yellow")


def complain(text: str) -> None:
    """Print a message on standard error that says what was wrong."""
    _ERR.print(Text("error: ", style="bold red").append(text, style="default"))


def fail(text: str) -> NoReturn:
    """End the command with exit code 1 and one message.

    Raises:
        typer.Exit: always.
    """
    complain(text)
    raise typer.Exit(1)


def told(message: str) -> str:
    """Return what a server says of a failed function without the head that clients get, if there is anything else."""
    head, _, text = message.partition("\n")
    return text if text and _HEAD.fullmatch(head) else message


def show(error: Error, project: Path | None = None) -> None:
    """Print `error`; one in the user's code with its file and line, relative to `project`, and an excerpt."""
    if not isinstance(error, PushError) or error.file is None:
        _ERR.print(Text("error: ", style="bold red").append(told(str(error)), style="default"))
        return
    path = Path(error.file)
    place = f"{_relative(path, project)}:{error.line}" if error.line else _relative(path, project)
    message = str(error)
    lead = message if place in message else f"{place}: {message}"
    _ERR.print(Text("error: ", style="bold red").append(lead, style="default"))
    if error.line:
        _excerpt(path, error.line)


def show_function_logs() -> None:
    """Print, on standard error, the log lines of functions that no client gets: of HTTP actions, row rules, jobs."""
    logger = logging.getLogger("reactor.functions")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
        logger.propagate = False


def _relative(path: Path, project: Path | None) -> str:
    if project is not None and path.is_relative_to(project):
        return str(path.relative_to(project))
    return str(path)


def _excerpt(path: Path, line: int) -> None:
    try:
        code = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return  # the place was named; the excerpt is a courtesy
    around = (max(1, line - _EXCERPT_LINES), line + _EXCERPT_LINES)
    _ERR.print(Syntax(code, "python", line_numbers=True, line_range=around, highlight_lines={line}, theme="ansi_dark"))
