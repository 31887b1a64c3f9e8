"""The blocking client against real sockets, from several threads."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from reactor.client import BlockingClient, Client
from reactor.client.connection_state import ConnectionState
from reactor.client.optimistic import LocalStore
from reactor.client.pagination import PaginationStatus
from reactor.client.portal import LoopThread
from reactor.errors import ReactorError, Unavailable
from reactor.protocol.sync import Mutation
from tests.client.model import APPEND, APPEND_REFUSED, LIST, PAGES, RUN
from tests.client.stub import StubServer, StubSocket


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """A server in a thread of its own, as it would be for blocking code."""
    thread = LoopThread("stub server")
    try:
        server = thread.run(StubServer)
        thread.call(server.__aenter__)
        try:
            yield server
        finally:
            thread.call(server.__aexit__, None, None, None)
    finally:
        thread.close()


@pytest.fixture(params=[None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def client(request: pytest.FixtureRequest, stub: StubServer) -> Iterator[BlockingClient]:
    with BlockingClient(stub.url, loop_factory=request.param) as client:
        yield client


def test_calls(client: BlockingClient) -> None:
    assert client.mutation(APPEND, {"item": "a"}, timeout=30) == 1.0
    assert client.query(LIST, timeout=30) == ["a"]
    assert client.action(RUN, {"item": 1}, timeout=30) == 1.0
    with pytest.raises(ReactorError):
        client.mutation(APPEND_REFUSED)
    assert client.state is ConnectionState.CONNECTED


def test_a_live_query(client: BlockingClient) -> None:
    with client.subscribe(LIST) as live:
        assert live.next(timeout=30) == []
        client.mutation(APPEND, {"item": "a"})
        assert live.value == ["a"]
        for items in live:
            assert items == ["a"]
            break
        with pytest.raises(TimeoutError):
            live.next(timeout=0.001)
    with pytest.raises(Unavailable):
        live.next()


def test_what_the_asyncio_client_can_do_this_one_can(client: BlockingClient, stub: StubServer) -> None:
    def append(store: LocalStore, args: dict[str, Any]) -> None:
        store.set_query(LIST, {}, [*store.get_query(LIST), args["item"]])

    with client.subscribe(LIST) as live, client.connection_states() as states:
        assert live.next(timeout=30) == []
        assert states.next(timeout=30).is_connected
        client.mutation(APPEND, {"item": 1}, optimistic_update=append, timeout=30)
        assert live.value == [1]
        with pytest.raises(ZeroDivisionError):
            client.mutation(APPEND, {"item": 2}, optimistic_update=lambda store, args: 1 // 0, timeout=30)
    client.mutation(APPEND, {"item": 2})
    with client.subscribe_paginated(PAGES, initial_num_items=1) as pages:
        assert pages.next(timeout=30).results == [1]
        assert pages.load_more(5)
        while pages.status is not PaginationStatus.EXHAUSTED:
            pages.next(timeout=30)
        assert pages.results == [1, 2]
    client.set_admin_auth("key")
    client.mutation(APPEND, {"item": 3})
    assert stub.model.identities == [None, None, "key"]
    assert client.connection_state().connection_count == 1


def test_blocking_and_asyncio_clients_offer_the_same() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(BlockingClient)


def test_many_threads_share_one_client(client: BlockingClient, stub: StubServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda item: client.mutation(APPEND, {"item": item}), range(100)))
    assert sorted(results) == [float(number + 1) for number in range(100)]
    assert sorted(stub.model.items) == list(range(100))
    assert len(stub.model.connects) == 1


def test_a_call_without_an_answer_times_out(client: BlockingClient, stub: StubServer) -> None:
    async def swallow(socket: StubSocket, message: Any) -> bool:
        return isinstance(message, Mutation)

    assert client.query(LIST) == []
    stub.intervene = swallow
    with pytest.raises(TimeoutError, match="no answer within"):
        client.mutation(APPEND, {"item": 1}, timeout=0.01)
    stub.intervene = None
    assert client.query(LIST, timeout=30) is not None


@pytest.mark.parametrize("kind", ["fixed", "plain", "async"])
def test_identities(client: BlockingClient, stub: StubServer, kind: str) -> None:
    threads: list[threading.Thread] = []

    def plain(*, force_refresh: bool) -> str:
        threads.append(threading.current_thread())
        return "alice"

    async def fetch(*, force_refresh: bool) -> str:
        await asyncio.sleep(0)
        return "alice"

    sources: dict[str, Any] = {"fixed": "alice", "plain": plain, "async": fetch}
    client.set_auth(sources[kind])
    client.mutation(APPEND, {"item": 1})
    client.set_auth(None)
    client.mutation(APPEND, {"item": 2})
    assert stub.model.identities == ["alice", None]
    assert threading.current_thread() not in threads


def test_closing_ends_what_waits_in_other_threads(client: BlockingClient, stub: StubServer) -> None:
    live = client.subscribe(LIST)
    live.next(timeout=30)
    waiting: list[BaseException] = []
    started = threading.Event()

    def wait(call: Callable[[], Any]) -> None:
        started.set()
        try:
            call()
        except BaseException as error:
            waiting.append(error)

    thread = threading.Thread(target=wait, args=(live.next,))
    thread.start()
    started.wait()
    client.close()
    client.close()
    thread.join()
    assert [type(error) for error in waiting] == [Unavailable]
    with pytest.raises(Unavailable):
        client.query(LIST)
    live.close()


def test_the_package_exports_its_clients() -> None:
    assert Client.__name__ == "Client"
