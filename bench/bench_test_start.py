"""Question: what does a fresh deployment cost a test, as a ratio to a bare in-memory SQLite database?

The project is imported once, as the pytest fixture does it; then each sample opens a deployment in memory, runs one
mutation and one query, and closes it. The baseline does the same without us: open `:memory:`, create the project's
tables and indexes, insert a row in a transaction, read it through an index, close. Both run in turn, on one event loop.
Prints JSON with the medians. Options: samples, by default 200.
"""

import asyncio
import sqlite3
import sys
import time
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

from bench.driver import ROOT, report, run
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment

FOLDER = ROOT / "bench" / "project"
PHASES = ("open", "mutation", "query", "close")

SQL = (
    "CREATE TABLE accounts (_id TEXT PRIMARY KEY, _creationTime REAL, name TEXT, balance REAL)",
    "CREATE INDEX accounts_by_creation_time ON accounts (_creationTime)",
    "CREATE INDEX accounts_by_name ON accounts (name, _creationTime)",
    "CREATE TABLE messages (_id TEXT PRIMARY KEY, _creationTime REAL, channel TEXT, body TEXT, number REAL)",
    "CREATE INDEX messages_by_creation_time ON messages (_creationTime)",
    "CREATE INDEX messages_by_channel ON messages (channel, _creationTime)",
)


async def fresh(project: Project) -> list[float]:
    """Return the seconds of each phase of one deployment's life."""
    deployment = MemoryDeployment(project, FOLDER)
    marks = [time.perf_counter()]
    await deployment.open()
    marks.append(time.perf_counter())
    await deployment.mutation("chat:send", channel="c", number=1)
    marks.append(time.perf_counter())
    assert await deployment.query("chat:latest", channel="c") == 1
    marks.append(time.perf_counter())
    await deployment.close()
    marks.append(time.perf_counter())
    return [after - before for before, after in pairwise(marks)]


def bare(statements: tuple[str, ...]) -> float:
    """Return the seconds of the same in SQLite, with the tables and indexes that `statements` make."""
    begin = time.perf_counter()
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for sql in statements:
        connection.execute(sql)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", ("id", 1.0, "c", "hello", 1.0))
    connection.execute("COMMIT")
    rows = connection.execute(
        "SELECT number FROM messages WHERE channel = ? ORDER BY _creationTime DESC LIMIT 1", ("c",)
    ).fetchall()
    connection.close()
    assert rows == [(1.0,)]
    return time.perf_counter() - begin


async def main(samples: int) -> dict[str, Any]:
    project = await asyncio.to_thread(ProjectLoader(FOLDER).load)
    for _ in range(20):  # warm-up
        await fresh(project)
        bare(SQL)
    phases: list[list[float]] = []
    baseline: list[float] = []
    one_table: list[float] = []
    for _ in range(samples):
        phases.append(await fresh(project))
        baseline.append(bare(SQL))
        one_table.append(bare(SQL[3:4]))
    project.release()
    totals = [sum(sample) for sample in phases]
    return {
        "question": "a fresh in-memory deployment, one mutation, one query / the same in sqlite3 :memory:",
        "samples": samples,
        "ratio": median(totals) / median(baseline),
        "ratio_to_one_table_without_index": median(totals) / median(one_table),
        "deployment_ms": median(totals) * 1e3,
        "deployment_p95_ms": quantiles(totals, n=20)[-1] * 1e3,
        "sqlite_ms": median(baseline) * 1e3,
        "sqlite_one_table_ms": median(one_table) * 1e3,
        "phases_ms": {phase: median(sample[at] for sample in phases) * 1e3 for at, phase in enumerate(PHASES)},
    }


if __name__ == "__main__":
    report("test_start", run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)))
