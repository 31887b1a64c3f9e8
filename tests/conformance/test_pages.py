"""Paginated queries as live lists, with every client that has them, against a real server process."""

from pathlib import Path
from typing import Any

import pytest

from reactor.client import BlockingClient, Client
from reactor.client.pagination import PaginatedResult, PaginatedSubscription, PaginationStatus
from tests.servers import copy_fixture, javascript, output, running, start_dev

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
