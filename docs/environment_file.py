"""Writes `.env.example`, every variable that a server reads, with what the reference pages say of it.

The tables in `docs/reference/cli.md` (the server) and `docs/howto/deploy.md` (compose, the application) and the limits
in `reactor/limits.py` are where these are described. Run by `make docs`; a test compares.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from docs.generate import plain_number
from reactor.limits import Limits, knobs

DOCS = Path(__file__).parent
FILE = DOCS.parent / ".env.example"
WIDTH = 100
PLACEHOLDERS = {
    "CONVEX_CLOUD_ORIGIN": "https://api.example.com",
    "CONVEX_SITE_ORIGIN": "https://site.example.com",
    "REDACT_LOGS_TO_CLIENT": "true",
    "AI_PUBLIC_LOGGING": "false",
    "ALERT_WEBHOOK_URL": "https://example.com/alerts",
}
"""What stands behind `=` where there is no default, and an empty value would say less."""


def environment_file() -> str:
    """Return the text of the file. Every variable is commented out, so that a copy of it changes nothing."""
    lines = [*comment("Settings of docker-compose.yml, `reactor serve` and systemd (docs/howto/deploy.md).")]
    lines += comment("Remove the # before the variables that you set.")
    sections = [
        ("The server", variables(DOCS / "reference" / "cli.md")),
        ("docker-compose.yml", variables(DOCS / "howto" / "deploy.md", "docker-compose.yml")),
        ("The application in schema.py and functions/", variables(DOCS / "howto" / "deploy.md", "The application")),
        ("Limits, with their defaults (docs/reference/limits.md)", limits()),
    ]
    for title, found in sections:
        lines += ["", f"# --- {title}"]
        for name, value, text in found:
            lines += ["", *comment(text), f"#{name}={value}"]
    return "\n".join(lines) + "\n"


def variables(page: Path, heading: str | None = None) -> Iterator[tuple[str, str, str]]:
    """Yield name, placeholder and description of the variables in a page's tables, or in those below one heading."""
    text = page.read_text(encoding="utf-8")
    if heading is not None:
        text = re.split(r"^#+ ", text.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    for name, description in re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| (.*) \|$", text, re.MULTILINE):
        unlinked = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", description)
        default = re.search(r"\bdefault ([\w.]+)", unlinked.replace("`", ""))
        value = default[1] if default else PLACEHOLDERS.get(name, "")
        yield name, value, f"{unlinked[0].upper()}{unlinked[1:]}.".replace("`", "")


def limits() -> Iterator[tuple[str, str, str]]:
    """Yield name, default and description of every limit."""
    defaults = Limits()
    for name, knob in knobs().items():
        yield knob.env, plain_number(getattr(defaults, name)), f"{knob.doc[0].upper()}{knob.doc[1:]} ({knob.unit})."


def comment(text: str) -> list[str]:
    """Return a text as lines of comment."""
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


if __name__ == "__main__":
    FILE.write_text(environment_file(), encoding="utf-8")
