"""What `reactor deploy` and a server tell each other, as structs.

Owns the JSON field names of deploys, plans and progress. An answer to a deploy is a stream of `DeployEvent`, one a
line, of which the last one is `done` or `failed`. Used by `server/http/deploys`, `server/deploys` and `cli/deploy`.
"""

from typing import Final, Literal

import msgspec

EVENTS_TYPE: Final = "application/jsonl"


class Deploy(msgspec.Struct, frozen=True, rename="camel"):
    """One deploy that was made. Its project is the archive named by `archive`, the SHA-256 of its bytes.

    `source` is the deploy whose project this is: its own number, unless it was a rollback.
    """

    number: int
    source: int
    archive: str
    bytes: int
    files: int
    deployed_ms: float  # wall clock


class DeployList(msgspec.Struct, frozen=True):
    """The deploys that are kept, newest last; the last one runs, unless the server runs a project of its own."""

    deploys: list[Deploy]
    running: int | None = None
    busy: bool = False  # with another deploy


class Change(msgspec.Struct, frozen=True):
    """Names that come, go, and stay with something else behind them. Each is sorted."""

    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []


class IndexFill(msgspec.Struct, frozen=True):
    """An index to fill. `documents` is None when the table is not in memory, and the index filled when it is."""

    table: str
    name: str
    fields: list[str]
    documents: int | None


class Misfit(msgspec.Struct, frozen=True):
    """A document that does not match the new schema."""

    id: str
    problem: str


class TableCheck(msgspec.Struct, frozen=True):
    """What looking at a table under the new schema found."""

    table: str
    documents: int
    failing: int
    samples: list[Misfit]


class Detached(msgspec.Struct, frozen=True):
    """A table that no function of the new version can reach."""

    table: str
    documents: int


class Plan(msgspec.Struct, frozen=True):
    """What a deploy changes. Tables and indexes of components have the component's path in front."""

    functions: Change
    crons: Change
    components: Change
    added_tables: list[str]
    detached_tables: list[Detached]
    added_indexes: list[IndexFill]
    removed_indexes: list[str]
    checks: list[TableCheck]

    @property
    def failing(self) -> list[TableCheck]:
        """The tables with documents that do not match."""
        return [check for check in self.checks if check.failing]

    @property
    def losses(self) -> list[str]:
        """What nobody could reach any more, in words."""
        return [f"table {gone.table} ({gone.documents} documents)" for gone in self.detached_tables if gone.documents]


class DeployEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the answer.

    `step` says what is being done, and how many documents of how many are; `plan` comes once, before anything changes;
    `done` has the deploy, unless it was a dry run; `failed` has an error's code and message.
    """

    kind: Literal["step", "plan", "done", "failed"]
    step: str = ""
    done: int = 0
    total: int = 0
    plan: Plan | None = None
    deploy: Deploy | None = None
    code: str = ""
    message: str = ""
