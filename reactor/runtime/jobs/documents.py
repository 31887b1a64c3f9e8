"""Scheduled functions as documents: what stands in `_scheduled_functions`.

Owns the fields of such a document and its states. A job is *unfinished* while it has a `nextTime`, the time from which
on it should run; the index over that field is the queue of the scheduler. `args` is the arguments object as wire JSON,
as it will be given to the function. Used by `ctx.scheduler` and the scheduler.

    name            "messages.js:send", as applications see it
    scheduledTime   what was asked for, in milliseconds since the Unix epoch
    completedTime   when it ended; absent before
    state           {"kind": "pending" | "inProgress" | "success" | "canceled"}, {"kind": "failed", "error": text}
    nextTime        private
    failures        private: how often the system, not the function, has failed in a row; absent for none
    component       private: the instance whose function it is; absent for the application itself
"""

from typing import Any, Final

from reactor.engine.catalog import SCHEDULED_FUNCTIONS, Table
from reactor.engine.database import Database
from reactor.engine.systemdocs import insert_system, put_system, read_system
from reactor.engine.transaction import Transaction
from reactor.limits import MAX_SCHEDULED_ERROR_CHARACTERS
from reactor.values.ids import table_of
from reactor.values.json import decode_json

TRANSIENT: Final = "Transient error while executing action"

_PUBLIC: Final[tuple[str, ...]] = ("_creationTime", "_id", "args", "completedTime", "name", "scheduledTime", "state")

Job = dict[str, Any]


def job_table(database: Database, component: str) -> Table:
    """Return the table of the functions that a component instance, or the application (""), has scheduled."""
    return database.catalog.namespace(component).by_name[SCHEDULED_FUNCTIONS]


def table_with(transaction: Transaction, job_id: str) -> Table:
    """Return the table that a job is in; whose job it is, is in its id."""
    return transaction.catalog.by_number[table_of(job_id)]


def read_job(transaction: Transaction, job_id: str) -> Job | None:
    """Return a job as `transaction` sees it, recorded as read, or None when there is none."""
    return read_system(transaction, table_with(transaction, job_id), job_id)


def public_job(document: Job) -> Job:
    """Return what applications see of a job."""
    shown: Job = {field: document[field] for field in _PUBLIC if field in document}
    shown["args"] = [decode_json(document["args"])]
    return shown


def insert_job(
    database: Database,
    transaction: Transaction,
    table: Table,
    *,
    name: str,
    args: bytes,
    scheduled_ms: float,
    now_ms: float,
    component: str,
    is_cancelled: bool,
) -> str:
    """Stage a new job, pending or cancelled from the start; return its id."""
    job: Job = {"name": name, "args": args, "scheduledTime": scheduled_ms}
    if component:
        job["component"] = component
    if is_cancelled:
        job |= {"state": {"kind": "canceled"}, "completedTime": now_ms}
    else:
        job |= {"state": {"kind": "pending"}, "nextTime": max(scheduled_ms, now_ms)}
    return insert_system(database, transaction, table, job)


def put_job(transaction: Transaction, before: Job, **fields: Any) -> None:
    """Stage a change of some fields of a job."""
    put_system(transaction, table_with(transaction, before["_id"]), before, {**before, **fields})


def end_job(transaction: Transaction, before: Job, kind: str, now_ms: float, error: str | None = None) -> None:
    """Stage the end of a job."""
    state = {"kind": kind} if error is None else {"kind": kind, "error": error[:MAX_SCHEDULED_ERROR_CHARACTERS]}
    after = {name: field for name, field in before.items() if name not in ("nextTime", "failures")}
    after |= {"state": state, "completedTime": now_ms}
    put_system(transaction, table_with(transaction, before["_id"]), before, after)


def is_unfinished(job: Job) -> bool:
    """Whether a job is still to run, or runs."""
    return "nextTime" in job
