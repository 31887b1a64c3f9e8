"""What no file has is deleted, after a while and never before, whatever happened to the upload or to the process."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reactor.errors import OutcomeUnknown, StorageError
from reactor.limits import Limits
from reactor.runtime.calls import Call, Outcome
from reactor.runtime.files.documents import Incoming
from reactor.runtime.files.storage import add_file
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.storage.blobs_local import LocalBlobs
from reactor.storage.memory import MemoryPersistence
from reactor.testing.clock import VirtualClock
from tests.runtime.hosts import NO_FUNCTIONS, SeededRng, value_of
from tests.runtime.projects import write
from tests.storage.faults import Fault, FaultyPersistence

pytestmark = pytest.mark.asyncio
GRACE, SWEEP = 100.0, 1000.0


class Bench:
    """A host with files in a folder, and a clock that a test moves."""

    def __init__(self, host: Host, storage: FaultyPersistence, clock: VirtualClock, folder: Path) -> None:
        self.host, self.storage, self.clock = host, storage, clock
        self._folder = folder

    @property
    def kept(self) -> set[str]:
        """The keys of all content there is, unfinished one too."""
        return {name for _, _, names in os.walk(self._folder / "storage") for name in names}

    def run(self, handler: Callable[[Any], Any]) -> "asyncio.Future[Outcome]":
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def awaited(ctx: Any) -> Any:
            result = handler(ctx)
            return await result if asyncio.iscoroutine(result) or hasattr(result, "__await__") else result

        self.host.executor.submit_handler(awaited, Call("run", b"{}", internal=True), done.set_result)
        return done

    async def store(self, data: bytes = b"hello") -> str:
        async def parts() -> AsyncIterator[bytes]:
            yield data

        async def insert(incoming: Incoming) -> str:
            return str(value_of(await self.run(lambda ctx: add_file(ctx, incoming))))

        return await self.host.files.store(parts(), None, insert)

    async def delete(self, stored_id: str) -> None:
        value_of(await self.run(lambda ctx: ctx.storage.delete(stored_id)))

    async def pass_time(self, seconds: float) -> None:
        """Move the clock, and return when the collector has done what is due."""
        self.clock.advance(seconds=seconds)
        await self.at_rest()

    async def at_rest(self) -> None:
        collector: Any = self.host.services[0]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await collector._running.none()


@asynccontextmanager
async def opened(folder: Path, storage: FaultyPersistence | None = None, **limits: float) -> AsyncIterator[Bench]:
    project: Project = ProjectLoader(write(folder / "app", NO_FUNCTIONS)).load()
    clock = VirtualClock()
    storage = storage or FaultyPersistence(MemoryPersistence())
    host = await Host.open(
        storage,
        clock=clock,
        alarms=clock,
        rng=SeededRng(len(storage.appended) + 1),
        limits=msgspec.structs.replace(Limits(file_grace_seconds=GRACE, file_sweep_seconds=SWEEP), **limits),
        blobs=LocalBlobs(folder),
    )
    try:
        await host.push(project)
        bench = Bench(host, storage, clock, folder)
        await bench.at_rest()
        yield bench
    finally:
        storage.release()
        await host.close()
        project.release()


def age(folder: Path, clock: VirtualClock) -> None:
    """Let what is in the folder be as old as the beginning of virtual time."""
    for at, _, names in os.walk(folder / "storage"):
        for name in names:
            os.utime(Path(at, name), ns=(clock.now_ns(), clock.now_ns()))


async def test_content_goes_a_while_after_its_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        first, second = await bench.store(b"first"), await bench.store(b"second")
        both = bench.kept
        await bench.delete(first)
        await bench.pass_time(GRACE - 1)
        assert bench.kept == both
        await bench.delete(second)
        await bench.pass_time(1)
        assert len(bench.kept) == 1
        await bench.pass_time(GRACE - 2)
        assert len(bench.kept) == 1
        await bench.pass_time(1)
        assert bench.kept == set()


async def test_a_deletion_searches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as bench:
        stored_id = await bench.store()

        def searched() -> None:
            raise AssertionError("the folder is searched")

        monkeypatch.setattr(bench.host.files.blobs, "list", searched)
        await bench.delete(stored_id)
        await bench.pass_time(GRACE)
        assert bench.kept == set()


async def test_content_stays_until_its_deletion_is_durable(tmp_path: Path) -> None:
    """Else a crash would bring back a file without its content."""
    async with opened(tmp_path) as bench:
        stored_id = await bench.store()
        (key,) = bench.kept
        bench.storage.hold()
        deleting = bench.run(lambda ctx: ctx.storage.delete(stored_id))
        await bench.storage.held()
        await bench.pass_time(GRACE)
        assert bench.host.files.exists(key)
        assert bench.kept == {key}
        bench.storage.release()
        value_of(await deleting)
        await bench.pass_time(GRACE)
        assert bench.kept == set()


async def test_a_deletion_that_is_undone_keeps_the_content(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        stored_id = await bench.store()
        kept = bench.kept
        bench.storage.faults.append(Fault.UNKNOWN_LOST)
        with pytest.raises((OutcomeUnknown, StorageError)):
            await bench.delete(stored_id)
        await bench.delete(await bench.store(b"other"))
        await bench.pass_time(10 * GRACE)
        assert bench.kept == kept
        assert value_of(await bench.run(lambda ctx: ctx.storage.get_url(stored_id))) is not None


async def test_an_upload_under_way_is_not_touched(tmp_path: Path) -> None:
    async with opened(tmp_path, file_grace_seconds=0.0) as bench:
        files = bench.host.files
        may_go_on, stages = asyncio.Event(), asyncio.Queue[str]()

        async def parts() -> AsyncIterator[bytes]:
            yield b"x" * 1_000_000
            await stages.put("writing")
            await may_go_on.wait()

        async def insert(incoming: Incoming) -> str:
            may_go_on.clear()
            await stages.put("written")
            await may_go_on.wait()
            return str(value_of(await bench.run(lambda ctx: add_file(ctx, incoming))))

        storing = asyncio.ensure_future(files.store(parts(), None, insert))
        for stage in ("writing", "written"):
            assert await stages.get() == stage
            for key in bench.kept:
                for hear in files.on_doubtful:
                    hear(key)
            await bench.pass_time(SWEEP)
            assert len(bench.kept) == 1
            may_go_on.set()
        await storing
        await bench.pass_time(SWEEP)
        assert len(bench.kept) == 1
        assert files.arriving == set()


@pytest.mark.parametrize("is_committed", [True, False])
async def test_content_of_which_nobody_knows_whether_it_has_a_document(tmp_path: Path, is_committed: bool) -> None:
    async with opened(tmp_path) as bench:

        async def parts() -> AsyncIterator[bytes]:
            yield b"x"

        async def insert(incoming: Incoming) -> str:
            if is_committed:
                value_of(await bench.run(lambda ctx: add_file(ctx, incoming)))
            raise OutcomeUnknown("who knows")

        with pytest.raises(OutcomeUnknown):
            await bench.host.files.store(parts(), None, insert)
        assert len(bench.kept) == 1
        assert bench.host.files.arriving == set()
        await asyncio.sleep(0)
        await bench.pass_time(GRACE)
        assert len(bench.kept) == is_committed


async def test_what_an_earlier_process_left_behind_is_found_at_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        stored_id = await bench.store(b"stays")
        kept = bench.kept
        blobs = bench.host.files.blobs
        for number in range(250):
            writer = blobs.write(f"{number:032x}")
            writer.finish()
        blobs.write("a" * 32).abort()
        storage = bench.storage
    assert len(Bench(bench.host, storage, bench.clock, tmp_path).kept) == 251

    async with opened(tmp_path, storage) as bench:  # of today, by the clock of the disk: too young
        assert len(bench.kept) == 251
        age(tmp_path, bench.clock)
        await bench.pass_time(SWEEP)
        assert bench.kept == kept
        assert value_of(await bench.run(lambda ctx: ctx.storage.get_url(stored_id))) is not None
        age(tmp_path, bench.clock)

    async with opened(tmp_path, storage, file_grace_seconds=0.0) as bench:
        assert bench.kept == kept


async def test_a_disk_that_fails_is_tried_again_by_the_next_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as bench:
        stored_id = await bench.store()

        def failing(*args: object) -> None:
            raise StorageError("no disk")

        with monkeypatch.context() as patch:
            patch.setattr(bench.host.files.blobs, "delete", failing)
            await bench.delete(stored_id)
            await bench.pass_time(GRACE)
            patch.setattr(bench.host.files.blobs, "list", failing)
            await bench.pass_time(SWEEP)
        assert len(bench.kept) == 1
        warned = [record for record in caplog.records if record.name == "reactor.runtime.files.collector"]
        assert [record.getMessage() for record in warned] == [
            "content of deleted files is left until the next search: no disk",
            "the search for content that no file has was given up: no disk",
        ]
        age(tmp_path, bench.clock)
        await bench.pass_time(SWEEP)
        assert bench.kept == set()


async def test_stopping_leaves_nothing_running(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        await bench.delete(await bench.store())
        clock = bench.clock
    clock.advance(seconds=10 * SWEEP)
    await asyncio.sleep(0)
    assert clock.next_alarm_ns is None
    assert len(bench.kept) == 1
