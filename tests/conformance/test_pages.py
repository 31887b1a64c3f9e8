"""Paginated queries as live lists, with every client that has them, against a real server process."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from reactor.client import BlockingClient, Client
from reactor.client.pagination import PaginatedResult, PaginatedSubscription, PaginationStatus
from tests.servers import Program, Server, copy_fixture, free_port, javascript, output, running, start_dev, start_serve

CAN_LOAD_MORE, EXHAUSTED = PaginationStatus.CAN_LOAD_MORE, PaginationStatus.EXHAUSTED


def test_javascript(tmp_path: Path) -> None:
    server = start_dev(copy_fixture(tmp_path / "app"), "--data", ":memory:")
    with running(server):
        steps = output(javascript("js_pages", server.url))

    assert steps == [
        ["first page", [0, 10, 20]],
        ["all", [0, 10, 20, 30, 40]],
        ["inserted", [0, 5, 10, 20, 25, 30, 40, 50]],
        ["removed", [0, 5, 10, 25, 30, 40, 50]],
        ["split", [0, 1, 2, 3, 4, 5, 10, 25, 30, 40, 50]],
        ["split and changed", [0, 1, 2, 3, 4, 5, 6, 10, 25, 30, 40, 50]],
        ["halves", [2, None, True]],
    ]


@pytest.mark.asyncio
async def test_reactor(tmp_path: Path) -> None:
    server = start_dev(copy_fixture(tmp_path / "app"), "--data", ":memory:")
    with running(server):
        async with Client(server.url) as client:

            async def add(*numbers: float) -> None:
                for number in numbers:
                    await client.mutation("numbers:append", {"number": number})

            await add(0, 10, 20, 30, 40)
            async with client.subscribe_paginated("numbers:pages", initial_num_items=3) as live:
                assert await until(live, [0, 10, 20]) is CAN_LOAD_MORE
                assert live.load_more(3)
                assert await until(live, [0, 10, 20, 30, 40]) is EXHAUSTED
                await add(5, 25, 50)
                assert live.results == [0, 5, 10, 20, 25, 30, 40, 50], "a mutation returns when the list shows it"
                await client.mutation("numbers:remove", {"number": 20})
                assert live.results == [0, 5, 10, 25, 30, 40, 50]
                await add(1, 2, 3, 4)
                assert live.results == [0, 1, 2, 3, 4, 5, 10, 25, 30, 40, 50]
                assert live.status is EXHAUSTED


async def until(live: PaginatedSubscription, expected: list[Any]) -> PaginationStatus:
    while True:
        result: PaginatedResult = await live.next(timeout=30)
        if result.results == expected and result.status is not PaginationStatus.LOADING_MORE:
            return result.status


def test_the_blocking_client_of_reactor(tmp_path: Path) -> None:
    server = start_dev(copy_fixture(tmp_path / "app"), "--data", ":memory:")
    with running(server), BlockingClient(server.url) as client:
        for number in range(5):
            client.mutation("numbers:append", {"number": number}, timeout=30)
        with client.subscribe_paginated("numbers:pages", initial_num_items=2) as live:
            assert live.next(timeout=30).results == [0, 1]
            assert live.load_more(10)
            while live.status is not EXHAUSTED:
                live.next(timeout=30)
            assert live.results == [0, 1, 2, 3, 4]


# Where a page ends is decided when it first runs. Here 0, 10 and 20 are the first page; later it holds 5, 7, 8 and 10,
# and a server that forgot where it ended would end it behind three rows again, with 10 on no page at all.

BEFORE, GROWN = [0, 10, 20, 30, 40], [0, 5, 10, 20, 30, 40]
AFTER = [5, 7, 8, 10, 30, 35, 40]


def change_after_restart(url: str) -> None:
    """Insert into both pages, and remove the first row and the one the first page ended with."""
    with BlockingClient(url) as client:
        for number in (7, 8, 35):
            client.mutation("numbers:append", {"number": number}, timeout=30)
        for number in (0, 20):
            client.mutation("numbers:remove", {"number": number}, timeout=30)


STATES: list[list[float]] = [
    BEFORE,
    GROWN,
    [0, 5, 7, 10, 20, 30, 40],
    [0, 5, 7, 8, 10, 20, 30, 40],
    [0, 5, 7, 8, 10, 20, 30, 35, 40],
    [5, 7, 8, 10, 20, 30, 35, 40],
    AFTER,
]


def test_pages_keep_their_ends_across_a_restart_javascript(tmp_path: Path) -> None:
    """Conformance #22."""
    project, port = copy_fixture(tmp_path / "app"), free_port()
    server = start_serve(project, port=port)
    try:
        with BlockingClient(server.url) as writer:
            for number in BEFORE:
                writer.mutation("numbers:append", {"number": number}, timeout=30)
            client = javascript("js_pages_live", server.url, "numbers:pages", "3")
            with running(client):
                client.wait_for_line(json.dumps(BEFORE, separators=(",", ":")))
                writer.mutation("numbers:append", {"number": 5}, timeout=30)
                client.wait_for_line(json.dumps(GROWN, separators=(",", ":")))
                server = kill_and_start(server, project, port)
                change_after_restart(server.url)
                client.wait_for_line(json.dumps(AFTER, separators=(",", ":")))
                check_states(client)
    finally:
        server.close()


def kill_and_start(server: Server, project: Path, port: int) -> Server:
    server.end(signal.SIGKILL)
    server.close()
    return start_serve(project, port=port)


def check_states(client: Program) -> None:
    lines = [json.loads(line) for line in client.out if line.startswith("{")]
    shown = [STATES.index(line["list"]) for line in lines]  # a list with a gap or a row twice is none of them
    assert shown == sorted(set(shown)), "lists in the order of time"
    assert lines[-1]["connections"] == 2


@pytest.mark.asyncio
async def test_pages_keep_their_ends_across_a_restart_reactor(tmp_path: Path) -> None:
    """Conformance #22."""
    project, port = copy_fixture(tmp_path / "app"), free_port()
    server = await asyncio.to_thread(start_serve, project, port=port)
    try:
        async with Client(server.url) as client:
            for number in BEFORE:
                await client.mutation("numbers:append", {"number": number})
            async with client.subscribe_paginated("numbers:pages", initial_num_items=3) as live:
                assert await until(live, BEFORE[:3]) is CAN_LOAD_MORE
                assert live.load_more(3)
                assert await until(live, BEFORE) is EXHAUSTED
                await client.mutation("numbers:append", {"number": 5})
                assert live.results == GROWN
                server = await asyncio.to_thread(kill_and_start, server, project, port)
                changes = asyncio.create_task(asyncio.to_thread(change_after_restart, server.url))
                while live.results != AFTER:
                    assert (await live.next(timeout=30)).results in STATES, "a gap, or a row twice"
                await changes
                assert client.connection_state().connection_count == 2
    finally:
        server.close()
