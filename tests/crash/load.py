"""Official clients under load while their server dies and comes back, and the law checked on what is left.

The server is `reactor serve` on one port and one data directory. Each mutation writes one marker to two tables, so that
a lost one, a doubled one and half of one can all be told.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reactor.client import BlockingClient
from tests.servers import REACTOR, Program, Server, copy_fixture, free_port, javascript, start_serve

CLIENTS, WORKERS = 2, 4
PAGE = 4000  # markers per query
ROUND_SECONDS = 25.0  # at most: official clients wait up to 16 s before they try again


class Service:
    """A server that is started again and again on the same port and data."""

    def __init__(self, folder: Path, program: Sequence[str | Path] = REACTOR) -> None:
        self.project = copy_fixture(folder / "app")
        self.data = folder / "data"
        self.data.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._program = program
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def start(self, env: Mapping[str, str] | None = None) -> None:
        """Start the server and wait until it is ready."""
        assert self._server is None or self._server.process.poll() is not None
        self._server = start_serve(
            self.project, "--data", self.data, port=self.port, env=env, program=self._program, kill_after=900
        )

    def kill(self) -> None:
        """Kill the server with SIGKILL, which it can't see coming."""
        self.server.process.kill()
        self.server.finish()
        self.server.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


@contextmanager
def serving(service: Service, env: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Run `service` for the length of the block."""
    try:
        service.start(env)
        yield service
    finally:
        service.close()


class Load:
    """A process with official JavaScript clients that write marker after marker."""

    def __init__(self, url: str, rounds: int) -> None:
        kill_after = max(50.0, rounds * ROUND_SECONDS)
        self.program = javascript("js_pairs", url, str(CLIENTS), str(WORKERS), kill_after=kill_after)

    def acknowledged(self) -> list[str]:
        """Return the markers whose mutations have been acknowledged so far."""
        return [found[1] for found in map(_ACKNOWLEDGED.match, list(self.program.out)) if found]

    def wait_for_more(self, count: int) -> None:
        """Wait until each client has got `count` more mutations acknowledged."""
        start = len(self.program.out)

        def is_enough(program: Program) -> bool:
            more = Counter(found[2] for found in map(_ACKNOWLEDGED.match, program.out[start:]) if found)
            return len(more) == CLIENTS and min(more.values()) >= count

        self.program.wait_for(is_enough, f"{count} more acknowledged mutations of each client")

    def finish(self) -> list[int]:
        """Let what is under way finish, and return how many markers each client sent."""
        self.program.process.terminate()
        assert self.program.finish() == 0, self.program.transcript()[-5000:]
        sent: list[int] = json.loads(self.program.out[-1])["sent"]
        return sent

    def seen(self) -> dict[str, list[tuple[int, int]]]:
        """Return what the live query of each client has shown: its result and how often the client had connected."""
        seen: dict[str, list[tuple[int, int]]] = {}
        for line in list(self.program.out):
            if '"total"' in line:
                result = json.loads(line)
                seen.setdefault(result["name"], []).append((result["total"], result["connections"]))
        return seen


_ACKNOWLEDGED = re.compile(r'\{"acknowledged":"((.*)-.*)"\}')


def stored(url: str) -> dict[str, Counter[str]]:
    """Return, for both tables, the markers that are there and how often."""
    found = {"lefts": Counter[str](), "rights": Counter[str]()}
    with BlockingClient(url) as client:
        for table, counts in found.items():
            after = ""
            while page := client.query("pairs:markers", {"table": table, "after": after, "limit": PAGE}, timeout=30):
                assert isinstance(page, list)
                counts.update(page)
                after = page[-1]
    return found


def check_kept(url: str, acknowledged: Sequence[str]) -> None:
    """Check that everything acknowledged is there and nothing is doubled; more may be coming in.

    Raises:
        AssertionError: it is not.
    """
    for table, counts in stored(url).items():
        lost = set(acknowledged) - counts.keys()
        assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged mutations are lost from {table}"
        doubled = [marker for marker, count in counts.items() if count > 1]
        assert not doubled, f"applied more than once: {doubled}"


def check_end(load: Load, url: str) -> int:
    """Let the clients finish, and check that each of their mutations happened once and wholly; return how many."""
    markers = {f"client{client}-{at}" for client, sent in enumerate(load.finish()) for at in range(sent)}
    acknowledged = load.acknowledged()
    assert len(acknowledged) == len(markers)
    assert set(acknowledged) == markers
    found = stored(url)
    assert found["lefts"] == found["rights"] == Counter(markers)
    return len(markers)
