"""Crons as documents: `_cron_jobs`, and what became of their last runs in `_cron_job_logs`.

Owns the fields of both, what a push does to them, and the step from one occurrence to the next. A cron's `nextTime` is
when its next run is due; while it runs that stays the time it was due at, so that no two runs of one cron overlap.
Used by the crons' runner, and through it by the push.

    _cron_jobs      name component path args schedule offsetMs nextTime prevTime?
                    state {"type": "pending" | "inProgress"}
    _cron_job_logs  name path args ts status logLines {logLines isTruncated} executionTime
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from reactor.engine.catalog import BY_CRON, CRON_JOB_LOGS, CRON_JOBS, document_key
from reactor.engine.database import Database
from reactor.engine.systemdocs import insert_system, put_system, read_system
from reactor.engine.transaction import Transaction
from reactor.limits import MAX_CRON_LOG_CHARACTERS, MAX_CRON_LOGS
from reactor.runtime.jobs.crons import CronSpec, following, needs_minute, next_occurrence
from reactor.values.keys import encode_value_key, prefix_bounds
from reactor.values.stored import decode_object
from reactor.values.types import Int64

log = logging.getLogger(__name__)

RACE_MS: Final = 30_000.0  # a cron that will run again so soon keeps its next time when it is changed
PENDING: Final = {"type": "pending"}

Cron = dict[str, Any]
Draw = Callable[[int], int]  # a random number below its argument


class CronTable:
    """The crons of a deployment."""

    def __init__(self, database: Database, draw: Draw) -> None:
        self._database = database
        self._draw = draw
        self._jobs = database.catalog.by_name[CRON_JOBS]
        self._logs = database.catalog.by_name[CRON_JOB_LOGS]

    def read(self, transaction: Transaction, cron_id: str) -> Cron | None:
        """Return a cron as `transaction` sees it, recorded as read, or None when there is none any more."""
        return read_system(transaction, self._jobs, cron_id)

    def put(self, transaction: Transaction, before: Cron, **fields: Any) -> None:
        """Stage a change of some fields of a cron."""
        put_system(transaction, self._jobs, before, {**before, **fields})

    # What a push does.

    def stage(self, transaction: Transaction, specs: Iterable[CronSpec], now_ms: float) -> None:
        """Stage that these are the crons from now on. One that is declared as before keeps its schedule."""
        database = self._database
        standing: dict[str, Cron] = {str(cron["name"]): dict(cron) for cron in database.system_documents(CRON_JOBS)}
        for spec in specs:
            fields: Cron = {"name": spec.name, "path": spec.path, "args": spec.args, "schedule": spec.schedule}
            fields["component"] = spec.component
            cron = standing.pop(spec.name, None)
            if cron is None:
                offset_ms = self._offset_ms(spec)
                next_ms = self._first_ms(spec, offset_ms, now_ms)
                times = {"offsetMs": offset_ms, "nextTime": next_ms}
                insert_system(database, transaction, self._jobs, {**fields, **times, "state": PENDING})
            elif any(cron.get(name, "") != field for name, field in fields.items()):
                self.put(transaction, cron, **fields, **self._moved(cron, spec, now_ms))
        for cron in standing.values():
            put_system(transaction, self._jobs, cron, None)
            for entry in self._entries(cron["name"]):
                put_system(transaction, self._logs, entry, None)

    def _moved(self, cron: Cron, spec: CronSpec, now_ms: float) -> Cron:
        """Return the new times of a cron that is declared otherwise than before: none if it is about to run."""
        if cron["schedule"] == spec.schedule or cron["state"] != PENDING:
            return {}
        old, due_ms = cron["schedule"], cron["nextTime"]
        after_next_ms, _ = following(old, cron["offsetMs"], due_ms, due_ms)
        if after_next_ms - now_ms <= RACE_MS:
            return {}
        offset_ms = self._offset_ms(spec)
        next_ms = self._first_ms(spec, offset_ms, now_ms)
        if spec.schedule["type"] == "interval" and "prevTime" in cron:
            next_ms = max(now_ms, cron["prevTime"] + float(spec.schedule["seconds"]) * 1000)
        return {"offsetMs": offset_ms, "nextTime": next_ms}

    def _offset_ms(self, spec: CronSpec) -> float:
        """Draw how far the occurrences of a cron are moved: a minute that was left out, or seconds within one."""
        splay = self._database.limits.cron_splay_seconds
        if spec.schedule["type"] == "interval" or not splay:
            return 0.0
        return self._draw(3600 if needs_minute(spec.schedule) else splay) * 1000.0

    @staticmethod
    def _first_ms(spec: CronSpec, offset_ms: float, now_ms: float) -> float:
        if spec.schedule["type"] == "interval":
            return now_ms
        return next_occurrence(spec.schedule, offset_ms, now_ms)

    # What a run does.

    def advance(
        self,
        transaction: Transaction,
        cron: Cron,
        status: dict[str, Any],
        log_lines: tuple[str, ...],
        seconds: float,
        now_ms: float,
    ) -> None:
        """Stage what became of the run of `cron` that was due, and when the next one is."""
        due_ms = cron["nextTime"]
        next_ms, skipped = following(cron["schedule"], cron["offsetMs"], due_ms, now_ms)
        entries = [{"ts": due_ms, "status": status, "logLines": _bounded(log_lines), "executionTime": seconds}]
        if skipped:
            log.error(
                "Skipping %d run(s) of job %s because multiple scheduled runs are in the past", skipped, cron["name"]
            )
            cancelled = {"type": "canceled", "num_canceled": Int64(skipped)}
            entries.append({"ts": now_ms, "status": cancelled, "logLines": _bounded(()), "executionTime": 0.0})
        same = {name: cron[name] for name in ("name", "path", "args")}
        for entry in entries:
            insert_system(self._database, transaction, self._logs, {**same, **entry})
        kept = MAX_CRON_LOGS - len(entries)
        for entry in self._entries(cron["name"])[:-kept]:
            put_system(transaction, self._logs, entry, None)
        self.put(transaction, cron, nextTime=next_ms, prevTime=due_ms, state=PENDING)

    def _entries(self, name: str) -> list[Cron]:
        """Return the log of a cron, oldest first; it changes only together with the cron, which the caller has read."""
        keys = self._logs.indexes[BY_CRON].keys.chunk(*prefix_bounds(encode_value_key(name)), 2 * MAX_CRON_LOGS)
        return [decode_object(self._logs.documents[document_key(key)]) for key in keys]


def success(value: bytes) -> dict[str, Any]:
    """Return the status of a run that has returned `value`, which is wire JSON."""
    return {
        "type": "success",
        "result": value[: 4 * MAX_CRON_LOG_CHARACTERS].decode("utf-8", "replace")[:MAX_CRON_LOG_CHARACTERS],
    }


def failure(text: str) -> dict[str, Any]:
    """Return the status of a run that has failed."""
    return {"type": "err", "error": text[:MAX_CRON_LOG_CHARACTERS]}


def _bounded(lines: tuple[str, ...]) -> dict[str, Any]:
    left = MAX_CRON_LOG_CHARACTERS
    kept: list[str] = []
    for line in lines:
        if left <= 0:
            break
        kept.append(line[:left])
        left -= len(line)
    return {"logLines": kept, "isTruncated": left < 0 or len(kept) < len(lines)}
