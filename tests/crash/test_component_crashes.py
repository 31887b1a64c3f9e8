"""A server whose components are at work is killed again and again; what they promise holds in the process after it.

The kills are real, and so is the load; the last process has a clock of the test, because a pool asks only after minutes
what became of an action that died with its process.
"""

import asyncio
import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from reactor.server.app import Deployment
from reactor.testing.clock import VirtualClock
from tests.servers import Server, free_port, running, start_serve
from tests.sizes import size

ROUNDS = size(1, 30)
SEED = 20261121
CLIENTS = 2
MOST = 3  # jobs of the pool at a time
ENOUGH = size(8, 40)  # acknowledged calls before a kill
STEPS = 48  # of ten seconds, until every lost action was asked for and tried again
JOBS = ("act", "effect")

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "calls": define_table({"marker": v.string()}),
    "effects": define_table({"name": v.string()}),
    "ends": define_table({"name": v.string(), "kind": v.string()}),
})
"""
APP = """
from reactor import define_app
from reactor.components import aggregate, presence, rate_limiter, sharded_counter, workpool

app = define_app()
for component in (aggregate, presence, rate_limiter, sharded_counter, workpool):
    app.use(component)
app.use(aggregate, name="queued")
"""
WORK = """
import asyncio
import os

from reactor import components, internal, internal_action, internal_mutation, mutation, query
from reactor.components.aggregate import DirectAggregate
from reactor.components.presence import Presence
from reactor.components.rate_limiter import RateLimiter, TokenBucket
from reactor.components.sharded_counter import ShardedCounter
from reactor.components.workpool import RetryBehavior, Workpool, on_complete_args

pool = Workpool(components.workpool, max_parallelism=%(most)d)
aggregate, queued = DirectAggregate(components.aggregate), DirectAggregate(components.queued)
limiter = RateLimiter(components.rate_limiter, {
    "now": TokenBucket(1, 1e300, 1e6), "later": TokenBucket(1, 1e300, 1e6, apply_updates="asynchronously")
})
counter, presence = ShardedCounter(components.sharded_counter), Presence(components.presence)

@mutation
async def call(ctx, marker: str, number: int):
    await ctx.db.insert("calls", {"marker": marker})
    done = {"on_complete": internal.work.done}
    retry = RetryBehavior(max_attempts=50)
    name = {"name": f"{marker} act"}
    await pool.enqueue_action(ctx, internal.work.act, name, **done, context=name["name"], retry=retry)
    name = {"name": f"{marker} effect"}
    await pool.enqueue_mutation(ctx, internal.work.effect, name, **done, context=name["name"])
    await aggregate.insert(ctx, key=number %% 7, id=marker, sum_value=number)
    await queued.insert(ctx, key=number %% 7, id=marker, sum_value=number, later=True)
    await limiter.limit(ctx, "now")
    await limiter.limit(ctx, "later")
    await counter.inc(ctx, "calls")
    await presence.heartbeat(ctx, "room", marker, marker, 100)

@internal_action
async def act(ctx, name: str):
    evidence = os.open(%(evidence)r, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(evidence, f"{os.getpid()} 1\\n".encode())
    await asyncio.sleep(0.005)
    await ctx.run_mutation(internal.work.effect, name=name)
    os.write(evidence, f"{os.getpid()} -1\\n".encode())
    os.close(evidence)

@internal_mutation
async def effect(ctx, name: str):
    await ctx.db.insert("effects", {"name": name})

@internal_mutation(args=on_complete_args())
async def done(ctx, workId, result, context=None):
    await ctx.db.insert("ends", {"name": context, "kind": result["kind"]})

@query
async def found(ctx, table: str):
    return await ctx.db.query(table).collect()

@query
async def totals(ctx):
    taken = [1e6 - (await limiter.get_value(ctx, name)).value for name in ("now", "later")]
    trees = [(await tree.validate(ctx)).count for tree in (aggregate, queued)]
    online = await presence.list_room(ctx, "room", online_only=True)
    return [*taken, *trees, await counter.count(ctx, "calls"), await queued.count_pending(ctx), len(online)]
"""


class Client(threading.Thread):
    """Calls until the server is gone."""

    def __init__(self, port: int, name: str, enough: threading.Semaphore) -> None:
        super().__init__()
        self._port, self._name, self._enough = port, name, enough
        self.acknowledged: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        for number in count():
            marker = f"{self._name}-{number}"
            body = {"path": "work:call", "args": {"marker": marker, "number": number}, "format": "json"}
            try:
                connection.request("POST", "/api/mutation", json.dumps(body), {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                break
            assert answer["status"] == "success", answer
            self.acknowledged.append(marker)
            self._enough.release()
        connection.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "functions").mkdir(parents=True)
    (folder / "schema.py").write_text(SCHEMA)
    (folder / "functions" / "app.py").write_text(APP)
    settings = {"most": MOST, "evidence": str(tmp_path / "evidence")}
    (folder / "functions" / "work.py").write_text(WORK % settings)
    return folder


def killed_rounds(project: Path, data: Path) -> Iterator[list[str]]:
    """Serve under load and kill, again and again; give the acknowledged calls of each round."""
    port, chance = free_port(), random.Random(SEED)
    for number in range(ROUNDS):
        server: Server = start_serve(project, "--data", data, port=port, kill_after=120)
        with running(server):
            enough = threading.Semaphore(0)
            clients = [Client(port, f"{number}-{name}", enough) for name in range(CLIENTS)]
            for client in clients:
                client.start()
            for _ in range(ENOUGH + chance.randrange(ENOUGH)):
                assert enough.acquire(timeout=60)
            server.process.kill()
            for client in clients:
                client.join()
        yield [marker for client in clients for marker in client.acknowledged]


def most_at_a_time(evidence: Path) -> int:
    """Return how many actions of the pool ran at a time in any one process."""
    now, most = Counter[str](), 0
    for line in evidence.read_text().splitlines():
        process, change = line.split()
        now[process] += int(change)
        most = max(most, now[process])
    return most


@pytest.mark.asyncio
@pytest.mark.timeout(size(60, 1200))
async def test_components_keep_their_promises_when_the_server_is_killed(project: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    rounds = await asyncio.to_thread(lambda: list(killed_rounds(project, data)))
    acknowledged = {marker for markers in rounds for marker in markers}
    clock = VirtualClock(datetime.now(UTC))
    async with Deployment(project, data=data, clock=clock, alarms=clock) as deployment:
        assert deployment._host is not None

        async def names(table: str, field: str = "name") -> list[str]:
            return [row[field] for row in await deployment.query("work:found", {"table": table})]  # type: ignore

        calls = await names("calls", "marker")
        expected = {f"{marker} {job}" for marker in calls for job in JOBS}
        for _ in range(STEPS):
            await deployment._host.scheduler.settled()
            clock.advance(seconds=10)
        await deployment._host.scheduler.settled()
        assert acknowledged <= set(calls)
        assert len(calls) == len(set(calls)) <= len(acknowledged) + CLIENTS * ROUNDS
        assert sorted(await names("ends")) == sorted(expected), "each job ends, and once"
        assert set(await names("ends", "kind")) == {"success"}
        effects = Counter(await names("effects"))
        assert effects.keys() == expected
        assert all(effects[f"{marker} effect"] == 1 for marker in calls)
        assert await deployment.query("work:totals") == [len(calls)] * 5 + [0, 0]
    assert 1 <= most_at_a_time(tmp_path / "evidence") <= MOST
