"""The shim itself: what it takes for lost and what for kept, and which sends it sees."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.shim import environment, restore_synced
from tests.crash.trace import Event, assert_replies_follow_syncs, batches_written, read_trace


def run(library: Path, data_dir: Path, script: str, *arguments: str, trace_file: Path | None = None) -> None:
    data_dir.mkdir(exist_ok=True)
    env = environment(library, data_dir, trace_file)
    subprocess.run([sys.executable, "-c", script, *arguments], env=env, cwd=data_dir, check=True)


def test_only_what_was_synced_is_kept(shim_library: Path, tmp_path: Path) -> None:
    script = """
import os
def opened(name): return os.open(name, os.O_RDWR | os.O_CREAT)
a = opened("a"); os.write(a, b"kept "); os.write(a, b"kept too"); os.fsync(a); os.write(a, b" lost")
b = opened("b"); os.pwrite(b, b"0123456789", 0); os.fdatasync(b); os.ftruncate(b, 3); os.pwrite(b, b"X", 0)
c = opened("c"); os.writev(c, [b"never ", b"synced"])
d = opened("d"); os.pwritev(d, [b"0123", b"4567"], 1); os.ftruncate(d, 5); os.fsync(d); os.close(d)
e = opened("e"); os.write(e, b"gone"); os.fsync(e); os.unlink("e")
f = opened("f"); os.write(f, b"renamed"); os.fsync(f); os.rename("f", "g")
h = opened("h-shm"); os.write(h, b"mapped"); os.fsync(h)
i = opened("i"); os.write(i, b"x"); os.close(i); i = opened("i"); os.fsync(i)
os.kill(os.getpid(), 9)
"""
    data_dir = tmp_path / "data"
    with pytest.raises(subprocess.CalledProcessError):
        run(shim_library, data_dir, script)
    assert (data_dir / "a").read_bytes() == b"kept kept too lost"

    restore_synced(data_dir)

    assert {path.name: path.read_bytes() for path in data_dir.iterdir()} == {
        "a": b"kept kept too",
        "b": b"0123456789",
        "d": b"\x000123",
        "g": b"renamed",
        "i": b"x",
    }


def test_what_was_there_before_is_kept_and_what_another_left_needs_a_sync(shim_library: Path, tmp_path: Path) -> None:
    """Between two processes nothing is synced by itself; the first start finds a disk at rest."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "a").write_bytes(b"old")
    (data_dir / "b").write_bytes(b"old")
    script = """
import os, sys
for name in "ab":
    file = os.open(name, os.O_RDWR | os.O_APPEND)
    os.write(file, sys.argv[1].encode())
    if name in sys.argv[2]:
        os.fsync(file)
"""
    run(shim_library, data_dir, script, " first", "")
    run(shim_library, data_dir, script, " second", "a")

    restore_synced(data_dir)

    assert (data_dir / "a").read_bytes() == b"old first second"
    assert (data_dir / "b").read_bytes() == b"old"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_replies_are_seen_however_they_are_sent(shim_library: Path, tmp_path: Path, loop: str) -> None:
    """A reply that the trace misses is one that is never checked."""
    script = """
import asyncio, socket, sys

async def main():
    received = asyncio.Queue()

    async def serve(reader, writer):
        while line := await reader.readline():
            received.put_nowait(line)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    reply = b'{"type":"MutationResponse","ts":"%s"}\\n'
    writer.write(reply % b"one"); assert b"one" in await received.get()
    writer.writelines([b"x" * 100, reply[:20], reply[20:] % b"two"]); assert b"two" in await received.get()
    writer.write(b"x" * 50_000 + reply % b"three"); assert b"three" in await received.get()
    writer.write(b"nothing\\n"); await received.get()
    writer.close()
    await writer.wait_closed()
    server.close()
    a, b = socket.socketpair()
    a.sendall(reply % b"four")
    a.sendmsg([reply[:20], reply[20:] % b"five"])
    open("file", "wb", buffering=0).write(reply % b"six")

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""
    trace_file = tmp_path / "trace"

    run(shim_library, tmp_path / "data", script, loop, trace_file=trace_file)

    events = read_trace(trace_file)
    assert {event.kind for event in events} == {"R"}
    sent = b"".join(event.payload for event in events)
    for number in (b"one", b"two", b"three", b"four", b"five"):
        assert b'"ts":"' + number in sent
    assert b"six" not in sent
    assert [event.sequence for event in events] == sorted(event.sequence for event in events)


def reply(sequence: int, ts: int) -> Event:
    text = base64.b64encode(ts.to_bytes(8, "little"))
    return Event("R", sequence, 0, b'{"type":"MutationResponse","ts":"' + text + b'"}')


def test_a_trace_without_a_log_allows_no_timestamp() -> None:
    assert assert_replies_follow_syncs([reply(1, 0)]) == 1
    with pytest.raises(AssertionError, match="no batch reaches"):
        assert_replies_follow_syncs([reply(1, 7)])
    assert batches_written([]) == []


def test_a_torn_last_record_is_left_out(tmp_path: Path) -> None:
    whole = b"R" + (1).to_bytes(8, "little") + (3).to_bytes(4, "little") + b"abc"
    (tmp_path / "trace").write_bytes(whole + whole[:-1])

    assert read_trace(tmp_path / "trace") == [Event("R", 1, 0, b"abc")]
