"""The rules of the sync protocol, on a session without sockets."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.auth.identity import ANONYMOUS, user_identity
from reactor.errors import (
    AuthProviderFailed,
    AuthProviderUnavailable,
    Error,
    Forbidden,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    StorageError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    WriteConflict,
)
from reactor.limits import MAX_TRANSITION_CHUNK_BYTES
from reactor.protocol.sync import decode_client_message, decode_ts, encode_ts
from reactor.runtime.calls import Failure, Refused, Success, request_id_of, session_request_id
from tests.server.fakes import (
    ADMIN_KEY,
    READ_ONLY_KEY,
    SESSION_ID,
    Client,
    add,
    failed,
    remove,
    success,
    value,
)

NO_PROVIDER = Unauthenticated("NoAuthProvider", "No auth provider found matching the given token")
ZERO = {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}


def subscribed(*contents: object, **limits: int) -> Client:
    """A client whose queries 0, 1, … have these values at timestamp 1000, and were sent."""
    client = Client(**limits)
    client.connect()
    client.modify(*(add(number, args={"n": number}) for number in range(len(contents))))
    for handle, content in zip(client.live.open, contents, strict=True):
        handle.result = value(content)
    client.transition(1000)
    return client


def test_first_transition_starts_at_zero_and_follows_an_empty_query_set() -> None:
    client = Client()
    client.connect(clientTs=1_700_000_000_250)
    client.modify()
    message = client.transition(1000)
    assert message["startVersion"] == ZERO
    assert message["endVersion"] == {"querySet": 1, "identity": 0, "ts": encode_ts(1000)}
    assert message["modifications"] == []
    assert message["clientClockSkew"] == 250
    assert message["serverTs"] == client.clock.ns


def test_transitions_chain() -> None:
    client = subscribed("a")
    (handle,) = client.live.open
    versions = [message["endVersion"] for message in client.outlet.sent]
    for ts in (1001, 1005, 1005, 1010):
        handle.result = value(ts, version=ts)
        client.modify()
        message = client.transition(ts)
        assert message["startVersion"] == versions[-1]
        versions.append(message["endVersion"])


def test_several_messages_fold_into_one_transition() -> None:
    client = Client()
    client.modify()
    client.modify()
    client.authenticate("None")
    assert client.live.asked == 1
    message = client.transition(1000)
    assert (message["endVersion"]["querySet"], message["endVersion"]["identity"]) == (2, 1)


def test_connect_is_optional() -> None:
    client = Client()
    client.authenticate("None")
    client.modify(add(0))
    client.live.open[0].result = value("a")
    assert client.transition(1000)["clientClockSkew"] is None
    client.mutate(0)
    call, _ = client.mutations.submitted[0]
    assert (call.session, call.request) == (None, None)


def test_base_version_must_be_the_one_received_last() -> None:
    client = subscribed("a")
    client.receive({"type": "ModifyQuerySet", "baseVersion": 7, "newVersion": 8, "modifications": []})
    assert client.outlet.sent[-1] == {
        "type": "FatalError",
        "error": "Base version 7 passed up doesn't match the current version 1",
    }
    assert client.outlet.closed == (None, "")
    assert client.live.open == []


def test_identity_base_version_must_match() -> None:
    client = Client()
    client.receive({"type": "Authenticate", "baseVersion": 1, "tokenType": "None"})
    assert client.outlet.closed == (1011, "InternalServerError")


@pytest.mark.parametrize("modification", [add(0), remove(5)])
def test_a_used_or_unknown_query_id_ends_the_connection(modification: dict[str, object]) -> None:
    client = subscribed("a")
    client.modify(modification)
    assert client.outlet.closed == (1011, "InternalServerError")


def test_modifications_ascend_with_one_per_query() -> None:
    client = subscribed("a", "b", "c")
    for number, handle in enumerate(client.live.open):
        handle.result = value(f"new {number}", version=2)
    client.modify(remove(1), add(9, args={"n": 9}), remove(2), add(2, args={"n": 2}), add(12), remove(12))
    for handle in client.live.open[1:]:
        handle.result = value("later")
    modifications = client.transition(1001)["modifications"]
    assert [(m["type"], m["queryId"]) for m in modifications] == [
        ("QueryUpdated", 0),
        ("QueryRemoved", 1),
        ("QueryUpdated", 2),
        ("QueryUpdated", 9),
        ("QueryRemoved", 12),
    ]


def test_only_what_differs_from_the_last_sent_is_sent() -> None:
    client = subscribed("a", "b")
    first, second = client.live.open
    first.result = value("a", version=5)  # recomputed, equal
    second.result = value("c", version=2)
    assert [m["queryId"] for m in client.transition(1001)["modifications"]] == [1]
    second.result = value("c", version=3, log_lines=("[LOG] 'seen'",))  # log lines count
    assert [m["logLines"] for m in client.transition(1002)["modifications"]] == [["[LOG] 'seen'"]]


def test_a_timestamp_that_moves_without_changes_is_sent_and_one_that_stands_is_not() -> None:
    client = subscribed("a")
    assert client.transition(1001)["modifications"] == []
    assert client.settle(1001) == []


def test_failures_are_compared_without_their_request_id() -> None:
    client = subscribed("a")
    (handle,) = client.live.open
    handle.result = failed("boom", version=2, request_id="a" * 16)
    (modification,) = client.transition(1001)["modifications"]
    assert modification == {
        "type": "QueryFailed",
        "queryId": 0,
        "errorMessage": f"[Request ID: {'a' * 16}] Server Error\nboom",
        "logLines": [],
        "journal": None,
    }
    handle.result = failed("boom", version=3, request_id="b" * 16)
    assert client.transition(1002)["modifications"] == []
    handle.result = failed("boom", version=4, data=b"null")
    (modification,) = client.transition(1003)["modifications"]
    assert modification["errorData"] is None


def test_mutations_run_one_at_a_time_in_order() -> None:
    client = Client()
    client.connect()
    for request in range(3):
        client.mutate(request, body=str(request))
    assert [call.request for call, _ in client.mutations.submitted] == [0]
    client.answer(success(1001, "done"))
    assert [call.request for call, _ in client.mutations.submitted] == [0, 1]
    assert client.outlet.sent == [
        {
            "type": "MutationResponse",
            "requestId": 0,
            "success": True,
            "result": "done",
            "ts": encode_ts(1001),
            "logLines": [],
        }
    ]
    call, _ = client.mutations.submitted[1]
    assert (call.session, call.path, bytes(call.args)) == (SESSION_ID, "messages:send", b'{"body": "1"}')
    assert request_id_of(call) == hashlib.sha256(f"{SESSION_ID}|1".encode()).hexdigest()[:16]


def test_the_next_mutation_runs_before_the_last_one_is_durable() -> None:
    """Order is kept by running one at a time; waiting for the disk in between would cost a sync per mutation."""
    client = Client()
    client.connect()
    for request in range(3):
        client.mutate(request)
    client.mutations.run(0)
    client.mutations.run(1)
    assert [call.request for call, _ in client.mutations.submitted] == [0, 1, 2]
    assert client.outlet.sent == []
    client.mutations.submitted[0][1](success(1001))
    assert [message["requestId"] for message in client.outlet.sent] == [0]


def test_a_transition_follows_each_answer_and_is_never_older() -> None:
    client = subscribed("a")
    client.mutate(0)
    client.answer(success(1005))
    assert client.live.asked == 1
    assert client.settle(1004) == []
    assert client.live.asked == 1  # asked again
    assert client.transition(1005)["modifications"] == []


def test_a_failed_mutation_is_followed_by_a_transition_at_the_same_timestamp() -> None:
    client = subscribed("a")
    client.mutate(0)
    client.answer(Failure(message="text", detail="text", ts=1000, data=b'{"code":"NOPE"}', log_lines=("[LOG] 'x'",)))
    assert client.outlet.sent[-1] == {
        "type": "MutationResponse",
        "requestId": 0,
        "success": False,
        "result": "text",
        "ts": None,
        "logLines": ["[LOG] 'x'"],
        "errorData": {"code": "NOPE"},
    }
    message = client.transition(1000)
    assert message["startVersion"] == message["endVersion"]


def test_too_many_mutations_close_the_connection() -> None:
    client = Client(mutations_per_connection=2)
    for request in range(3):
        client.mutate(request)
    assert client.outlet.closed == (1013, "TooManyConcurrentMutations")
    client.answer(success(1001))  # comes too late for anybody
    assert client.outlet.sent == []
    assert len(client.mutations.submitted) == 1


def test_too_many_queries_are_refused_with_the_limit() -> None:
    client = Client(queries_per_connection=2)
    client.modify(add(0), add(1), add(2))
    assert "REACTOR_QUERIES_PER_CONNECTION" in client.outlet.sent[-1]["error"]
    assert client.live.open == []


def test_arguments_of_live_queries_are_bounded_in_total() -> None:
    client = Client(message_bytes=2000)
    client.modify(*(add(number, args={"text": "x" * 700}) for number in range(3)))
    assert "REACTOR_MESSAGE_BYTES=2000" in client.outlet.sent[-1]["error"]


def test_queued_bytes_are_counted_until_answered() -> None:
    client = Client()
    client.mutate(0, text="x" * 1000)
    client.mutate(1, text="x" * 1000)
    assert 2000 < client.session.queued_bytes < 2100
    client.answer(success(1001))
    assert 1000 < client.session.queued_bytes < 1050
    assert client.outlet.woken == 1
    client.answer(success(1002))
    assert client.session.queued_bytes == 0


@pytest.mark.parametrize(
    ("error", "last", "close"),
    [
        (WriteConflict("lost"), None, (1013, "OptimisticConcurrencyControlFailure")),
        (Overloaded("CommitterFullError", "full"), None, (1013, "CommitterFullError")),
        (OutcomeUnknown("?"), None, (1011, "InternalServerError")),
        (Unavailable("closing"), None, (1011, "InternalServerError")),
        (StorageError("disk"), None, (1011, "InternalServerError")),
        (Error("bug"), None, (1011, "InternalServerError")),
        (Forbidden("BadDeployKey", "no"), "FatalError", (1000, "BadDeployKey")),
        (ProtocolError("WSMessageInvalidJson", "bad"), "FatalError", (None, "")),
    ],
)
def test_system_errors_close_the_connection_and_answer_nothing(
    error: Error, last: str | None, close: tuple[int | None, str]
) -> None:
    client = Client()
    client.mutate(0)
    client.answer(Refused(error))
    assert [message["type"] for message in client.outlet.sent] == ([] if last is None else [last])
    assert client.outlet.closed == close


def test_nothing_runs_after_a_mutation_that_will_be_sent_again() -> None:
    client = Client()
    client.mutate(0)
    client.mutate(1)
    client.answer(Refused(WriteConflict("lost")))
    assert len(client.mutations.submitted) == 1


def test_an_observed_timestamp_from_the_future_closes_the_connection() -> None:
    client = Client(durable_ts=1000)
    client.connect(maxObservedTimestamp=encode_ts(1000))
    assert client.outlet.closed is None
    client.connect(maxObservedTimestamp=encode_ts(1001))
    assert client.outlet.closed == (1011, "InternalServerError")


def test_a_slow_reader_skips_states() -> None:
    client = subscribed("a", transitions_unsent=2)
    (handle,) = client.live.open
    client.outlet.transitions = 2
    for ts in (1001, 1002, 1003):
        handle.result = value(ts, version=ts)
        assert client.settle(ts) == []
    client.outlet.transitions = 0
    client.session.drained()
    assert client.live.asked == 1
    (modification,) = client.transition(1004)["modifications"]
    assert modification["value"] == 1003


def test_draining_without_a_held_transition_asks_for_nothing() -> None:
    client = subscribed("a")
    client.session.drained()
    assert client.live.asked == 0


def test_a_user_token_is_refused_while_there_are_no_providers() -> None:
    client = subscribed("a")
    client.tokens.known["header.payload.signature"] = NO_PROVIDER
    client.authenticate("User", "header.payload.signature")
    message = client.outlet.sent[-1]
    assert message["type"] == "AuthError"
    assert message["error"].startswith("No auth provider found matching the given token")
    assert (message["baseVersion"], message["authUpdateAttempted"]) == (0, True)
    assert client.outlet.closed == (None, "")


def test_an_admin_key_gives_its_rights_to_what_comes_after_it() -> None:
    client = subscribed("a")
    client.mutate(0)
    client.authenticate("Admin", ADMIN_KEY)
    client.mutate(1)
    client.answer(success(1001))
    assert [call.identity.kind for call, _ in client.mutations.submitted] == ["none", "admin"]
    assert [call.internal for call, _ in client.mutations.submitted] == [False, True]
    (handle,) = client.live.open
    assert handle.call.identity.kind == "admin"
    handle.result = value("a")  # the same for the admin: not sent again
    message = client.transition(1001)
    assert message["modifications"] == []
    assert message["endVersion"]["identity"] == 1


@pytest.mark.parametrize("field", ["impersonating", "acting_as"])
def test_an_admin_acts_as_a_user(field: str) -> None:
    client = Client()
    client.authenticate("Admin", ADMIN_KEY, **{field: {"issuer": "https://me", "subject": "7", "plan": "pro"}})
    client.mutate(0)
    call, _ = client.mutations.submitted[0]
    assert call.identity.claims == {
        "issuer": "https://me",
        "subject": "7",
        "plan": "pro",
        "tokenIdentifier": "https://me|7",
    }


def test_acting_as_nobody_in_particular_is_an_auth_error() -> None:
    client = Client()
    client.authenticate("Admin", ADMIN_KEY, impersonating={"name": "who"})
    assert client.outlet.sent[-1]["type"] == "AuthError"


def test_a_bad_admin_key_is_accepted_without_any_rights() -> None:
    client = subscribed("a")
    client.authenticate("Admin", "test-instance|00")
    client.modify(add(1, "_system/cli/tables", {}))
    client.mutate(0)
    client.receive({"type": "Action", "requestId": 1, "udfPath": "a:b", "args": [{}]})
    assert client.live.open == []
    assert client.mutations.submitted == []
    message = client.transition(1001)
    assert message["endVersion"]["identity"] == 1
    texts = [m["errorMessage"] for m in message["modifications"]]
    texts += [m["result"] for m in client.outlet.sent if m["type"] in ("MutationResponse", "ActionResponse")]
    assert len(texts) == 4
    assert all("You do not have permission to perform this operation" in text for text in texts)

    client.authenticate("None")  # and back
    assert len(client.live.open) == 1  # the system query stays refused
    client.live.open[0].result = value("a")
    first, _ = client.transition(1002)["modifications"]
    assert (first["queryId"], first["value"]) == (0, "a")


def test_system_functions_need_an_admin() -> None:
    client = Client()
    client.modify(add(0, "_system/cli/tables:default"))
    (modification,) = client.transition(1000)["modifications"]
    assert "You do not have permission" in modification["errorMessage"]
    client.authenticate("Admin", ADMIN_KEY)
    assert len(client.live.open) == 1


def test_a_read_only_key_may_not_write() -> None:
    client = Client()
    client.authenticate("Admin", READ_ONLY_KEY)
    client.modify(add(0))
    client.mutate(0)
    assert len(client.live.open) == 1
    assert client.mutations.submitted == []
    assert "read-only" in client.outlet.sent[-1]["result"]


def test_component_paths() -> None:
    client = Client()
    client.authenticate("Admin", ADMIN_KEY)
    client.modify(add(0, componentPath=""), add(1, componentPath="waitlist/inner"))
    assert [handle.call.component for handle in client.live.open] == ["", "waitlist/inner"]

    stranger = Client()
    stranger.modify(add(0, componentPath="waitlist"))
    assert stranger.outlet.closed == (1011, "InternalServerError")


def act(client: Client, request: int, **args: object) -> None:
    client.receive({"type": "Action", "requestId": request, "udfPath": "ai:ask", "args": [args]})


def test_actions_run_side_by_side_and_are_answered_as_they_end() -> None:
    client = subscribed("a")
    act(client, 3, n=1)
    act(client, 4, n=2)
    client.mutate(5)
    (first, end_first), (_, end_second) = client.mutations.actions
    assert (first.path, bytes(first.args), first.session, first.internal) == ("ai:ask", b'{"n": 1}', None, False)
    assert first.request_id == session_request_id(SESSION_ID, 3)
    end_second(Success(b'"b"', ts=1005, log_lines=("[LOG] 'x'",)))
    assert client.outlet.sent[-1] == {
        "type": "ActionResponse",
        "requestId": 4,
        "success": True,
        "result": "b",
        "logLines": ["[LOG] 'x'"],
    }
    client.settle(1004)
    assert client.outlet.sent[-1]["type"] == "ActionResponse", "a Transition without its effect"
    assert decode_ts(client.transition(1005)["endVersion"]["ts"]) == 1005
    end_first(Failure(message="no", detail="no", ts=1005, data=b'{"code":1}', log_lines=("[LOG] 'y'",)))
    assert client.outlet.sent[-1] == {
        "type": "ActionResponse",
        "requestId": 3,
        "success": False,
        "result": "no",
        "errorData": {"code": 1},
        "logLines": ["[LOG] 'y'"],
    }
    client.transition(1005)


def test_an_action_that_the_system_refuses_is_answered() -> None:
    """Closing the connection would lose the answers of all the others."""
    client = subscribed("a")
    act(client, 3)
    client.mutations.actions[0][1](Refused(TooManyRequests("Too many")))
    message = client.outlet.sent[-1]
    head = f"[Request ID: {session_request_id(SESSION_ID, 3)}] Server Error"
    assert (message["success"], message["result"]) == (False, f"{head}\nToo many")
    assert client.outlet.closed is None


def test_one_action_too_many_closes_the_connection() -> None:
    client = Client(actions_per_connection=3)
    client.connect()
    for request in range(3):
        act(client, request)
    client.mutations.actions[1][1](success(1000))
    act(client, 3)
    assert client.outlet.closed is None
    act(client, 4)
    assert client.outlet.closed == (1013, "TooManyInflightActionsForSingleClient")
    client.mutations.actions[0][1](success(1000))  # it goes on, and nobody hears of it
    assert len(client.outlet.sent) == 1


def test_arguments_of_unanswered_actions_are_bounded() -> None:
    client = Client(action_bytes_per_connection=2000)
    client.connect()
    act(client, 0, text="x" * 1500)
    act(client, 1, text="x" * 1500)
    assert "REACTOR_ACTION_BYTES_PER_CONNECTION is 2000" in client.outlet.sent[-1]["result"]
    client.mutations.actions[0][1](success(1000))
    act(client, 2, text="x" * 1500)
    assert len(client.mutations.actions) == 2


def test_a_shutdown_waits_for_the_answers_of_actions() -> None:
    client = subscribed("a")
    act(client, 3)
    client.session.finish(1001, "bye")
    client.settle(1001)
    assert client.outlet.closed is None
    client.mutations.actions[0][1](Refused(Unavailable("stopped")))
    client.settle(1001)
    assert client.outlet.closed == (1001, "bye")


def test_events_are_ignored() -> None:
    client = Client()
    client.receive({"type": "Event", "eventType": "ClientConnect", "event": [{"name": "x", "startTime": 1}]})
    assert (client.outlet.sent, client.live.asked, client.outlet.closed) == ([], 0, None)


@pytest.mark.parametrize("path", ["", "a:b:c d", "../x:y", "messages:send-it", "x" * 300])
def test_a_malformed_path_is_fatal(path: str) -> None:
    for message in (
        {"type": "Mutation", "requestId": 0, "udfPath": path, "args": [{}]},
        {"type": "Action", "requestId": 0, "udfPath": path, "args": [{}]},
        {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add(0, path)]},
    ):
        client = Client()
        client.receive(message)
        assert client.outlet.sent[-1]["error"].startswith("Received Invalid JSON on websocket: ")
        assert client.outlet.closed == (None, "")


def test_journals_pass_through() -> None:
    client = Client()
    client.modify(add(0, journal="kept"), add(1, journal=None), add(2))
    assert [handle.journal for handle in client.live.open] == ["kept", None, None]


def test_a_journal_goes_to_the_client_and_into_the_next_subscription() -> None:
    client = Client()
    client.modify(add(0, journal="first"))
    (handle,) = client.live.open
    assert handle.call.journal == "first"
    handle.result = value(["page"], journal="second")
    (modification,) = client.transition(1000)["modifications"]
    assert modification["journal"] == "second"
    client.authenticate("Admin", ADMIN_KEY)  # before a result under the new identity
    client.authenticate("None")
    assert [handle.journal for handle in client.live.handles] == ["first", "second", "second"]
    (handle,) = client.live.open
    handle.result = msgspec.structs.replace(failed("boom"), journal="third")
    (modification,) = client.transition(1001)["modifications"]
    assert (modification["type"], modification["journal"]) == ("QueryFailed", "third")


@pytest.mark.parametrize("kind", ["Mutation", "Action"])
def test_a_component_needs_an_admin_key(kind: str) -> None:
    message = {"type": kind, "requestId": 0, "udfPath": "a:b", "args": [{}], "componentPath": "waitlist"}
    stranger = Client()
    stranger.receive(message)
    assert stranger.outlet.sent == []
    assert stranger.outlet.closed == (1011, "InternalServerError")
    admin = Client()
    admin.authenticate("Admin", ADMIN_KEY)
    admin.receive(message)
    assert admin.outlet.closed is None
    submitted = admin.mutations.submitted if kind == "Mutation" else admin.mutations.actions
    assert [call.component for call, _ in submitted] == ["waitlist"]


ACTION = {"type": "Action", "requestId": 9, "udfPath": "a:b", "args": [{}]}


@pytest.mark.parametrize("what", ["mutate", "modify", "action", "transition"])
def test_an_expired_identity_ends_the_connection_with_the_version_last_sent(what: str) -> None:
    client = Client(expires_ns=1_700_000_060_000_000_000)
    client.connect()
    client.authenticate("Admin", ADMIN_KEY)
    client.modify(add(0))
    client.live.open[0].result = value("a")
    client.transition(1000)
    client.mutate(0)
    client.answer(success(1001))
    client.clock.ns = 1_700_000_060_000_000_000
    before = len(client.outlet.sent)
    if what == "mutate":
        client.mutate(1)
    elif what == "modify":
        client.modify()
    elif what == "action":
        client.receive(ACTION)
    else:
        client.settle(1001)
    assert client.outlet.sent[before:] == [
        {
            "type": "AuthError",
            "error": "Convex token identity expired",
            "baseVersion": 1,
            "authUpdateAttempted": False,
        }
    ]
    assert client.outlet.closed == (None, "")
    assert client.live.open == []
    assert len(client.mutations.submitted) == 1


def test_a_new_token_in_time_goes_on() -> None:
    client = Client(expires_ns=1_700_000_060_000_000_000)
    client.authenticate("Admin", ADMIN_KEY)
    client.authenticate("None")
    client.clock.ns += 3600 * 10**9
    client.mutate(0)
    client.receive(ACTION)
    assert client.outlet.closed is None


def test_a_mutation_that_is_not_answered_closes_the_connection() -> None:
    client = Client(mutation_seconds=60)
    client.connect()
    assert client.session.watch(0.0) is None
    client.mutate(0)
    client.mutate(1)
    assert client.session.watch(10.0) == 60
    assert client.session.watch(65.0) == 5
    client.mutations.submitted[0][1](success(1001))
    assert client.session.watch(69.0) == 60  # the next one's time begins
    assert client.session.watch(128.0) == 1
    client.answer(success(1002))
    assert client.session.watch(129.0) is None
    client.mutate(2)
    assert client.session.watch(500.0) == 60
    assert client.session.watch(560.0) is None
    assert client.outlet.closed == (1013, "SystemTimeoutError")
    client.answer(success(1003))  # too late: the client asks again, and gets it then
    assert [m["requestId"] for m in client.outlet.sent if m["type"] == "MutationResponse"] == [0, 1]


def test_large_transitions_are_cut_for_clients_that_take_parts() -> None:
    content = "é" * (MAX_TRANSITION_CHUNK_BYTES * 3 // 4)
    for chunks in (True, False):
        client = Client(chunks=chunks)
        client.modify(add(0))
        client.live.open[0].result = value(content)
        sent = client.settle(1000)
        if not chunks:
            assert [m["type"] for m in sent] == ["Transition"]
            continue
        assert [m["type"] for m in sent] == ["TransitionChunk"] * 2
        assert [(m["partNumber"], m["totalParts"]) for m in sent] == [(0, 2), (1, 2)]
        assert len({m["transitionId"] for m in sent}) == 1
        whole = json.loads("".join(m["chunk"] for m in sent))
        assert whole["modifications"][0]["value"] == content


def test_text_that_is_no_utf8_still_leaves() -> None:
    client = subscribed("a")
    (handle,) = client.live.open
    handle.result = failed("lone \ud800 surrogate", version=2)
    (modification,) = client.transition(1001)["modifications"]
    assert modification["errorMessage"].endswith("lone ? surrogate")


def test_finishing_waits_for_answers_and_their_transition() -> None:
    client = subscribed("a")
    client.mutate(0)
    client.session.finish(1001, "bye")
    client.mutate(1)  # too late
    client.answer(success(1005))
    assert client.outlet.closed is None
    client.transition(1005)
    assert client.outlet.closed == (1001, "bye")
    assert len(client.mutations.submitted) == 1


def test_finishing_a_quiet_session_closes_at_once() -> None:
    client = subscribed("a")
    client.session.finish(1001, "bye")
    assert client.outlet.closed == (1001, "bye")


def test_a_gone_socket_lets_go_of_everything() -> None:
    client = subscribed("a", "b")
    client.mutate(0)
    client.mutate(1)
    client.session.closed()
    assert client.live.open == []
    client.answer(success(1001))
    assert len(client.mutations.submitted) == 1
    assert client.settle(1001) == []


@pytest.mark.parametrize("client_ts", [1e300, -1e300, 10**40, 0, 0.5])
def test_any_client_clock_can_be_answered(client_ts: float) -> None:
    client = Client()
    client.connect(clientTs=client_ts)
    client.modify()
    client.transition(1000)


SCALARS = st.none() | st.booleans() | st.integers(0, 5) | st.text(max_size=5) | st.just(SESSION_ID)
CHANGES = st.one_of(
    st.builds(add, st.integers(0, 3), st.sampled_from(["m:f", "", "_system/a:b", "a//b"]), componentPath=SCALARS),
    st.builds(remove, st.integers(0, 3)),
)
ANYTHING = st.fixed_dictionaries(
    {"type": st.sampled_from(["Connect", "ModifyQuerySet", "Mutation", "Action", "Authenticate", "Event", "Ping"])},
    optional={
        "sessionId": SCALARS,
        "connectionCount": SCALARS,
        "maxObservedTimestamp": SCALARS | st.sampled_from([encode_ts(0), encode_ts(2**63 - 1)]),
        "clientTs": SCALARS | st.floats(),
        "baseVersion": st.integers(0, 2),
        "newVersion": st.integers(0, 3),
        "modifications": st.lists(CHANGES, max_size=4),
        "requestId": st.integers(0, 3),
        "udfPath": st.sampled_from(["m:f", "", "_system/a:b", "a//b"]) | st.text(max_size=9),
        "args": st.sampled_from([[{}], [], [1], [{"a": [None]}]]),
        "componentPath": SCALARS,
        "tokenType": st.sampled_from(["User", "Admin", "None"]),
        "value": SCALARS | st.just(ADMIN_KEY),
        "impersonating": st.dictionaries(st.text(max_size=5) | st.just("issuer"), SCALARS, max_size=3),
        "eventType": SCALARS,
    },
)


@given(st.lists(ANYTHING, max_size=12))
def test_nothing_a_client_says_raises_or_is_answered_out_of_turn(messages: list[dict[str, object]]) -> None:
    client = Client()
    asked: list[object] = []
    for message in messages:
        try:
            decoded = decode_client_message(json.dumps(message))
        except ProtocolError:
            continue
        is_open = client.outlet.closed is None
        client.session.receive(decoded)
        if is_open and message["type"] in ("Mutation", "Action"):
            asked.append(message["requestId"])
        for handle in client.live.open:
            handle.result = handle.result or value(1)
        client.settle(1000)
        if client.outlet.closed is None and client.mutations.submitted:
            client.mutations.submitted.pop()[1](success(1000))
        if client.outlet.closed is None and client.mutations.actions:
            client.mutations.actions.pop()[1](success(1000))
    answered = [m["requestId"] for m in client.outlet.sent if m["type"].endswith("Response")]
    assert answered == asked[: len(answered)]
    assert len(asked) - len(answered) <= (client.outlet.closed is not None)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 5)),
        st.tuples(st.just("remove"), st.integers(0, 5)),
        st.tuples(st.just("change"), st.integers(0, 3)),
        st.tuples(st.just("settle"), st.integers(0, 2)),
        st.tuples(st.just("mutate"), st.just(0)),
        st.tuples(st.just("answer"), st.booleans()),
        st.tuples(st.just("authenticate"), st.booleans()),
        st.tuples(st.just("slow"), st.integers(0, 3)),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_a_client_that_applies_every_transition_ends_where_the_server_is(steps: list[tuple[str, int]]) -> None:
    """The client's view: versions chain, ids ascend, answered mutations are covered, and no result is missed."""
    client = Client(transitions_unsent=2)
    client.connect()
    live: dict[int, object] = {}
    shown: dict[int, object] = {}
    version, covered, ts, request, counter = ZERO, 0, 1000, 0, 0

    def apply(messages: list[dict[str, object]]) -> None:
        nonlocal version
        for message in messages:
            assert message["type"] == "Transition"
            assert message["startVersion"] == version
            version = message["endVersion"]
            assert ts >= covered
            ids = [m["queryId"] for m in message["modifications"]]
            assert ids == sorted(set(ids))
            for modification in message["modifications"]:
                if modification["type"] == "QueryRemoved":
                    shown.pop(modification["queryId"], None)
                else:
                    assert shown.get(modification["queryId"]) != modification["value"]
                    shown[modification["queryId"]] = modification["value"]

    def settle() -> None:
        for handle in client.live.open:
            if handle.result is None:
                handle.result = value(live[json.loads(bytes(handle.call.args))["n"]])
        apply(client.settle(ts))

    for name, number in steps:
        if name == "add" and number not in live:
            live[number] = f"value {number}"
            client.modify(add(number, args={"n": number}))
        elif name == "remove" and number in live:
            del live[number]
            shown.pop(number, None)  # a client forgets the value with the query
            client.modify(remove(number))
        elif name == "change" and live:
            changed = sorted(live)[number % len(live)]
            counter += 1
            live[changed] = f"value {counter % 3}"
            ts += 1
            for handle in client.live.open:
                if handle.result is not None and json.loads(bytes(handle.call.args))["n"] == changed:
                    handle.result = value(live[changed], version=counter)
        elif name == "settle":
            ts += number
            settle()
        elif name == "mutate":
            client.mutate(request)
            request += 1
        elif name == "answer" and client.session._unanswered:
            if number:
                ts += 1
                covered = ts
                client.answer(success(ts))
            else:
                client.answer(Failure(message="no", detail="no", ts=ts))
        elif name == "authenticate":
            client.authenticate(*(["Admin", ADMIN_KEY] if number else ["None"]))
        elif name == "slow":
            client.outlet.transitions = number
    client.outlet.transitions = 0
    client.session.drained()
    settle()
    assert shown == live
    assert version == {"querySet": client.query_set, "identity": client.identity, "ts": encode_ts(ts)} or not (
        client.outlet.sent
    )


# Tokens of users.

ANN, BOB = user_identity({"subject": "ann"}), user_identity({"subject": "bob"})
DOWN = AuthProviderUnavailable("Auth provider discovery of https://i failed", ": refused")


def held(client: Client) -> bool:
    """Whether the connection gives the session nothing at the moment."""
    return client.session.queued_bytes > client.limits.message_bytes


def test_a_token_whose_key_is_known_takes_effect_at_once() -> None:
    client = subscribed("a")
    client.tokens.known["ann"] = ANN
    client.authenticate("User", "ann")
    assert not held(client)
    client.mutate(0)
    assert client.mutations.submitted[-1][0].identity is ANN
    (handle,) = client.live.open
    assert handle.call.identity is ANN
    handle.result = value("b")
    message = client.transition(1000)
    assert (message["startVersion"]["identity"], message["endVersion"]["identity"]) == (0, 1)
    assert message["modifications"][0]["value"] == "b"


def test_nothing_behind_a_token_is_taken_before_it_is_checked() -> None:
    client = subscribed("a")
    client.mutate(0)
    client.authenticate("User", "ann")
    assert held(client)
    assert client.live.asked == 0, "nothing has changed yet"
    client.live.open[0].result = value("b", version=2)
    assert client.transition(1001)["endVersion"]["identity"] == 0, "what was asked before goes on"
    client.answer(success(1002))
    assert client.outlet.sent[-1]["type"] == "MutationResponse"
    woken = client.outlet.woken

    client.tokens.answer("ann", ANN)

    assert not held(client)
    assert client.outlet.woken == woken + 1
    assert client.live.asked
    client.mutate(1)
    assert [call.identity for call, _ in client.mutations.submitted] == [ANONYMOUS, ANN]


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("error", [NO_PROVIDER, AuthProviderFailed("Auth provider discovery of https://i failed")])
def test_a_refused_token_ends_the_connection_so_that_the_client_gets_another(is_known: bool, error: Error) -> None:
    client = subscribed("a")
    if is_known:
        client.tokens.known["bad"] = error
    client.authenticate("User", "bad")
    if not is_known:
        client.tokens.answer("bad", error)
    assert client.outlet.sent[-1] == {
        "type": "AuthError",
        "error": str(error),
        "baseVersion": 0,
        "authUpdateAttempted": True,
    }
    assert client.outlet.closed == (None, "")
    assert not held(client)


@pytest.mark.parametrize(
    ("error", "ending"),
    [(DOWN, (1013, "AuthProviderUnavailable")), (Error("bug"), (1011, "InternalServerError"))],
)
def test_a_token_that_can_not_be_checked_is_not_refused(error: Error, ending: tuple[int, str]) -> None:
    client = subscribed("a")
    before = len(client.outlet.sent)
    client.authenticate("User", "ann")
    client.tokens.answer("ann", error)
    assert client.outlet.sent[before:] == []
    assert client.outlet.closed == ending


def test_each_token_has_the_version_of_its_turn() -> None:
    client = subscribed("a")
    for number, identity in enumerate([ANN, BOB, ANN]):
        client.authenticate("User", str(number))
        client.tokens.answer(str(number), identity)
    client.live.open[0].result = value("a")
    assert client.transition(1000)["endVersion"]["identity"] == 3
    assert [handle.call.identity for handle in client.live.open] == [ANN]
    client.authenticate("None")
    client.mutate(0)
    assert client.mutations.submitted[-1][0].identity is ANONYMOUS


def test_a_connection_that_ends_takes_its_check_back() -> None:
    client = subscribed("a")
    client.authenticate("User", "ann")
    done = client.tokens.checks["ann"]
    client.session.closed()
    assert client.tokens.checks == {}
    done(ANN)
    assert client.live.open == []


def test_a_shutdown_does_not_wait_for_an_issuer() -> None:
    client = subscribed("a")
    client.mutate(0)
    client.authenticate("User", "ann")
    client.session.finish(1001, "ServerShuttingDown")
    assert client.tokens.checks == {}
    assert client.outlet.closed is None
    client.answer(success(1001))
    client.live.open[0].result = value("a")
    client.transition(1001)
    assert client.outlet.closed == (1001, "ServerShuttingDown")


def test_an_identity_that_can_not_be_taken_ends_only_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    client = subscribed("a")
    client.authenticate("User", "ann")
    monkeypatch.setattr(client.live, "subscribe", lambda *_: 1 / 0)
    client.tokens.answer("ann", ANN)
    assert client.outlet.closed == (1011, "InternalServerError")


def expiring(seconds: int) -> Client:
    """A client whose token is good for so long."""
    client = subscribed("a")
    client.tokens.known["ann"] = msgspec.structs.replace(ANN, expires_ns=client.clock.ns + seconds * 10**9)
    client.authenticate("User", "ann")
    client.live.open[0].result = value("a")
    client.transition(1000)
    return client


def test_a_quiet_connection_ends_when_its_token_expires() -> None:
    client = expiring(60)
    ((when_ns, expire),) = client.clock.alarms
    assert when_ns == client.clock.ns + 60 * 10**9
    client.clock.ns = when_ns
    expire()
    assert client.outlet.sent[-1] == {
        "type": "AuthError",
        "error": "Convex token identity expired",
        "baseVersion": 1,
        "authUpdateAttempted": False,
    }
    assert client.outlet.closed == (None, "")


@pytest.mark.parametrize("how", ["refreshed", "cleared", "closed"])
def test_an_expiry_that_does_not_matter_any_more_is_forgotten(how: str) -> None:
    client = expiring(60)
    client.tokens.known["fresh"] = msgspec.structs.replace(ANN, expires_ns=client.clock.ns + 3600 * 10**9)
    if how == "refreshed":
        client.authenticate("User", "fresh")
        assert [when_ns for when_ns, _ in client.clock.alarms] == [client.clock.ns + 3600 * 10**9]
        client.clock.ns += 61 * 10**9
        client.mutate(0)
        assert client.outlet.closed is None
    elif how == "cleared":
        client.authenticate("None")
        assert client.clock.alarms == []
    else:
        client.session.closed()
        assert client.clock.alarms == []


def test_an_alarm_that_comes_early_is_looked_into() -> None:
    client = expiring(60)
    client.clock.alarms[0][1]()
    assert client.outlet.closed is None
