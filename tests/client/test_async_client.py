"""The asyncio client against real sockets, on both event loops."""

import asyncio
import base64
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from reactor.client.address import client_name, client_version
from reactor.client.async_client import Client
from reactor.client.connection_state import ConnectionReport, ConnectionState
from reactor.client.optimistic import LocalStore
from reactor.client.pagination import PaginationStatus
from reactor.client.session import MAX_UNANSWERED
from reactor.client.subscription import Subscription
from reactor.errors import (
    AuthError,
    ConnectionLost,
    FunctionError,
    InvalidArgument,
    ProtocolError,
    ReactorError,
    Unavailable,
    ValidationError,
)
from reactor.protocol.sync import (
    Action,
    Authenticate,
    Connect,
    FatalError,
    ModifyQuerySet,
    Mutation,
    encode_server_message,
)
from reactor.runtime.references import api
from reactor.values.types import Int64
from tests.client.model import APPEND, APPEND_REFUSED, LIST, LIST_REFUSED, PAGES, RUN, ModelServer
from tests.client.stub import StubServer, StubSocket

Run = Callable[[Awaitable[None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    """Run a test's coroutine and see that nothing of it is left running."""

    async def check(test: Awaitable[None]) -> None:
        await test
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in left if "reactor" in task.get_name()]

    def run_on(test: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(check(test))

    return run_on


class Naps:
    """A sleep that takes no time and remembers how long it should have been."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


def client_of(stub: StubServer, naps: Naps | None = None, path: str = "") -> Client:
    return Client(stub.url + path, random=lambda: 1.0, sleep=naps or Naps())


def test_calls(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client:
            assert await client.mutation(APPEND, {"item": "a"}) == 1.0
            assert await client.query(LIST) == ["a"]
            big = {"n": Int64(2**60), "data": b"\x00\xff", "more": [1, 2.5, None]}
            assert await client.action(RUN, {"item": big}) == {
                "n": 2**60,
                "data": b"\x00\xff",
                "more": [1.0, 2.5, None],
            }
            assert await client.query(LIST) == ["a"]

    run(test())


def test_failures(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client:
            with pytest.raises(ReactorError) as raised:
                await client.mutation(APPEND_REFUSED)
            assert raised.value.data is None
            with pytest.raises(FunctionError, match="Uncaught Error: no") as failed:
                await client.mutation("log:none")
            assert failed.value.request_id == "0123456789abcdef"
            with pytest.raises(FunctionError) as failed:
                await client.query("log:none")
            assert failed.value.log_lines == ("[LOG] 'x'",)
            with pytest.raises(FunctionError):
                await client.action("log:none")
            with pytest.raises(ReactorError):
                await client.query(LIST_REFUSED)
            with pytest.raises(ValidationError, match="Int64"):
                await client.mutation(APPEND, {"item": 2**60})
            with pytest.raises(InvalidArgument, match="valid path"):
                await client.mutation("log append")

    run(test())


def test_the_client_introduces_itself_below_the_deployments_path(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub, path="/tenant/") as client:
            assert await client.query(LIST) == []
            (request,) = stub.requests
            assert request.path == f"/tenant/api/{client_version()}/sync"
            assert request.headers["Convex-Client"] == client_name()
            (connect,) = stub.model.connects
            assert connect.client_ts is not None

    run(test())


def test_a_live_query_follows_everybodys_writes(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client, client.subscribe(LIST) as live:
            assert await live.next() == []
            await client.mutation(APPEND, {"item": "mine"})
            assert live.value == ["mine"], "a mutation returns when its effects show"
            stub.model.append("theirs", None)
            await stub.push()
            seen = []
            async for items in live:
                seen.append(items)
                if len(items) == 2:
                    break
            assert seen[-1] == ["mine", "theirs"]

    run(test())


def test_live_queries_of_one_function_share_a_query_but_no_objects(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client:
            async with client.subscribe(LIST) as one, client.subscribe(LIST) as two:
                first, second = await one.next(), await two.next()
                async with client.subscribe(LIST) as late:
                    third = await late.next(timeout=0)
                first.append("mine alone")
                assert (second, third) == ([], [])
                assert len(stub.sockets[0].model._queries) == 1
            await client.query(LIST)
            await client.mutation(APPEND, {"item": 1})
            assert not stub.sockets[0].model._queries

    run(test())


def test_a_failing_live_query_lives_on(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client, client.subscribe(LIST_REFUSED) as live:
            with pytest.raises(ReactorError) as raised:
                await live.next()
            assert raised.value.data == {"code": "NO"}
            assert not live.closed

    run(test())


def test_a_mutation_cut_off_from_its_answer_takes_effect_once(run: Run) -> None:
    async def test() -> None:
        naps = Naps()
        async with StubServer() as stub, client_of(stub, naps) as client, client.subscribe(LIST) as live:
            await live.next()

            async def drop_first(socket: StubSocket, message: Any) -> bool:
                if isinstance(message, Mutation) and len(stub.model.connects) == 1:
                    socket.drop()
                    return True
                return False

            stub.intervene = drop_first
            first, second = await asyncio.gather(
                client.mutation(APPEND, {"item": "a"}), client.mutation(APPEND, {"item": "b"})
            )
            assert (first, second) == (1.0, 2.0)
            assert live.value == ["a", "b"]
            assert stub.model.items == ["a", "b"]
            before, after = stub.model.connects
            assert before.session_id == after.session_id
            assert after.connection_count == 1
            assert after.last_close_reason == "closed with code 1006"
            assert naps.taken == [0.1]

    run(test())


def test_an_action_cut_off_from_its_answer_is_lost(run: Run) -> None:
    async def test() -> None:
        async def drop(socket: StubSocket, message: Any) -> bool:
            if isinstance(message, Action):
                socket.drop()
            return isinstance(message, Action)

        async with StubServer() as stub, client_of(stub) as client:
            stub.intervene = drop
            with pytest.raises(ConnectionLost):
                await client.action(RUN, {"item": 1})
            stub.intervene = None
            assert await client.action(RUN, {"item": 2}) == 2.0
            assert stub.model.actions == [1.0, 2.0]

    run(test())


def test_calls_wait_for_a_server_that_is_not_ready(run: Run) -> None:
    async def test() -> None:
        naps = Naps()
        async with StubServer() as stub:
            stub.refuse_handshakes = 3
            client = client_of(stub, naps)
            assert client.state is ConnectionState.NEW
            async with client:
                assert client.state is ConnectionState.CONNECTING
                assert await client.mutation(APPEND, {"item": 1}) == 1.0
                assert client.state is ConnectionState.CONNECTED
            assert client.state is ConnectionState.CLOSED
            assert naps.taken == [0.1, 0.2, 0.4]
            assert stub.model.connects[0].last_close_reason == "cannot connect: InvalidStatus"

    run(test())


def test_an_overloaded_server_is_left_alone_for_longer(run: Run) -> None:
    async def test() -> None:
        async def close(socket: StubSocket, message: Any) -> bool:
            if isinstance(message, Connect) and len(stub.model.connects) <= 2:
                await socket.socket.close(1013, "CommitterFullError")
            return False

        naps = Naps()
        async with StubServer() as stub, client_of(stub, naps) as client:
            stub.intervene = close
            assert await client.query(LIST) == []
            assert naps.taken == [3.0, 6.0]
            assert stub.model.connects[2].last_close_reason == "CommitterFullError"
            stub.sockets[0].drop()
            stub.connected.clear()
            await stub.connected.wait()
            assert naps.taken[2:] == [0.1], "caught up, so the waiting starts over"

    run(test())


def test_a_server_against_the_protocol_is_left_and_tried_again(run: Run) -> None:
    async def test() -> None:
        async def babble(socket: StubSocket, message: Any) -> bool:
            if isinstance(message, ModifyQuerySet) and len(stub.model.connects) == 1:
                await socket.send(b'{"type":"FutureThing"}')
            return False

        async with StubServer() as stub, client_of(stub) as client:
            stub.intervene = babble
            while len(stub.model.connects) < 2:
                stub.connected.clear()
                await stub.connected.wait()
                assert await client.query(LIST) == []
            assert "FutureThing" in (stub.model.connects[1].last_close_reason or "")

    run(test())


def test_a_fatal_error_ends_everything(run: Run) -> None:
    async def test() -> None:
        async def fatal(socket: StubSocket, message: Any) -> bool:
            if isinstance(message, Mutation):
                await socket.send(encode_server_message(FatalError("you broke it")))
            return isinstance(message, Mutation)

        async with StubServer() as stub, client_of(stub) as client, client.subscribe(LIST) as live:
            await live.next()
            stub.intervene = fatal
            with pytest.raises(ProtocolError, match="you broke it"):
                await client.mutation(APPEND, {"item": 1})
            with pytest.raises(ProtocolError, match="you broke it"):
                await live.next()
            with pytest.raises(ProtocolError, match="you broke it"):
                await client.query(LIST)
            assert client.state is ConnectionState.CLOSED

    run(test())


def test_closing_ends_what_waits(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub:
            client = client_of(stub)
            live = client.subscribe(LIST)
            await live.next()

            async def swallow(socket: StubSocket, message: Any) -> bool:
                arrived.set()
                return True

            arrived = asyncio.Event()
            stub.intervene = swallow
            waiting = asyncio.ensure_future(client.mutation(APPEND, {"item": 1}))
            asking = asyncio.ensure_future(client.query(LIST))
            await arrived.wait()
            await client.close()
            await client.close()
            for call in (waiting, asking):
                with pytest.raises(Unavailable, match="closed"):
                    await call
            assert [items async for items in live] == []
            with pytest.raises(Unavailable):
                await client.query(LIST)
            with pytest.raises(Unavailable):
                client.subscribe(LIST)

    run(test())


def test_a_call_cancelled_before_it_was_sent_never_runs(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client:
            waiting = asyncio.ensure_future(client.mutation(APPEND, {"item": "never"}))
            asking = asyncio.ensure_future(client.query(LIST))
            await asyncio.sleep(0)
            waiting.cancel()
            asking.cancel()
            assert await client.mutation(APPEND, {"item": "sent"}) == 1.0
            assert stub.model.items == ["sent"]

    run(test())


def test_any_number_of_calls_may_wait(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client:
            count = 2 * MAX_UNANSWERED + 1
            await asyncio.gather(*(client.mutation(APPEND, {"item": item}) for item in range(count)))
            assert stub.model.items == list(range(count))

    run(test())


def test_a_call_cancelled_after_it_was_sent_still_runs_in_its_turn(run: Run) -> None:
    """The server may have run it; what is sent again after an outage must not leave a gap in the order."""

    async def test() -> None:
        arrived = asyncio.Event()

        async def lose_the_first(socket: StubSocket, message: Any) -> bool:
            if isinstance(message, Mutation) and len(stub.model.connects) == 1:
                stub.model.items.clear()
                stub.model.answers.clear()
                arrived.set()
                return True
            return False

        async with StubServer() as stub, client_of(stub) as client:
            stub.intervene = lose_the_first
            first = asyncio.ensure_future(client.mutation(APPEND, {"item": "cancelled"}))
            await arrived.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            second = asyncio.ensure_future(client.mutation(APPEND, {"item": "after"}))
            stub.sockets[0].drop()
            assert await second == 2.0
            assert stub.model.items == ["cancelled", "after"]
            assert client.connection_state().unfinished_mutations == 0

    run(test())


def append_locally(store: LocalStore, args: dict[str, Any]) -> None:
    store.set_query(LIST, {}, [*store.get_query(LIST), args["item"]])


def test_an_optimistic_update_is_seen_at_once_and_until_it_came_true(run: Run) -> None:
    async def test() -> None:
        seen: list[Any] = []

        async def look(socket: StubSocket, message: Any) -> bool:
            if isinstance(message, Mutation):
                seen.append(live.value)
            return False

        async with StubServer() as stub, client_of(stub) as client, client.subscribe(LIST) as live:
            assert await live.next() == []
            stub.intervene = look
            assert await client.mutation(APPEND, {"item": "a"}, optimistic_update=append_locally) == 1.0
            assert seen == [["a"]]
            assert await live.next(timeout=0) == ["a"]
            with pytest.raises(TimeoutError):
                await live.next(timeout=0)  # no second push: the truth is what was shown
            assert await client.query(LIST) == ["a"]

    run(test())


def test_an_optimistic_update_is_rolled_back_when_its_mutation_fails(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client, client.subscribe(LIST) as live:
            assert await live.next() == []
            with pytest.raises(ReactorError):
                await client.mutation(APPEND_REFUSED, {"item": "a"}, optimistic_update=append_locally)
            assert live.value == []
            with pytest.raises(ZeroDivisionError):
                await client.mutation(APPEND, {"item": "b"}, optimistic_update=lambda store, args: 1 // 0)
            assert stub.model.items == []

    run(test())


def test_the_update_of_a_call_cancelled_before_it_was_sent_is_rolled_back(run: Run) -> None:
    async def test() -> None:
        async def never(*, force_refresh: bool) -> str:
            await asyncio.get_running_loop().create_future()
            return "unreachable"

        async with StubServer() as stub, client_of(stub) as client, client.subscribe(LIST) as live:
            assert await live.next() == []
            client.set_auth(never)  # keeps back whatever follows
            call = asyncio.ensure_future(client.mutation(APPEND, {"item": "a"}, optimistic_update=append_locally))
            assert await live.next() == ["a"]
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert live.value == []

    run(test())


def test_a_live_list(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client:
            stub.model.items = [1.0, 2.0, 3.0, 4.0]
            async with client.subscribe_paginated(PAGES, initial_num_items=2) as live:
                assert (await live.next()).results == [1, 2]
                assert live.load_more(2)
                assert (await live.next()).status is PaginationStatus.LOADING_MORE
                assert (await live.next()).results == [1, 2, 3, 4]
                stub.model.append(1.5, None)
                stub.sockets[0].drop()
                await client.query(LIST)
                assert live.results == [1, 1.5, 2, 3, 4], "journals keep the pages together over an outage"
                stub.model.cursors += 1
                await client.mutation(APPEND, {"item": 0.5})
                result = await live.next()
                while result.results != [0.5, 1]:
                    result = await live.next()
                assert live.status is PaginationStatus.CAN_LOAD_MORE
            await client.mutation(APPEND, {"item": 9})
            assert not stub.sockets[0].model._queries
            with pytest.raises(InvalidArgument):
                client.subscribe_paginated(PAGES, initial_num_items=0)

    run(test())


def test_the_state_of_the_connection_can_be_watched(run: Run) -> None:
    async def test() -> None:
        states: list[ConnectionReport] = []

        async def watch(watcher: Subscription) -> None:
            async for report in watcher:
                states.append(report)

        async with StubServer() as stub:
            stub.refuse_handshakes = 1
            client = client_of(stub)
            watching = asyncio.ensure_future(watch(client.connection_states()))
            await asyncio.sleep(0)
            assert not client.connection_state().has_ever_connected
            async with client:
                await client.mutation(APPEND, {"item": 1})
                last = client.connection_state()
                assert last.is_connected
                assert last.connection_count == 1
                assert last.max_observed_timestamp == stub.model.ts
            await watching
            assert states[0].state is ConnectionState.NEW
            assert states[-1].state is ConnectionState.CLOSED
            assert any(report.retries == 1 for report in states)
            assert any(report.unfinished_mutations == 1 for report in states)
            assert states[-1].unfinished_mutations == 0
            assert all(a != b for a, b in itertools.pairwise(states)), "told of differences only"
            assert [report async for report in client.connection_states()] == [client.connection_state()]

    run(test())


def test_an_administrator(run: Run) -> None:
    async def test() -> None:
        async with StubServer(ModelServer(refused_tokens={"bad key"})) as stub, client_of(stub) as client:
            client.set_admin_auth("key", acting_as={"issuer": "i", "subject": "s"})
            await client.mutation(APPEND, {"item": 1})
            client.set_admin_auth("key")
            await client.mutation(APPEND, {"item": 2})
            sent = [m for m in stub.sockets[0].model.received if isinstance(m, Authenticate)]
            assert [(m.token_type, m.value, m.acts_as) for m in sent] == [
                ("Admin", "key", {"issuer": "i", "subject": "s"}),
                ("Admin", "key", None),
            ]
            client.set_admin_auth("bad key")
            with pytest.raises(AuthError):
                await client.mutation(APPEND, {"item": 3})
            await client.mutation(APPEND, {"item": 4})
            assert stub.model.identities == ["key", "key", None]

    run(test())


def test_functions_can_be_named_by_reference(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client:
            await client.mutation(api.log.append, {"item": 1})
            async with client.subscribe(api.log.list) as live:
                assert await live.next() == [1]
            assert await client.query(api.log.list) == [1]
            with pytest.raises(InvalidArgument, match=r"api\.module\.function"):
                await client.query(api.log)

    run(test())


def test_a_plain_token_callable(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub, client_of(stub) as client:
            client.set_auth(lambda *, force_refresh: "alice")
            await client.mutation(APPEND, {"item": 1})
            assert stub.model.identities == ["alice"]

    run(test())


def identities(stub: StubServer) -> list[Any]:
    return [
        message.value
        for socket in stub.sockets
        for message in socket.model.received
        if isinstance(message, Authenticate)
    ]


def test_a_fixed_token(run: Run) -> None:
    async def test() -> None:
        async with StubServer() as stub:
            client = client_of(stub)
            client.set_auth("alice")
            async with client:
                await client.mutation(APPEND, {"item": 1})
                client.set_auth("bob")
                await client.mutation(APPEND, {"item": 2})
                client.set_auth(None)
                await client.mutation(APPEND, {"item": 3})
            assert stub.model.identities == ["alice", "bob", None]

    run(test())


def test_a_callable_is_asked_again_when_its_token_is_refused(run: Run) -> None:
    async def test() -> None:
        naps = Naps()
        asked: list[bool] = []

        async def fetch(*, force_refresh: bool) -> str:
            asked.append(force_refresh)
            return "fresh" if len(asked) > 2 else f"stale{len(asked)}"

        async with StubServer(ModelServer(refused_tokens={"stale1", "stale2"})) as stub:
            client = client_of(stub, naps)
            client.set_auth(fetch)
            async with client:
                assert await client.mutation(APPEND, {"item": 1}) == 1.0
            assert asked == [False, True, True]
            assert stub.model.identities == ["fresh"]
            assert naps.taken == [], "a refused token is no outage"

    run(test())


@pytest.mark.parametrize("source", ["fixed", "same", "null", "fresh but bad", "broken"])
def test_a_token_that_cannot_be_replaced_fails_what_waits(run: Run, source: str) -> None:
    async def test() -> None:
        asked: list[bool] = []

        async def fetch(*, force_refresh: bool) -> str | None:
            asked.append(force_refresh)
            if source == "null":
                return None if force_refresh else "bad"
            if source == "broken":
                raise OSError("no network")
            return "bad" if source == "same" else f"bad{len(asked)}"

        refused = {"bad", *(f"bad{number}" for number in range(9))}
        async with StubServer(ModelServer(refused_tokens=refused)) as stub, client_of(stub) as client:
            async with client.subscribe(LIST) as live:
                assert await live.next() == []
                client.set_auth("bad" if source == "fixed" else fetch)
                with pytest.raises(AuthError):
                    await client.mutation(APPEND, {"item": 1})
                assert len(asked) == {"fixed": 0, "same": 2, "null": 2, "fresh but bad": 4, "broken": 1}[source]
                with pytest.raises(AuthError):
                    assert live.value
                assert await client.mutation(APPEND, {"item": 2}) == 1.0
                assert live.value == [2.0]
                assert stub.model.identities == [None]

    run(test())


def test_a_callable_that_answers_too_late_is_ignored(run: Run) -> None:
    async def test() -> None:
        release = asyncio.Event()

        async def stubborn(*, force_refresh: bool) -> str:
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass
            return "late"

        async with StubServer() as stub, client_of(stub) as client:
            client.set_auth(stubborn)
            await asyncio.sleep(0)
            client.set_auth("newer")
            await client.mutation(APPEND, {"item": 1})
            await client.mutation(APPEND, {"item": 2})
            assert stub.model.identities == ["newer", "newer"]

    run(test())


def test_a_token_about_to_expire_is_replaced(run: Run) -> None:
    async def test() -> None:
        def jwt(number: int) -> str:
            claims = {"iat": 1000, "exp": 1000 + 60 * number}
            return "h." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode() + ".s"

        asked: list[bool] = []

        async def fetch(*, force_refresh: bool) -> str:
            asked.append(force_refresh)
            return jwt(min(len(asked), 3))

        naps = Naps()
        async with StubServer() as stub, client_of(stub, naps) as client:
            client.set_auth(fetch)
            while len(asked) < 4:
                await client.mutation(APPEND, {"item": 1})
            assert asked == [False, True, True, True]
            assert naps.taken == [50.0, 110.0, 170.0]
            assert identities(stub) == [jwt(1), jwt(2), jwt(3)], "an equal token is not sent again"

    run(test())


def test_a_defect_does_not_leave_callers_waiting(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async def broken_sleep(seconds: float) -> None:
            raise ZeroDivisionError

        async with StubServer() as stub:
            stub.refuse_handshakes = 1
            async with Client(stub.url, sleep=broken_sleep) as client:
                with pytest.raises(ProtocolError, match="ZeroDivisionError"):
                    await client.mutation(APPEND, {"item": 1})

    run(test())
    assert "the client stopped" in caplog.text
