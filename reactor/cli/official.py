"""What the official command line has and `reactor` does not: each with the line that does the job here.

Promises an answer for every official command and flag that is not one of ours, so that nobody who types from habit is
left with "no such command". Used by `main`, and by the page of the docs that lists them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

NO_ACCOUNT: Final = "A reactor server has admin keys instead of accounts: `reactor admin-key` prints a new one."
BY_URL: Final = (
    "A server is named by its address: `--url URL --admin-key KEY`, or CONVEX_SELF_HOSTED_URL and "
    "CONVEX_SELF_HOSTED_ADMIN_KEY."
)
PYTHON: Final = "Functions are Python: check them with `mypy functions` or `pyright functions`."
NEW_PROJECT: Final = "A project is a folder: `reactor init DIR` makes one, and `reactor dev` serves it."
NO_LIMITS: Final = "Nothing is metered: the limits of a server are environment variables, see docs/reference/limits.md."
OWN_WATCH: Final = "Use any health check of your own: `curl URL/version` answers while the server runs."
PUSH: Final = "`reactor serve --project DIR` pushes a project when it starts, and `reactor dev` at each edit."
FOLLOW: Final = "`reactor logs` follows the log, in a second terminal."

COMMANDS: Final[Mapping[str, str]] = {
    "ai-files": "There are no such files; the pages below docs/ are plain Markdown for any assistant.",
    "auth": "Users come from the providers that functions/auth_config.py names, see docs/howto/auth.md.",
    "codegen": "`reactor function-spec` prints all types as JSON, for generators such as those of convex-helpers.",
    "dashboard": "`reactor dev` serves a page at its address; `reactor data` and `reactor logs` show the rest.",
    "deploy": PUSH,
    "deploy-key": NO_ACCOUNT,
    "deployment": BY_URL,
    "deployment create": "A deployment is a data directory: `reactor serve --data DIR` makes a new one.",
    "deployment token": NO_ACCOUNT,
    "deployment usage": NO_LIMITS,
    "deployment usage-limits": NO_LIMITS,
    "disable-local-deployments": "Every server is one of your own: start it with `reactor dev` or `reactor serve`.",
    "docs": "The documentation is in docs/README.md of the project reactor.",
    "env default": "A project names defaults of its own in pyproject.toml, see docs/reference/environment.md.",
    "env remove": "`reactor env unset NAME` does it.",
    "env rm": "`reactor env unset NAME` does it.",
    "export": "`reactor data TABLE --jsonl --limit 1000000 > TABLE.jsonl` writes the documents of one table.",
    "import": "Write a mutation that inserts a batch, and call it with `reactor run`.",
    "insights": "`reactor logs --success` shows how long each function takes and what failed.",
    "integration": "Users come from the providers that functions/auth_config.py names, see docs/howto/auth.md.",
    "login": NO_ACCOUNT,
    "logout": NO_ACCOUNT,
    "mcp": "An assistant can use `reactor run`, `reactor data --jsonl` and `reactor logs --jsonl` itself.",
    "network-test": OWN_WATCH,
    "project": NEW_PROJECT,
    "reinit": NEW_PROJECT,
    "typecheck": PYTHON,
    "update": "`pip install --upgrade reactor` updates it.",
}
"""By official command; a longer one goes before the command it is below. One that `reactor` has is never looked up."""

FLAGS: Final[Mapping[str, str]] = {
    "--allow-unstaging-schema": "Indexes are never staged; leave it out.",
    "--append": "See `reactor import --help`.",
    "--cmd": PUSH,
    "--cmd-url-env-var-name": PUSH,
    "--codegen": "Leave it out: `reactor function-spec` describes the functions for generators.",
    "--component": "Call it from a function of the application: `ctx.run_query(components.name.module.function)`.",
    "--component-dir": "Components are Python packages, see docs/howto/writing-a-component.md.",
    "--configure": NEW_PROJECT,
    "--deployment": BY_URL,
    "--deployment-name": BY_URL,
    "--dry-run": "`reactor dev --once` checks a project against its data; `reactor codegen --check` its types.",
    "--env-file": "Let the shell read it: `set -a; . FILE; set +a`, then the command.",
    "--force": "Leave it out: variables that are set already get the new value.",
    "--format": "`--jsonl` prints one line of JSON for each document.",
    "--from-file": "`xargs reactor env set < FILE` sets all variables of a file.",
    "--include-file-storage": "See `reactor export --help`.",
    "--include-values": "Leave it out: values are shown; `--names-only` hides them.",
    "--init": NEW_PROJECT,
    "--inline-query": "Put the query into functions/ as an `@internal_query`, and run it by its name.",
    "--message": "Leave it out: a version is named by its number.",
    "--path": "See `reactor export --help`.",
    "--preview-create": "`reactor serve --data DIR --port PORT` serves a second deployment with data of its own.",
    "--preview-name": BY_URL,
    "--preview-run": "`reactor run FUNCTION --url URL --admin-key KEY` runs a function there.",
    "--prod": BY_URL,
    "--push": "`reactor dev` pushes each edit before you can run anything.",
    "--replace": "See `reactor import --help`.",
    "--replace-all": "See `reactor import --help`.",
    "--run": "`reactor run FUNCTION`, in a second terminal.",
    "--run-component": "`reactor run FUNCTION`, in a second terminal.",
    "--skip-large-indexes-check": "Leave it out: indexes are filled while the old version goes on.",
    "--start": "Start it in a second terminal.",
    "--table": "See `reactor import --help`.",
    "--tail-logs": FOLLOW,
    "--typecheck": PYTHON,
    "--typecheck-components": PYTHON,
    "--until-success": "`until reactor dev --once; do sleep 1; done`",
    "--verbose": "Leave it out: everything there is to say is said.",
    "--yes": "Leave it out: nothing is asked.",
}
"""By flag, for the commands that both have; one that ours has is never looked up."""


def answer_to(args: Sequence[str], ours: Mapping[str, Collection[str]]) -> str | None:
    """Return what to do instead of what was typed, or None when it is nothing official, or ours.

    `ours` has the options of each command of `reactor`, by its whole name.
    """
    words = []
    for arg in args:
        if arg.startswith("-"):
            break
        words.append(arg)
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        if len(words) < length:
            continue
        if name in ours:
            return _flag(name, args[length:], ours[name])
        if name in COMMANDS:
            return f"`convex {name}` has no meaning here. {COMMANDS[name]}"
    return None


def _flag(command: str, args: Sequence[str], options: Collection[str]) -> str | None:
    for arg in args:
        if arg == "--":
            return None
        flag = arg.partition("=")[0]
        if flag in FLAGS and flag not in options:
            return f"`{flag}` has no meaning for `reactor {command}`. {FLAGS[flag]}"
    return None
