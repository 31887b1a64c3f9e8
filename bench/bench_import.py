"""Question: what does a large import cost the server and everybody else?

A server process gets a file of JSON lines (200 bytes a row) into a table with two indexes, through the wire, while
two clients send one mutation after the other to another table, each durable before its answer. Measured: how long it
takes, the server's largest resident size above what it is when the rows are all there, and the p99 of the other clients
during the import against idle before it.

Prints JSON. Option: rows, by default 1000000.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.bench_memory import resident
from bench.driver import ROOT

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "rows": define_table({"name": v.string(), "n": v.number(), "text": v.string()})
        .index("by_name", ["name"]).index("by_n", ["n"]),
    "other": define_table({"n": v.number()}),
})
"""
FUNCTIONS = """
from reactor import mutation

@mutation
async def add(ctx, n):
    return await ctx.db.insert("other", {"n": n})
"""
CLIENTS = 2
PAUSE_SECONDS = 0.01  # between two mutations of a client: as people are, not as fast as it goes
IDLE_SECONDS = 5.0


class Target:
    """A server, and its administrator."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(self, place: str, body: bytes) -> Any:
        headers = {"Authorization": f"Convex {self._key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url + place, data=body, headers=headers)
        with self._opener.open(request, timeout=600) as answer:
            content = answer.read()
        return json.loads(content) if content else None


class Clients:
    """Threads that send mutations and note how long each takes."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._is_ending = False
        self.seconds: list[float] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._is_ending:
            began = time.perf_counter()
            answer = self._target.post("/api/mutation", b'{"path": "all:add", "args": {"n": 1}}')
            self.seconds.append(time.perf_counter() - began)
            assert answer["status"] == "success", answer
            time.sleep(PAUSE_SECONDS)

    def end(self) -> list[float]:
        self._is_ending = True
        for thread in self._threads:
            thread.join()
        return sorted(self.seconds)


def p99(seconds: list[float]) -> float:
    return round(seconds[int(len(seconds) * 0.99)] * 1000, 2)


def measure(folder: Path, rows: int) -> dict[str, Any]:
    """Import `rows` rows into a fresh server whose project and data are in `folder`."""
    (folder / "functions").mkdir()
    (folder / "schema.py").write_text(SCHEMA)
    (folder / "functions" / "all.py").write_text(FUNCTIONS)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "INSTANCE_NAME": "bench", "INSTANCE_SECRET": "5a" * 32}
    command = [sys.executable, "-m", "reactor.cli.main"]
    server = subprocess.Popen(
        [*command, "dev", "--port", "0"], cwd=folder, env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        while not (folder / ".reactor" / "dev.json").exists():
            time.sleep(0.05)
        time.sleep(1)
        found = json.loads((folder / ".reactor" / "dev.json").read_text())
        target = Target(found["url"], found["adminKey"])
        process = int(found["pid"])
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        process = int(children[0]) if children else process
        return _import(target, process, rows)
    finally:
        server.terminate()
        server.wait()


def _import(target: Target, process: int, rows: int) -> dict[str, Any]:
    idle_clients = Clients(target)
    time.sleep(IDLE_SECONDS)
    idle = idle_clients.end()
    upload = target.post("/api/import/start_upload", b"")["uploadToken"]
    parts: list[str] = []
    for start in range(0, rows, 20_000):
        lines = [
            f'{{"name": "name {n}", "n": {n * 7919 % 1000003}, "text": "{"x" * 120}"}}\n'
            for n in range(start, min(start + 20_000, rows))
        ]
        place = f"/api/import/upload_part?uploadToken={upload}&partNumber={len(parts) + 1}"
        parts.append(target.post(place, "".join(lines).encode()))
    asked = {"tableName": "rows", "mode": "requireEmpty", "format": "jsonLines"}
    body = json.dumps({"import": asked, "uploadToken": upload, "partTokens": parts}).encode()
    before = resident(process)
    largest = before
    clients = Clients(target)
    began = time.perf_counter()
    import_id = target.post("/api/import/finish_upload", body)["importId"]
    messages: set[str] = set()
    question = json.dumps(
        {"path": "_system/cli/queryImport", "args": {"importId": import_id}, "format": "json"}
    ).encode()
    while True:
        state = target.post("/api/query", question)["value"]["state"]
        largest = max(largest, resident(process))
        if state["state"] == "waiting_for_confirmation":
            target.post("/api/perform_import", json.dumps({"importId": import_id}).encode())
        elif state["state"] == "in_progress":
            messages.add(state["progress_message"])
        elif state["state"] in ("completed", "failed"):
            break
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    busy = clients.end()
    assert state["state"] == "completed", state
    after = resident(process)
    idle_clients = Clients(target)  # again: the machine may be another one than it was at the start
    time.sleep(IDLE_SECONDS)
    idle_after = idle_clients.end()
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "rows_per_second": round(rows / seconds),
        "progress_messages": len(messages),
        "resident_mib": {"before": before >> 20, "largest": largest >> 20, "after": after >> 20},
        "above_the_data_mib": (largest - after) >> 20,
        "p99_ms": {
            "idle": p99(idle),
            "idle_after": p99(idle_after),
            "during": p99(busy),
            "worst": round(busy[-1] * 1000, 1),
        },
        "times_idle": round(p99(busy) / p99(idle), 2),
        "mutations_during": len(busy),
    }


def main() -> None:
    """Run it with the number of rows given."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), rows), indent=1))


if __name__ == "__main__":
    main()
