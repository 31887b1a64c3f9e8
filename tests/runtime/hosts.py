"""A host on storage that fails on request, with a clock that moves only when told, and the ways to drive it."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.limits import Limits
from reactor.runtime.calls import Call, Failure, Outcome, Refused, Success
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.runtime.push import PushReport
from reactor.runtime.results import QueryResult
from reactor.runtime.rounds import LiveHandle
from reactor.storage.memory import MemoryPersistence
from reactor.values.json import decode_json, encode_json
from reactor.values.stored import normalise
from tests.runtime.projects import write
from tests.storage.faults import FaultyPersistence

HEAD = """\
import asyncio
from reactor.errors import ReactorError
from reactor.runtime.decorators import action, internal_mutation, internal_query, mutation, query
from reactor.schema.definition import define_schema, define_table
from reactor.schema.validators import v
from reactor.values.types import undefined
"""
SCHEMA = (
    HEAD
    + """
schema = define_schema({
    "items": define_table({"name": v.string(), "n": v.optional(v.integer()), "extra": v.optional(v.any())})
        .index("by_name", ["name"])
        .index("by_n", ["n"]),
    "counters": define_table({"value": v.integer()}),
    "others": define_table({"x": v.any()}),
})
"""
)
NO_FUNCTIONS = {"schema.py": SCHEMA, "functions/empty.py": ""}

Form = Callable[[Callable[[Any], Generator[Any, Any, Any]]], Callable[[Any], Any]]


class TestClock:
    """Wall time stands still. Monotonic time moves by `tick` at each look: with one, every slice is used up at once."""

    __test__ = False

    def __init__(self) -> None:
        self.wall = 1_750_000_000_000_000_000
        self.seconds = 0.0
        self.tick = 0.0

    def now_ns(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        self.seconds += self.tick
        return self.seconds

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Never call anybody: a test that waits for a time uses `testing.clock`."""
        return lambda: None


class SeededRng:
    """Chance that repeats."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def project_files(**modules: str) -> dict[str, str]:
    """Return the files of a project with the usual schema and these modules of functions."""
    return {"schema.py": SCHEMA} | {f"functions/{name}.py": HEAD + text for name, text in modules.items()}


def wire(value: object) -> bytes:
    normal = normalise(value)
    return encode_json(normal.value, normal.plain)


def user(name: str) -> Identity:
    return Identity(kind="user", claims={"name": name}, key=f"user {name}")


def value_of(outcome: Outcome) -> Any:
    """Return the value of a success; raise what else it is."""
    if isinstance(outcome, Refused):
        raise outcome.error
    if isinstance(outcome, Failure):
        assert outcome.error is not None
        raise outcome.error
    return decode_json(outcome.value)


@dataclass
class Bench:
    """One open host and its project folder."""

    host: Host
    storage: FaultyPersistence
    clock: TestClock
    root: Path
    projects: list[Project] = field(default_factory=list)

    def load(self, files: dict[str, str]) -> Project:
        project = ProjectLoader(write(self.root, files)).load()
        self.projects.append(project)
        return project

    async def push(self, files: dict[str, str]) -> PushReport:
        return await self.host.push(self.load(files))

    def submit(
        self,
        kind: str,
        path: str,
        args: object = None,
        *,
        identity: Identity = ANONYMOUS,
        session: str | None = None,
        request: int | None = None,
        internal: bool = False,
        component: str = "",
    ) -> asyncio.Future[Outcome]:
        """Submit a call; the future gets its outcome, once."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        call = Call(path, wire(args or {}), identity, "00000000deadbeef", session, request, internal, None, component)
        getattr(self.host.executor, f"submit_{kind}")(call, done.set_result)
        assert not done.done(), "an outcome is never reported from inside submit"
        return done

    async def mutation(self, path: str, **args: object) -> Any:
        return value_of(await self.submit("mutation", path, args))

    async def query(self, path: str, **args: object) -> Any:
        return value_of(await self.submit("query", path, args))

    def start(self, handler: Callable[[Any], Any]) -> asyncio.Future[Outcome]:
        """Submit a handler of the test as a mutation."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.host.executor.submit_handler(handler, Call("run", b"{}", internal=True), done.set_result)
        return done

    async def run(self, handler: Callable[[Any], Any]) -> Any:
        """Run a handler of the test as a mutation."""
        return value_of(await self.start(handler))

    def watch(self, *paths: str, identity: Identity = ANONYMOUS, **args: object) -> "Watcher":
        watcher = Watcher(self.host)
        for path in paths:
            watcher.subscribe(path, args, identity)
        return watcher

    async def settle(self) -> None:
        """Return when every live query is up to date with what is durable now."""
        for _ in range(20):
            probe = Watcher(self.host)
            self.host.live.request_settle(probe)
            await probe.next()
            self.host.live.forget(probe)
            for _ in range(20):
                if self.host.live.is_settled:
                    break
                await asyncio.sleep(0)
            if self.host.live.is_settled:
                return
        raise AssertionError("live queries don't come to rest")


class Watcher:
    """An observer that checks, at each `settled`, what is promised to every observer."""

    def __init__(self, host: Host) -> None:
        self._live = host.live
        self.handles: list[LiveHandle] = []
        self.settled_at: list[int] = []
        self.seen: list[list[QueryResult]] = []
        self._news = asyncio.Event()

    def subscribe(self, path: str, args: object = None, identity: Identity = ANONYMOUS) -> LiveHandle:
        handle = self._live.subscribe(Call(path, wire(args or {}), identity), self)
        self.handles.append(handle)
        return handle

    def unsubscribe(self, handle: LiveHandle) -> None:
        self.handles.remove(handle)
        self._live.unsubscribe(handle)

    def settled(self, ts: int) -> None:
        assert not self.settled_at or ts >= self.settled_at[-1]
        results = [handle.result for handle in self.handles]
        assert all(handle.place.settled_ts == ts for handle in self.handles)
        assert None not in results
        self.settled_at.append(ts)
        self.seen.append([result for result in results if result is not None])
        self._news.set()

    async def next(self) -> list[Any]:
        """Wait until it is settled again; return the values."""
        self._news.clear()
        await self._news.wait()
        return self.values

    @property
    def values(self) -> list[Any]:
        """The present values; of a failure, its text."""
        return [_content(handle.result) for handle in self.handles]

    @property
    def value(self) -> Any:
        (value,) = self.values
        return value


def _content(result: QueryResult | None) -> Any:
    if result is None:
        return None
    if result.error is not None:
        return result.error.detail
    assert result.value is not None
    return decode_json(result.value)


@asynccontextmanager
async def open_bench(
    root: Path,
    files: dict[str, str] | None = None,
    *,
    limits: Limits | None = None,
    storage: FaultyPersistence | None = None,
    redact: bool = False,
    seed: int = 0,
    development: bool = False,
    clock: Any = None,
) -> AsyncIterator[Bench]:
    """Open a host, deploy `files`, and leave nothing of it behind. `clock` is one for time that passes."""
    clock = clock or TestClock()
    limits = limits or Limits()
    if limits.exclusive_run_ms:  # a clock that ticks a second at each look must not end it
        limits = msgspec.structs.replace(limits, exclusive_run_ms=1e12)
    storage = storage or FaultyPersistence(MemoryPersistence())
    host = await Host.open(
        storage,
        clock=clock,
        alarms=clock,
        rng=SeededRng(seed or len(storage.appended)),
        limits=limits,
        redact=redact,
        development=development,
    )
    bench = Bench(host, storage, clock, root)
    try:
        if files is not None:
            await bench.push(files)
        yield bench
    finally:
        storage.release()
        await host.close()
        for project in bench.projects:
            project.release()


def as_coroutine(script: Callable[[Any], Generator[Any, Any, Any]]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """Return a script, which yields calls on `ctx`, as an `async def` handler."""

    async def handler(ctx: Any) -> Any:
        steps = script(ctx)
        try:
            call: Awaitable[Any] = next(steps)
            while True:
                try:
                    result = await call
                except Exception as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(result)
        except StopIteration as stop:
            return stop.value

    return handler


def as_function(script: Callable[[Any], Generator[Any, Any, Any]]) -> Callable[[Any], Any]:
    """Return a script, which yields calls on `ctx`, as a plain `def` handler."""

    def handler(ctx: Any) -> Any:
        steps = script(ctx)
        try:
            result = next(steps)
            while True:
                result = steps.send(result)
        except StopIteration as stop:
            return stop.value

    return handler


def success(outcome: Outcome) -> Success:
    assert isinstance(outcome, Success), outcome
    return outcome


def failure(outcome: Outcome) -> Failure:
    assert isinstance(outcome, Failure), outcome
    return outcome


def refusal(outcome: Outcome) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome
