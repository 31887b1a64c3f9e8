"""Question: how long until a deployment with a large file answers, and until its large table does?

The file has one table of 1,000,000 documents of 500 bytes with two indexes, and one of 100. Measured in a fresh process
each: from `Deployment.open` to ready, then the first query on the small table, then the first query on the large one,
which has to load it; meanwhile queries on the small table go on, and the slowest of them is reported. The baseline is
what plain sqlite3 needs to read all rows of that file. The file's pages are in the operating system's cache for both.
Prints JSON with the medians. Options: documents rounds, by default 1000000 3.
"""

import asyncio
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.bulk import fill, write_project
from bench.driver import ROOT, report, run
from reactor.server.app import Deployment
from reactor.storage.sqlite import DATABASE_NAME


def resident() -> int:
    """Return the bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def start(project: str, data: str) -> dict[str, float]:
    """Open, ask, close; return what it took."""
    before = resident()
    deployment = Deployment(project, data=data)
    marks = [time.perf_counter()]
    await deployment.open()
    marks.append(time.perf_counter())
    assert await deployment.query("bulk:small") == 100
    marks.append(time.perf_counter())
    small = resident()
    large = asyncio.ensure_future(deployment.query("bulk:large", name="user-000000007"))
    waits: list[float] = []
    while not large.done():
        begin = time.perf_counter()
        await deployment.query("bulk:small")
        waits.append(time.perf_counter() - begin)
        await asyncio.sleep(0.001)
    assert (await large).startswith("group-")
    marks.append(time.perf_counter())
    loaded = resident()
    await deployment.close()
    ordered = sorted(waits)
    return {
        "ready_s": marks[1] - marks[0],
        "first_small_query_s": marks[2] - marks[1],
        "first_large_query_s": marks[3] - marks[2],
        "small_queries_meanwhile": len(waits),
        "small_query_meanwhile_p50_ms": ordered[len(ordered) // 2] * 1e3,
        "small_query_meanwhile_p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
        "small_query_meanwhile_max_ms": ordered[-1] * 1e3,
        "resident_before_large_mib": (small - before) / 2**20,
        "resident_with_large_mib": (loaded - before) / 2**20,
    }


def read_all(data: str) -> dict[str, float]:
    """Return what plain sqlite3 needs for all rows."""
    begin = time.perf_counter()
    connection = sqlite3.connect(Path(data) / DATABASE_NAME)
    rows = connection.execute("SELECT id, ts, value FROM documents").fetchall()
    connection.close()
    return {"seconds": time.perf_counter() - begin, "rows": len(rows)}


def child(*arguments: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "bench.bench_start", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main(count: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="reactor-bench-") as folder:
        root = Path(folder)
        project, data = write_project(root / "project"), root / "data"
        began = time.perf_counter()
        run(fill(project, data, count))
        filled = time.perf_counter() - began
        baselines: list[dict[str, float]] = []
        starts: list[dict[str, float]] = []
        for _ in range(rounds):
            baselines.append(child("read-all", str(data)))
            starts.append(child("start", str(project), str(data)))
        size = (data / DATABASE_NAME).stat().st_size
    middle = {name: median(start[name] for start in starts) for name in starts[0]}
    baseline = median(one["seconds"] for one in baselines)
    return {
        "question": "seconds to ready, and to the first query of a large table / plain sqlite3 reading all rows",
        "documents": count,
        "file_mib": size / 2**20,
        "fill_s": filled,
        "rounds": rounds,
        "ratio_ready": middle["ready_s"] / baseline,
        "ratio_ready_and_small_query": (middle["ready_s"] + middle["first_small_query_s"]) / baseline,
        "ratio_large_query": middle["first_large_query_s"] / baseline,
        "sqlite_read_all_s": baseline,
        **middle,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        print(json.dumps(run(start(sys.argv[2], sys.argv[3]))))
    elif sys.argv[1:2] == ["read-all"]:
        print(json.dumps(read_all(sys.argv[2])))
    else:
        numbers = [int(given) for given in [*sys.argv[1:], *["1000000", "3"][len(sys.argv) - 1 :]]]
        report("start", main(*numbers))
