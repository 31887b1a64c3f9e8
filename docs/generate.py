"""Writes the reference pages that follow from the code: limits, errors, official commands.

Run by `make docs`; a test compares.

The sentences come from the docstrings and the descriptions beside the numbers, so that there is one place to edit.
"""

import inspect
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from reactor import errors
from reactor.cli.main import commands
from reactor.cli.official import COMMANDS, FLAGS
from reactor.limits import Limits, knobs

REFERENCE = Path(__file__).parent / "reference"


def limits_page() -> str:
    """Return the page of every number an operator may change."""
    defaults = Limits()
    lines = [
        "# Limits",
        "",
        "Each of these can be changed by an environment variable of `reactor dev` and `reactor serve`, or by passing",
        "`limits=Limits(...)` to `Deployment`. A value that is no number or out of bounds stops the start with a",
        "message that names the variable. What the document model itself fixes (a document of at most 1 MiB, 1024",
        "fields and so on) can't be changed; the error says so.",
    ]
    for name, knob in knobs().items():
        lines += [
            "",
            f"## {knob.env}",
            "",
            f"{knob.doc[0].upper()}{knob.doc[1:]}.",
            "",
            f"Default {_number(getattr(defaults, name))} {knob.unit}, from {_number(knob.low)} to {_number(knob.high)}."
            f" In Python: `Limits({name}=...)`.",
        ]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """Return the page of every error raised on purpose."""
    lines = [
        "# Errors",
        "",
        "Every error raised on purpose derives from `reactor.Error`. Match on `code`, which is stable, never on the",
        "message. The status is that of the HTTP API when the error is not the result of a function. A retryable error",
        "can be tried again unchanged. Only the data of a `ReactorError` reaches clients when",
        "`REDACT_LOGS_TO_CLIENT=true`.",
    ]
    for kind in error_classes():
        retryable = ", retryable" if kind.retryable else ""
        lines += ["", f"## {kind.code}", "", f"`{kind.__name__}`, status {kind.status}{retryable}.", ""]
        lines += (inspect.getdoc(kind) or "").splitlines()
    return "\n".join(lines) + "\n"


def error_classes() -> Iterator[type[errors.Error]]:
    """Yield the classes of the error tree in the order of their definition."""
    kinds = (value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.Error))
    yield from dict.fromkeys(kinds)  # an alias is the same class again


def _number(value: float) -> str:
    if isinstance(value, float) and not value.is_integer():
        return str(value)
    whole = int(value)
    for power, suffix in ((1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")):
        if whole and whole % power == 0:
            return f"{whole // power} {suffix}"
    return f"{whole:_}"


def plain_number(value: float) -> str:
    """Return a number as an environment variable has it."""
    return str(int(value)) if float(value).is_integer() else str(value)


def official_page() -> str:
    """Return the page of every command and flag of the official command line, and what to do here instead."""
    official = official_commands()
    ours = commands()
    lines = [
        "# The official command line",
        "",
        "`npx convex` talks to a reactor server once `CONVEX_SELF_HOSTED_URL` and `CONVEX_SELF_HOSTED_ADMIN_KEY`",
        "name it: `run`, `data`, `env`, `logs` and `function-spec` work as they are. `reactor` has commands of the",
        "same names, and needs no Node. This page lists every official command and flag; `reactor` gives the same",
        "answers to whoever types them. `CONVEX_DEPLOY_KEY`, a key of the Convex cloud, is ignored with a warning;",
        "for `npx convex` unset it.",
        "",
        "## Commands",
        "",
        "| Official | Here |",
        "|---|---|",
    ]
    for name in sorted(official):
        lines.append(f"| `convex {name}` | {_here(name, ours)} |")
    lines += ["", "## Flags", "", "Of commands that both have, where `reactor` has no such flag.", ""]
    lines += ["| Official | Here |", "|---|---|"]
    lines += [f"| `{flag}` | {text} |" for flag, text in FLAGS.items()]
    return "\n".join(lines) + "\n"


def _here(name: str, ours: Collection[str]) -> str:
    if name in ours:
        return f"`reactor {name}`"
    if any(one.startswith(f"{name} ") for one in ours):
        return f"`reactor {name} --help`"
    words = name.split()
    return next(COMMANDS[" ".join(words[:count])] for count in (3, 2, 1) if " ".join(words[:count]) in COMMANDS)


def official_commands() -> dict[str, list[str]]:
    """Return the flags of every official command, by its name, as `convex --help` of version 1.48 lists them."""
    found: dict[str, list[str]] = json.loads((Path(__file__).parent / "official_commands.json").read_text("utf-8"))
    return found


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(exist_ok=True)
    (REFERENCE / "limits.md").write_text(limits_page(), encoding="utf-8")
    (REFERENCE / "official-cli.md").write_text(official_page(), encoding="utf-8")
    (REFERENCE / "errors.md").write_text(errors_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
