"""The rules of the session one by one, frame by frame."""

import json
from typing import Any

import pytest
from msgspec import Raw

from reactor.client.outcome import Outcome
from reactor.client.session import (
    MAX_UNANSWERED,
    Answered,
    Ended,
    QueryChanged,
    Session,
    TokenAccepted,
    TokenRefused,
)
from reactor.errors import ConnectionLost, FunctionError, ProtocolError, ReactorError
from reactor.protocol.sync import (
    ActionResponse,
    AuthError,
    FatalError,
    MutationResponse,
    Ping,
    QueryFailed,
    QueryRemoved,
    QueryUpdated,
    ServerMessage,
    StateVersion,
    Transition,
    TransitionChunk,
    encode_server_message,
    encode_text,
    encode_ts,
    split_transition,
)
from reactor.values.types import Int64

SESSION_ID = "b1350d76-3c69-4e7e-8fa0-bc64ddce0796"


class Peer:
    """The server's end of one session, driven by hand."""

    def __init__(self) -> None:
        self.session = Session(SESSION_ID)
        self.version = StateVersion()

    def opened(self) -> list[dict[str, Any]]:
        self.version = StateVersion()
        self.session.opened(1234)
        return self.sent()

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.session.take_frames()]

    def give(self, message: ServerMessage) -> list[Any]:
        return list(self.session.receive(encode_server_message(message)))

    def transition(self, *changes: Any, query_set: int = 1, identity: int = 0, ts: int = 10) -> list[Any]:
        start, self.version = self.version, StateVersion(query_set, identity, encode_ts(ts))
        return self.give(Transition(start, self.version, changes))


@pytest.fixture
def peer() -> Peer:
    return Peer()


def types(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


def test_a_connection_opens_with_connect_and_an_empty_query_set(peer: Peer) -> None:
    assert peer.opened() == [
        {
            "type": "Connect",
            "sessionId": SESSION_ID,
            "connectionCount": 0,
            "lastCloseReason": "InitialConnect",
            "clientTs": 1234,
        },
        {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []},
    ]
    assert peer.sent() == []


def test_a_reconnect_repeats_the_session(peer: Peer) -> None:
    peer.opened()
    query = peer.session.subscribe("m:list", b'{"a":1.0}')
    peer.transition(QueryUpdated(query, Raw(b"1"), journal="j"), ts=7)
    peer.session.set_token("jwt")
    answered, waiting = peer.session.mutate("m:one"), peer.session.mutate("m:two")
    peer.sent()
    peer.give(MutationResponse(answered, True, Raw(b"null"), encode_ts(9)))
    peer.session.closed("closed with code 1006")
    offline = peer.session.mutate("m:three")

    assert peer.opened() == [
        {
            "type": "Connect",
            "sessionId": SESSION_ID,
            "connectionCount": 1,
            "lastCloseReason": "closed with code 1006",
            "maxObservedTimestamp": encode_ts(9),
            "clientTs": 1234,
        },
        {"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "jwt"},
        {
            "type": "ModifyQuerySet",
            "baseVersion": 0,
            "newVersion": 1,
            "modifications": [
                {"type": "Add", "queryId": query, "udfPath": "m:list", "args": [{"a": 1.0}], "journal": "j"}
            ],
        },
        {"type": "Mutation", "requestId": waiting, "udfPath": "m:two", "args": [{}]},
        {"type": "Mutation", "requestId": offline, "udfPath": "m:three", "args": [{}]},
    ]
    assert [event.request_id for event in peer.transition(ts=9, identity=1) if isinstance(event, Answered)] == [
        answered
    ]


def test_equal_live_queries_are_one_query_until_the_last_is_gone(peer: Peer) -> None:
    peer.opened()
    first, second = peer.session.subscribe("m:list"), peer.session.subscribe("m:list")
    other = peer.session.subscribe("m:list", shared=False)
    assert first == second != other
    assert [change["queryId"] for change in peer.sent()[0]["modifications"]] == [first, other]
    peer.session.unsubscribe(first)
    assert peer.sent() == []
    peer.session.unsubscribe(second)
    assert peer.sent() == [
        {
            "type": "ModifyQuerySet",
            "baseVersion": 2,
            "newVersion": 3,
            "modifications": [{"type": "Remove", "queryId": first}],
        }
    ]
    assert peer.session.subscribe("m:list") not in (first, other)


def test_a_query_that_was_never_sent_leaves_without_a_trace(peer: Peer) -> None:
    peer.opened()
    peer.session.unsubscribe(peer.session.subscribe("m:list"))
    assert peer.sent() == []


def test_a_result_that_crossed_with_its_removal_is_ignored(peer: Peer) -> None:
    peer.opened()
    query = peer.session.subscribe("m:list")
    peer.sent()
    peer.session.unsubscribe(query)
    assert peer.transition(QueryUpdated(query, Raw(b"1")), query_set=2) == []
    assert peer.transition(QueryRemoved(query), query_set=3) == []


def test_a_mutation_succeeds_with_the_transition_that_shows_it(peer: Peer) -> None:
    peer.opened()
    query = peer.session.subscribe("m:list")
    mutation = peer.session.mutate("m:add")
    peer.sent()
    assert peer.give(MutationResponse(mutation, True, Raw(b'"id"'), encode_ts(20))) == []
    assert peer.transition(ts=19) == []
    changed, answered = peer.transition(QueryUpdated(query, Raw(b"[1.0]")), ts=20)
    assert isinstance(changed, QueryChanged)
    assert changed.outcome.unwrap() == [1.0]
    assert isinstance(answered, Answered)
    assert answered.outcome.unwrap() == "id"


def test_a_mutation_shown_before_its_response_succeeds_with_the_response(peer: Peer) -> None:
    peer.opened()
    mutation = peer.session.mutate("m:add")
    peer.sent()
    assert peer.transition(ts=20) == []
    (answered,) = peer.give(MutationResponse(mutation, True, Raw(b"null"), encode_ts(20)))
    assert answered.outcome.unwrap() is None


def test_an_identity_confirmed_before_the_queries_shows_no_mutation(peer: Peer) -> None:
    peer.opened()
    query = peer.session.subscribe("m:list")
    mutation = peer.session.mutate("m:add")
    peer.sent()
    peer.transition(QueryUpdated(query, Raw(b"[]")), query_set=2, ts=5)
    peer.give(MutationResponse(mutation, True, Raw(b"null"), encode_ts(9)))
    peer.session.closed(None)
    peer.session.set_token("jwt")
    peer.opened()
    assert peer.transition(query_set=0, identity=1, ts=9) == [TokenAccepted()]
    changed, answered = peer.transition(QueryUpdated(query, Raw(b"[1.0]")), identity=1, ts=9)
    assert isinstance(changed, QueryChanged)
    assert isinstance(answered, Answered)


def test_a_failure_is_told_at_once(peer: Peer) -> None:
    peer.opened()
    one, two = peer.session.mutate("m:add"), peer.session.act("m:do")
    peer.sent()
    message = "[Request ID: 0123456789abcdef] Server Error\nUncaught Error: no"
    (first,) = peer.give(MutationResponse(one, False, encode_text(message), log_lines=["[LOG] 'x'"]))
    with pytest.raises(FunctionError, match="Uncaught Error: no") as failure:
        first.outcome.unwrap()
    assert failure.value.request_id == "0123456789abcdef"
    assert failure.value.log_lines == ("[LOG] 'x'",)
    (second,) = peer.give(
        ActionResponse(two, False, encode_text(message), error_data=Raw(b'{"n":{"$integer":"CgAAAAAAAAA="}}'))
    )
    with pytest.raises(ReactorError) as raised:
        second.outcome.unwrap()
    assert raised.value.data == {"n": Int64(10)}


def test_null_is_data_of_an_application_error(peer: Peer) -> None:
    peer.opened()
    query = peer.session.subscribe("m:list")
    (changed,) = peer.transition(QueryFailed(query, "no", error_data=Raw(b"null")))
    with pytest.raises(ReactorError) as raised:
        changed.outcome.unwrap()
    assert raised.value.data is None


def test_answers_nobody_waits_for_are_ignored(peer: Peer) -> None:
    peer.opened()
    mutation = peer.session.mutate("m:add")
    peer.sent()
    assert peer.give(MutationResponse(99, True, Raw(b"1"), encode_ts(5))) == []
    assert peer.give(MutationResponse(mutation, True, Raw(b"1.0"), encode_ts(5))) == []
    assert peer.give(MutationResponse(mutation, False, encode_text("second"))) == []
    (answered,) = peer.transition(ts=5)
    assert answered.outcome.unwrap() == 1.0


def test_an_action_in_flight_is_lost_with_its_connection_and_a_waiting_one_is_not(peer: Peer) -> None:
    peer.opened()
    sent = peer.session.act("m:do")
    peer.sent()
    waiting = peer.session.act("m:do")
    (lost,) = peer.session.closed(None)
    assert lost.request_id == sent  # type: ignore[union-attr]
    with pytest.raises(ConnectionLost):
        lost.outcome.unwrap()  # type: ignore[union-attr]
    assert [frame["requestId"] for frame in peer.opened() if frame["type"] == "Action"] == [waiting]


def test_only_what_was_never_sent_can_be_abandoned(peer: Peer) -> None:
    waiting = peer.session.mutate("m:add")
    assert peer.session.abandon(waiting)
    assert not peer.session.abandon(waiting)
    assert types(peer.opened()) == ["Connect", "ModifyQuerySet"]
    sent = peer.session.mutate("m:add")
    peer.sent()
    assert not peer.session.abandon(sent)


def test_identity_changes_between_the_calls_around_it(peer: Peer) -> None:
    peer.opened()
    peer.session.mutate("m:before")
    peer.session.set_token("jwt")
    peer.session.mutate("m:after")
    peer.session.set_token(None)
    frames = peer.sent()
    assert [frame.get("udfPath") or frame["tokenType"] for frame in frames] == ["m:before", "User", "m:after", "None"]
    assert [frame["baseVersion"] for frame in frames if frame["type"] == "Authenticate"] == [0, 1]
    assert peer.transition(identity=1) == []
    assert peer.transition(identity=2) == [TokenAccepted()]


def test_nobody_is_announced_to_a_server_that_knows_nobody(peer: Peer) -> None:
    peer.session.set_token(None)
    assert types(peer.opened()) == ["Connect", "ModifyQuerySet"]
    peer.session.set_token(None)
    assert peer.sent() == []


def test_nothing_overtakes_a_token_that_is_being_fetched(peer: Peer) -> None:
    peer.session.hold()
    peer.session.mutate("m:add")
    assert types(peer.opened()) == ["Connect"]
    peer.session.set_token("jwt")
    assert types(peer.sent()) == ["Authenticate", "ModifyQuerySet", "Mutation"]
    peer.session.mutate("m:before")
    peer.session.hold()
    peer.session.mutate("m:after")
    assert [frame["udfPath"] for frame in peer.sent()] == ["m:before"]
    peer.session.set_token("jwt2")
    assert types(peer.sent()) == ["Authenticate", "Mutation"]


def test_a_refused_token_stops_the_connection_until_the_next(peer: Peer) -> None:
    peer.session.set_token("old")
    peer.opened()
    peer.session.mutate("m:add")
    refusal = AuthError("no", base_version=0, auth_update_attempted=True)
    assert peer.give(refusal) == [TokenRefused("no")]
    assert peer.give(refusal) == []
    assert peer.sent() == []
    peer.session.closed(None)
    assert types(peer.opened()) == ["Connect"]
    peer.session.set_token("new")
    assert types(peer.sent()) == ["Authenticate", "ModifyQuerySet", "Mutation"]


@pytest.mark.parametrize("attempted", [True, False])
def test_refusals_of_a_replaced_token_mean_nothing(peer: Peer, attempted: bool) -> None:
    peer.opened()
    peer.session.set_token("one")
    peer.session.set_token("two")
    peer.sent()
    assert peer.give(AuthError("no", base_version=0, auth_update_attempted=attempted)) == []


def test_an_expired_token_is_refused(peer: Peer) -> None:
    peer.session.set_token("one")
    peer.opened()
    peer.transition(identity=1)
    assert peer.give(AuthError("expired", base_version=1, auth_update_attempted=False)) == [TokenRefused("expired")]


def test_a_fatal_error_ends_the_session(peer: Peer) -> None:
    peer.opened()
    (ended,) = peer.give(FatalError("BaseVersionMismatch"))
    assert isinstance(ended, Ended)
    assert "BaseVersionMismatch" in str(ended.error)
    assert peer.give(Ping()) == []


def test_a_transition_from_elsewhere_breaks_the_protocol(peer: Peer) -> None:
    peer.opened()
    with pytest.raises(ProtocolError) as refusal:
        peer.give(Transition(StateVersion(9), StateVersion(9)))
    assert refusal.value.rule == "StartVersionMismatch"


def test_a_transition_in_chunks_counts_as_one(peer: Peer) -> None:
    peer.opened()
    query = peer.session.subscribe("m:list")
    peer.sent()
    change = QueryUpdated(query, Raw('"äöü€"'.encode()))
    frames = split_transition(encode_server_message(Transition(StateVersion(), StateVersion(2), [change])), 32)
    assert len(frames) > 2
    events = [event for frame in frames for event in (*peer.session.receive(frame), *peer.give(Ping()))]
    assert [event.outcome.unwrap() for event in events] == ["äöü€"]  # type: ignore[union-attr]


def test_chunks_out_of_order_break_the_protocol(peer: Peer) -> None:
    peer.opened()
    peer.give(TransitionChunk("{", 0, 3, "9"))
    with pytest.raises(ProtocolError, match="order"):
        peer.give(TransitionChunk("}", 2, 3, "9"))


def test_caught_up_means_that_nothing_said_again_is_open(peer: Peer) -> None:
    assert not peer.session.is_caught_up
    peer.opened()
    assert not peer.session.is_caught_up
    peer.transition()
    assert peer.session.is_caught_up
    mutation = peer.session.mutate("m:add")
    peer.sent()
    assert peer.session.is_caught_up, "a new request says nothing about the connection"
    peer.session.closed(None)
    peer.opened()
    peer.transition()
    assert not peer.session.is_caught_up
    peer.give(MutationResponse(mutation, False, encode_text("no")))
    assert peer.session.is_caught_up


def test_a_server_never_holds_more_than_it_takes(peer: Peer) -> None:
    peer.opened()
    requests = [peer.session.mutate("m:add") for _ in range(2 * MAX_UNANSWERED)]
    assert [frame["requestId"] for frame in peer.sent()] == requests[:MAX_UNANSWERED]
    assert peer.session.has_waiting_requests
    assert peer.sent() == []
    peer.give(MutationResponse(0, True, Raw(b"null"), encode_ts(9)))
    peer.give(MutationResponse(1, False, encode_text("no")))
    assert [frame["requestId"] for frame in peer.sent()] == requests[MAX_UNANSWERED : MAX_UNANSWERED + 2]
    peer.session.closed(None)
    frames = [frame["requestId"] for frame in peer.opened() if frame["type"] == "Mutation"]
    assert frames == requests[2 : MAX_UNANSWERED + 2]


def test_dropped_requests_are_neither_sent_nor_answered(peer: Peer) -> None:
    first, second = peer.session.mutate("m:add"), peer.session.act("m:do")
    assert peer.session.drop_requests() == [first, second]
    assert types(peer.opened()) == ["Connect", "ModifyQuerySet"]
    assert peer.give(MutationResponse(first, True, Raw(b"1"), encode_ts(1))) == []


def test_something_that_is_no_value_is_the_servers_fault() -> None:
    with pytest.raises(ProtocolError) as refusal:
        Outcome(value=b'{"$integer":"x"}').unwrap()
    assert refusal.value.rule == "InvalidServerMessage"


def test_a_failure_that_is_no_text_is_shown_as_it_came(peer: Peer) -> None:
    peer.opened()
    mutation = peer.session.mutate("m:add")
    peer.sent()
    (answered,) = peer.give(MutationResponse(mutation, False, Raw(b'{"a":1}')))
    assert answered.outcome.message == '{"a":1}'
