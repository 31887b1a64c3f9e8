"""Messages of the sync protocol: what official clients sent decodes, and nothing a client sends can do harm."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from reactor.errors import ProtocolError
from reactor.protocol.sync import (
    MAX_TS,
    NULL,
    ZERO_TS,
    Action,
    Add,
    Authenticate,
    Connect,
    Event,
    ModifyQuerySet,
    Mutation,
    MutationResponse,
    QueryUpdated,
    StateVersion,
    Transition,
    TransitionChunk,
    decode_client_message,
    decode_server_message,
    decode_ts,
    encode_client_message,
    encode_server_message,
    encode_text,
    encode_ts,
    split_transition,
)

SCENARIOS = json.loads((Path(__file__).parents[1] / "vectors" / "sync-frames.json").read_text())["scenarios"]


def frames(sender: str) -> list[Any]:
    found = [
        pytest.param(frame["message"], id=f"{scenario['name']}-{position}")
        for scenario in SCENARIOS
        for position, frame in enumerate(scenario["frames"])
        if frame["from"] == sender
    ]
    assert found
    return found


CLIENT_MESSAGES = [parameter.values[0] for parameter in frames("client")]


@pytest.mark.parametrize("message", frames("client"))
def test_every_captured_client_frame_survives_both_directions(message: dict[str, Any]) -> None:
    decoded = decode_client_message(json.dumps(message))
    assert json.loads(encode_client_message(decoded)) == message


def with_optional_fields(message: dict[str, Any]) -> dict[str, Any]:
    """Fill in what may be absent and what we always send."""
    if message["type"] == "Transition":
        message = {"clientClockSkew": None, "serverTs": None} | message
        message["modifications"] = [
            change if change["type"] == "QueryRemoved" else {"logLines": [], "journal": None} | change
            for change in message["modifications"]
        ]
    if message["type"] == "MutationResponse":
        message = {"ts": None, "logLines": []} | message
    return message


@pytest.mark.parametrize("message", frames("server"))
def test_every_captured_server_frame_survives_both_directions(message: dict[str, Any]) -> None:
    if message["type"] == "FutureThing":
        with pytest.raises(ProtocolError, match="FutureThing") as refusal:
            decode_server_message(json.dumps(message))
        assert refusal.value.rule == "InvalidServerMessage"
    else:
        decoded = decode_server_message(json.dumps(message))
        assert with_optional_fields(json.loads(encode_server_message(decoded))) == with_optional_fields(message)


def test_arguments_pass_through_as_they_were_written() -> None:
    decoded = decode_client_message('{"args":[ {"b": 1.50,"a":{"$integer":"CgAAAAAAAAA="}} ],"requestId":7,'
                                    '"udfPath":"m:f","type":"Mutation","later":{"x":[1]}}')  # fmt: skip
    assert isinstance(decoded, Mutation)
    assert decoded.request_id == 7
    assert bytes(decoded.args[0]) == b'{"b": 1.50,"a":{"$integer":"CgAAAAAAAAA="}}'


MUTATION = {"type": "Mutation", "requestId": 0, "udfPath": "m:f", "args": [{}]}
CONNECT = {"type": "Connect", "sessionId": "b1350d76-3c69-4e7e-8fa0-bc64ddce0796", "connectionCount": 0}
QUERY_SET = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []}
ADD = {"type": "Add", "queryId": 0, "udfPath": "m:f", "args": [{}]}


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        (MUTATION | {"args": []}, "length 1"),
        (MUTATION | {"args": [{}, {}]}, "length 1"),
        (MUTATION | {"args": {}}, "array"),
        (MUTATION | {"args": [[]]}, "object"),
        (MUTATION | {"args": ["{"]}, "object"),
        (MUTATION | {"type": "Action", "args": [None]}, "object"),
        (MUTATION | {"requestId": -1}, ">= 0"),
        (MUTATION | {"requestId": 2**32}, "<= 4294967295"),
        (MUTATION | {"requestId": 2**64}, "requestId"),
        (MUTATION | {"requestId": "0"}, "int"),
        (MUTATION | {"udfPath": None}, "str"),
        (MUTATION | {"type": "Transition"}, "Transition"),
        (MUTATION | {"type": None}, "str"),
        ({"requestId": 0}, "type"),
        ([], "object"),
        (CONNECT | {"sessionId": "b1350d76"}, "sessionId"),
        (CONNECT | {"sessionId": CONNECT["sessionId"] + "\n"}, "sessionId"),
        (CONNECT | {"maxObservedTimestamp": "AAAA"}, "timestamp"),
        (CONNECT | {"maxObservedTimestamp": "//////////8="}, "timestamp"),
        (QUERY_SET | {"newVersion": 0}, "newVersion"),
        (QUERY_SET | {"modifications": [ADD | {"args": [1]}]}, r"modifications\[0\]"),
        (QUERY_SET | {"modifications": [ADD | {"args": []}]}, "length 1"),
        (QUERY_SET | {"modifications": [MUTATION]}, "Mutation"),
        ({"type": "Authenticate", "baseVersion": 0, "tokenType": "User"}, "value"),
        ({"type": "Authenticate", "baseVersion": 0, "tokenType": "Guest", "value": "x"}, "Guest"),
    ],
)
def test_a_frame_against_the_protocol_is_named(message: Any, detail: str) -> None:
    with pytest.raises(ProtocolError, match=r"^Received Invalid JSON on websocket: ") as refusal:
        decode_client_message(json.dumps(message))
    assert refusal.value.rule == "WSMessageInvalidJson"
    with pytest.raises(ProtocolError, match=detail):
        decode_client_message(json.dumps(message).encode())


def only_protocol_errors(text: str | bytes) -> None:
    try:
        message = decode_client_message(text)
    except ProtocolError:
        return
    assert isinstance(message, Connect | ModifyQuerySet | Mutation | Action | Authenticate | Event)
    encode_client_message(message)


@given(st.binary())
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    only_protocol_errors(data)


@given(st.text(alphabet=st.characters()) | st.text(alphabet='{}[]",:\\ud80nulltrefas0123456789.eE+- '))
def test_no_text_raises_anything_else(text: str) -> None:
    only_protocol_errors(text)


@pytest.mark.parametrize(
    "head", ["", '{"type":"Mutation","requestId":0,"udfPath":"a","args":[', '{"type":"Event","event":']
)
@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_no_nesting_raises_anything_else(head: str, bracket: str) -> None:
    with pytest.raises(ProtocolError):
        decode_client_message(head + bracket * 200_000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spoilt_messages(draw: st.DrawFn) -> str:
    """A captured frame with one part somewhere in it replaced, removed or cut off."""
    message = json.loads(json.dumps(draw(st.sampled_from(CLIENT_MESSAGES))))
    part = message
    while True:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = draw(st.sampled_from(keys))
        inner = part[key]
        if not (isinstance(inner, dict | list) and inner and draw(st.booleans())):
            break
        part = inner
    if draw(st.booleans()):
        part[key] = draw(JSON)
    else:
        del part[key]
    text = json.dumps(message)
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 4)) == 0 else text


@given(spoilt_messages())
def test_no_spoilt_frame_raises_anything_else(text: str) -> None:
    only_protocol_errors(text)


@given(st.integers(0, MAX_TS))
def test_timestamps_survive(ts: int) -> None:
    assert decode_ts(encode_ts(ts)) == ts


def test_timestamps_have_the_form_of_the_reference() -> None:
    assert encode_ts(0) == ZERO_TS
    assert encode_ts(1_700_000_000_000_000_000) == "AAAqNv6clxc="
    assert decode_ts("6AMqNv6clxc=") == 1_700_000_000_000_001_000


@given(st.text() | st.text(alphabet="AZaz09+/=", max_size=14))
def test_no_timestamp_text_raises_anything_else(text: str) -> None:
    try:
        assert 0 <= decode_ts(text) <= MAX_TS
    except ProtocolError:
        pass


def test_what_is_optional_for_a_server_to_send() -> None:
    response = MutationResponse(request_id=1, success=False, result=encode_text('say "no"'), error_data=NULL)
    assert json.loads(encode_server_message(response)) == {
        "type": "MutationResponse",
        "requestId": 1,
        "success": False,
        "result": 'say "no"',
        "ts": None,
        "logLines": [],
        "errorData": None,
    }
    assert b"errorData" not in encode_server_message(msgspec.structs.replace(response, error_data=UNSET))


def test_an_absent_journal_is_not_a_null_one() -> None:
    message = QUERY_SET | {"modifications": [ADD, ADD | {"journal": None}, ADD | {"journal": "j"}]}
    decoded = decode_client_message(json.dumps(message))
    assert isinstance(decoded, ModifyQuerySet)
    assert [change.journal for change in decoded.modifications if isinstance(change, Add)] == [UNSET, None, "j"]


@pytest.mark.parametrize("key", ["impersonating", "acting_as"])
def test_both_spellings_of_the_identity_an_admin_acts_as(key: str) -> None:
    message = {"type": "Authenticate", "baseVersion": 0, "tokenType": "Admin", "value": "k", key: {"subject": "a"}}
    decoded = decode_client_message(json.dumps(message))
    assert isinstance(decoded, Authenticate)
    assert decoded.acts_as == {"subject": "a"}


@given(st.text(max_size=200), st.integers(4, 64))
def test_chunks_join_to_the_transition_they_carry(text: str, limit: int) -> None:
    change = QueryUpdated(query_id=0, value=Raw(json.dumps(text, ensure_ascii=False).encode(errors="replace")))
    data = encode_server_message(Transition(StateVersion(), StateVersion(query_set=1), [change]))
    chunks = [decode_server_message(frame) for frame in split_transition(data, limit)]
    assert all(isinstance(chunk, TransitionChunk) for chunk in chunks)
    assert "".join(chunk.chunk for chunk in chunks).encode() == data  # type: ignore[union-attr]
    assert all(len(chunk.chunk.encode()) <= limit for chunk in chunks)  # type: ignore[union-attr]
    assert [(chunk.part_number, chunk.total_parts) for chunk in chunks] == [  # type: ignore[union-attr]
        (number, len(chunks)) for number in range(len(chunks))
    ]


@given(st.binary())
def test_no_bytes_of_a_server_raise_anything_else(data: bytes) -> None:
    try:
        decode_server_message(data)
    except ProtocolError:
        pass
