"""Processes that die at named places of scheduled functions and crons, and what is found after each.

Arguments: what runs (`mutations`, `actions` or `crons`), how many rounds for each place, a seed, and a folder. Every
round is a process of its own, forked from this one, which has everything imported: it kills itself at the place, at a
random visit. Another one then opens the data, lets everything that is due run, and checks the contract. Prints
`<place>: <rounds>` for each place.
"""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from reactor.engine.catalog import CRON_JOB_LOGS, CRON_JOBS, SCHEDULED_FUNCTIONS
from reactor.limits import Limits
from reactor.runtime.calls import Call, Success
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.server.system import SystemRng
from reactor.storage import failpoints
from reactor.storage.sqlite import SqlitePersistence
from reactor.testing.clock import START, VirtualClock
from reactor.values.json import decode_json
from tests.runtime.hosts import wire
from tests.runtime.projects import write

APPEND = [name for name in failpoints.NAMES if name.startswith("append")]
CLAIM = [name for name in failpoints.RUN_NAMES if name.startswith("claim")]
ACTION = [name for name in failpoints.RUN_NAMES if name.startswith("action")]
PLACES = {
    "mutations": [*CLAIM, "job: before recording", *APPEND],
    "actions": [*ACTION, *APPEND],
    "crons": [*CLAIM, *ACTION, *APPEND],
}
STEPS = 4  # of time, each with work that is due together
JOBS = 3  # in each step
PERIOD = 60  # seconds
TRANSIENT = "Transient error while executing action"

PROJECT = {
    "schema.py": """
from reactor import define_schema, define_table, v
schema = define_schema({"effects": define_table({"name": v.string()}), "marks": define_table({"value": v.integer()})})
""",
    "functions/jobs.py": """
from reactor import ReactorError, action, mutation

@mutation
async def schedule(ctx, step: int, names: list[str], file: str):
    for name in names:
        function = f"jobs:{name.partition('-')[0]}"
        await ctx.scheduler.run_after(1000 * (step + 1), function, name=name, file=file)

@mutation
async def effect(ctx, name: str, file: str = ""):
    await ctx.db.insert("effects", {"name": name})

@mutation
async def fail(ctx, name: str, file: str = ""):
    await ctx.db.insert("effects", {"name": name})
    raise ReactorError("no")

@action
async def act(ctx, name: str, file: str):
    with open(file, "a") as evidence:
        evidence.write(f"{name}\\n")
    await ctx.run_mutation("jobs:effect", name=name)
""",
}
CRONS = """
from reactor import cron_jobs
crons = cron_jobs()
crons.interval("a mutation", "jobs:effect", {"name": "cron"}, seconds=60)
crons.interval("an action", "jobs:act", {"name": "cron action", "file": %r}, seconds=60)
"""


class Round:
    """One deployment's data, and who has opened it so far."""

    def __init__(self, folder: Path, kind: str, project: Project) -> None:
        folder.mkdir(parents=True)
        self.data = folder / "data"
        self.evidence = folder.parent.parent / "evidence"
        self.progress = folder / "progress"
        self.kind = kind
        self.project = project
        self.evidence.write_text("")
        self.progress.write_text("")

    def say(self, text: str) -> None:
        """Note something for the process that comes after this one."""
        with self.progress.open("a") as progress:
            progress.write(f"{text}\n")

    def said(self, word: str) -> list[str]:
        lines = self.progress.read_text().splitlines()
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{word} ")]

    async def open(self, steps: int) -> tuple[Host, VirtualClock]:
        clock = VirtualClock(START + timedelta(seconds=PERIOD * steps))
        host = await Host.open(
            SqlitePersistence(str(self.data)),
            clock=clock,
            alarms=clock,
            rng=SystemRng(),
            limits=Limits(cron_splay_seconds=0),
        )
        await host.push(self.project)
        return host, clock

    async def work(self, place: str, visit: int) -> None:
        """Schedule, and let time pass, until the process dies."""
        arm(place, visit)
        host, clock = await self.open(0)
        for step in range(STEPS):
            if self.kind != "crons":
                kinds = ["effect", "effect", "fail"] if self.kind == "mutations" else ["act"] * JOBS
                names = [f"{kind}-{step}-{number}" for number, kind in enumerate(kinds)]
                for name in names:
                    self.say(f"asked {name}")
                await call(host, "jobs:schedule", step=0, names=names, file=str(self.evidence))
                for name in names:
                    self.say(f"acknowledged {name}")
            await settled(host)
            self.say(f"step {step + 1}")
            clock.advance(seconds=PERIOD)
            await settled(host)

    async def check(self) -> None:
        """Open what a dead process left, let it settle, and compare with what is promised."""
        steps = len(self.said("step"))
        host, _ = await self.open(steps)
        try:
            await settled(host)
            table = host.database.table("effects")
            assert table is not None
            await host.database.loading.load(table)
            effects = Counter(str(row["name"]) for row in documents(host, "effects"))
            ran = Counter(self.evidence.read_text().splitlines())
            jobs = {decode_json(row["args"])["name"]: row["state"] for row in documents(host, SCHEDULED_FUNCTIONS)}
            assert jobs.keys() >= set(self.said("acknowledged"))
            assert jobs.keys() <= set(self.said("asked"))
            due = {name for name in jobs if int(name.split("-")[1]) < steps}
            for name, state in jobs.items():
                self.check_job(name, state, name in due, effects[name], ran[name])
            if self.kind == "crons":
                self.check_crons(host, steps, effects, ran)
        finally:
            await host.close()

    @staticmethod
    def check_job(name: str, state: dict[str, Any], is_due: bool, effects: int, ran: int) -> None:
        found = (name, state, effects, ran)
        if not is_due:
            assert (state, effects, ran) == ({"kind": "pending"}, 0, 0), found
        elif name.startswith("effect"):
            assert (state, effects) == ({"kind": "success"}, 1), found
        elif name.startswith("fail"):
            assert (state["kind"], effects) == ("failed", 0), found
        elif state["kind"] == "success":
            assert (effects, ran) == (1, 1), found
        else:
            assert state == {"kind": "failed", "error": TRANSIENT}, found
            assert effects <= ran <= 1, found

    @staticmethod
    def check_crons(host: Host, steps: int, effects: Counter[str], ran: Counter[str]) -> None:
        occurrences = steps + 1
        assert effects["cron"] == occurrences, (effects, occurrences)
        assert effects["cron action"] <= ran["cron action"] <= occurrences, (effects, ran, occurrences)
        lost = [row for row in documents(host, CRON_JOB_LOGS) if row["status"].get("error") == TRANSIENT]
        assert occurrences - ran["cron action"] <= len(lost) <= 1
        for cron in documents(host, CRON_JOBS):
            assert cron["nextTime"] == START.timestamp() * 1000 + PERIOD * 1000 * occurrences


def documents(host: Host, table: str) -> list[Any]:
    return list(host.database.system_documents(table))


async def settled(host: Host) -> None:
    await host.scheduler.settled()
    await host.crons.settled()


async def call(host: Host, path: str, **args: object) -> None:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    host.executor.submit_mutation(Call(path, wire(args), internal=True), done.set_result)
    outcome = await done
    assert isinstance(outcome, Success), outcome


def arm(place: str, visit: int) -> None:
    left = visit

    def reached(name: str) -> None:
        nonlocal left
        left -= name == place
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.armed = reached


def in_a_process(work: Any) -> int:
    """Run a coroutine function in a process of its own; return how that ended."""
    process = os.fork()
    if not process:
        try:
            asyncio.run(work())
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(kind: str, rounds: str, seed: str, folder: str) -> None:
    chance = random.Random(f"{kind} {seed}")
    root = Path(folder)
    crons = {"functions/crons.py": CRONS % str(root / "evidence")} if kind == "crons" else {}
    project = ProjectLoader(write(root / "project", PROJECT | crons)).load()
    for place in PLACES[kind]:
        for number in range(int(rounds)):
            visit = chance.randint(1, STEPS)
            if place.startswith("append"):
                visit += 3  # those of opening and pushing are another test's
            round_ = Round(root / "rounds" / f"{PLACES[kind].index(place)}-{number}", kind, project)
            ended = in_a_process(partial(round_.work, place, visit))
            assert ended == -signal.SIGKILL, f"never came to {place!r} for the {visit}. time: {ended}"
            assert in_a_process(round_.check) == 0, f"after dying at {place!r} at visit {visit}"
        print(f"{place}: {rounds}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
