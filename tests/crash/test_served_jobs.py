"""A server under load dies at each named place of what it runs by itself, and comes back: real sockets, real time."""

import asyncio
import http.client
import json
import random
import signal
import sys
import threading
from collections import Counter
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from reactor.engine.catalog import CRON_JOB_LOGS, CRON_JOBS
from reactor.limits import Limits
from reactor.runtime.host import Host
from reactor.server.system import SystemAlarms, SystemClock, SystemRng
from reactor.storage.failpoints import NAMES, RUN_NAMES
from reactor.storage.sqlite import SqlitePersistence
from tests.crash.job_rounds import TRANSIENT, documents
from tests.crash.load import Service
from tests.sizes import size

PLACES = size(
    ["claim: before the commit", "action: marked", "action: ended", "append: after"],
    [*RUN_NAMES, *[name for name in NAMES if name.startswith("append")]],
)
ROUNDS = size(1, 30)  # for each place
SEED = 20261121
CLIENTS = 3
KINDS = ("effect", "act", "fail", "effect")  # of the jobs that one call schedules
VISITS = 25

JOBS = """
import time
from reactor import ReactorError, action, mutation, query

async def insert(ctx, marker):
    await ctx.db.insert("lefts", {"marker": marker})
    await ctx.db.insert("rights", {"marker": marker})

@mutation
async def schedule(ctx, markers: list[str], delays: list[float], file: str):
    for marker, delay in zip(markers, delays):
        await ctx.scheduler.run_after(delay, f"jobs:{marker.rpartition('-')[2]}", marker=marker, file=file)

@mutation
async def effect(ctx, marker: str, file: str = ""):
    await insert(ctx, marker)

@mutation
async def fail(ctx, marker: str, file: str):
    await insert(ctx, marker)
    raise ReactorError("no")

@action
async def act(ctx, marker: str, file: str):
    with open(file, "a") as evidence:
        evidence.write(f"{marker} {time.time()}\\n")
    await ctx.run_mutation("jobs:effect", marker=marker)

@query
async def states(ctx, first: str):
    \"\"\"The states of the jobs from a round on, by marker.\"\"\"
    states = []
    async for job in ctx.db.system.query("_scheduled_functions").order("desc"):
        marker = job["args"][0]["marker"]
        if marker.split("-")[0] < first:
            break
        states.append([marker, job["state"]])
    return states

@query
async def effects(ctx, table: str, prefix: str):
    \"\"\"The markers with a prefix, and when they were written.\"\"\"
    found = ctx.db.query(table).with_index("by_marker", lambda q: q.gte("marker", prefix).lt("marker", prefix + "~"))
    return [[document["marker"], document["_creationTime"]] async for document in found]
"""
CRONS = """
from reactor import cron_jobs
crons = cron_jobs()
crons.interval("a mutation", "jobs:effect", {"marker": "cron"}, seconds=1)
crons.interval("an action", "jobs:act", {"marker": "croned", "file": %r}, seconds=1)
"""


def ask(service: Service, kind: str, path: str, **args: Any) -> Any:
    """Call a function over HTTP.

    Raises:
        OSError, http.client.HTTPException: the server is gone.
    """
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        body = json.dumps({"path": path, "args": args, "format": "json"})
        connection.request("POST", f"/api/{kind}", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert answer["status"] == "success", answer
    return answer["value"]


class Client(threading.Thread):
    """Schedules jobs, one call after the other, until the server is gone."""

    def __init__(self, service: Service, name: str, evidence: Path, chance: random.Random) -> None:
        super().__init__()
        self._service = service
        self._name = name
        self._evidence = str(evidence)
        self._chance = chance
        self.asked: list[list[str]] = []  # the markers of each call
        self.acknowledged = 0  # calls

    def run(self) -> None:
        for number in count():
            markers = [f"{self._name}-{number}-{at}-{kind}" for at, kind in enumerate(KINDS)]
            delays = [float(self._chance.randrange(30)) for _ in markers]
            self.asked.append(markers)
            try:
                ask(self._service, "mutation", "jobs:schedule", markers=markers, delays=delays, file=self._evidence)
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                return
            self.acknowledged += 1


def check(service: Service, prefix: str, clients: list[Client], evidence: Path) -> None:
    """Wait until every job of a round has ended, and compare with what is promised."""
    while True:
        jobs = {marker: state for marker, state in ask(service, "query", "jobs:states", first=prefix)}
        if not any(state["kind"] in ("pending", "inProgress") for state in jobs.values()):
            break
    for client in clients:
        for number, markers in enumerate(client.asked):
            there = jobs.keys() & set(markers)
            assert there == set(markers) or (not there and number >= client.acknowledged), (
                "a call is lost, or half of it"
            )
    assert jobs.keys() <= {marker for client in clients for markers in client.asked for marker in markers}
    written = {
        table: Counter(marker for marker, _ in ask(service, "query", "jobs:effects", table=table, prefix=f"{prefix}-"))
        for table in ("lefts", "rights")
    }
    assert written["lefts"] == written["rights"]
    began = Counter(line.split()[0] for line in evidence.read_text().splitlines())
    for marker, state in jobs.items():
        check_job(marker, state, written["lefts"][marker], began[marker])


def check_job(marker: str, state: dict[str, Any], effects: int, began: int) -> None:
    found = (marker, state, effects, began)
    if marker.endswith("effect"):
        assert (state, effects) == ({"kind": "success"}, 1), found
    elif marker.endswith("fail"):
        assert (state["kind"], effects) == ("failed", 0), found
    elif state["kind"] == "success":
        assert (effects, began) == (1, 1), found
    else:
        assert state == {"kind": "failed", "error": TRANSIENT}, found
        assert effects <= began <= 1, found


async def check_crons(data: Path, lines: list[str]) -> None:
    """Compare the data of a dead server with what is promised of crons: each occurrence ran once, and its log says so.

    What ran for an occurrence ran after it and before the next one, since that is set when the run has ended.
    """
    host = await Host.open(
        SqlitePersistence(str(data)), clock=SystemClock(), alarms=SystemAlarms(), rng=SystemRng(), limits=Limits()
    )
    try:
        table = host.database.table("lefts")
        assert table is not None
        await host.database.loading.load(table)
        written = [row["_creationTime"] for row in documents(host, "lefts") if row["marker"] == "cron"]
        began = [float(line.split()[1]) * 1000 for line in lines if line.startswith("croned ")]
        for cron in documents(host, CRON_JOBS):
            log = sorted(
                (entry["ts"], entry["status"]["type"] == "success")
                for entry in documents(host, CRON_JOB_LOGS)
                if entry["name"] == cron["name"] and entry["status"]["type"] != "canceled"
            )
            is_action = cron["name"] == "an action"
            times = began if is_action else written
            for (since, is_success), (until, _) in pairwise([*log, (cron["nextTime"], False)]):
                ran = sum(since <= time < until for time in times)
                assert ran == 1 if is_success else is_action and ran <= 1, (cron["name"], since, until, ran)
            assert sum(cron["nextTime"] <= time for time in times) <= is_action, "it ran, and its document denies it"
    finally:
        await host.close()


@pytest.mark.timeout(size(60, 1800))
def test_a_server_dies_at_each_named_place_under_load(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    service = Service(tmp_path, [sys.executable, "-m", "tests.crash.serve_dying"])
    evidence, order = tmp_path / "evidence", tmp_path / "order"
    evidence.touch()
    (service.project / "functions/jobs.py").write_text(JOBS)
    (service.project / "functions/crons.py").write_text(CRONS % str(evidence))
    places = [place for place in PLACES for _ in range(ROUNDS)]
    chance.shuffle(places)
    clients: list[Client] = []
    try:
        for number, place in enumerate([*places, ""]):
            service.start({"REACTOR_DIE_BY": str(order)})
            check(service, f"{number - 1:04}", clients, evidence)
            if not place:
                break
            clients = [
                Client(service, f"{number:04}-{name}", evidence, random.Random(chance.random()))
                for name in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            (tmp_path / "new").write_text(f"{place}\n{chance.randint(1, VISITS)}")
            (tmp_path / "new").rename(order)
            for client in clients:
                client.join()
            assert service.server.finish() == -signal.SIGKILL, f"it never came to {place!r}"
            service.close()
            order.unlink()
            asyncio.run(check_crons(service.data, evidence.read_text().splitlines()))
    finally:
        service.close()
