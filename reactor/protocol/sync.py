"""The sync protocol's messages, in both directions, as tagged structs.

Owns the JSON field names and the bounds of every WebSocket message. Promises that decoding raises `ProtocolError` and
nothing else, and that arguments and results pass through as the bytes they arrived in (`msgspec.Raw`). Knows no order
of messages: that is for the sessions. Used by `server/sync` and by `client`.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from reactor.errors import ProtocolError
from reactor.limits import MAX_TRANSITION_CHUNK_BYTES

U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
SessionId = Annotated[
    str, Meta(pattern=r"\A[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z")
]
TokenType = Literal["User", "Admin", "None"]

MAX_TS: Final = 2**63 - 1
ZERO_TS: Final = "AAAAAAAAAAA="
NULL: Final = Raw(b"null")
_OPEN_BRACE: Final = ord("{")


def encode_ts(ts: int) -> str:
    """Return the wire form of a timestamp: base64 of eight little-endian bytes."""
    return b64encode(ts.to_bytes(8, "little")).decode("ascii")


def decode_ts(text: str) -> int:
    """Return the timestamp that `text` stands for.

    Raises:
        ProtocolError: `text` is not base64 of eight bytes, or is beyond 2^63 - 1.
    """
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        data = b""
    if len(data) != 8 or data[7] > 0x7F:
        raise ProtocolError(
            "WSMessageInvalidJson", f"Received Invalid JSON on websocket: invalid timestamp {text[:40]!r}"
        )
    return int.from_bytes(data, "little")


# From a client.


class Add(msgspec.Struct, tag="Add", tag_field="type", rename="camel", frozen=True, gc=False):
    """Start a live query under an id the client chose. `journal` absent means a first run."""

    query_id: U32
    udf_path: str
    args: tuple[Raw]  # exactly one, an object
    journal: str | UnsetType | None = UNSET
    component_path: str | UnsetType | None = UNSET


class Remove(msgspec.Struct, tag="Remove", tag_field="type", rename="camel", frozen=True, gc=False):
    """End a live query."""

    query_id: U32


class Connect(msgspec.Struct, tag="Connect", tag_field="type", rename="camel", frozen=True, gc=False):
    """Introduces a connection; some clients leave it out."""

    session_id: SessionId
    connection_count: U32
    last_close_reason: str | None = None
    max_observed_timestamp: str | UnsetType | None = UNSET
    client_ts: int | float | UnsetType | None = UNSET  # ms


class ModifyQuerySet(msgspec.Struct, tag="ModifyQuerySet", tag_field="type", rename="camel", frozen=True):
    """Moves the query set from `base_version` to `new_version`; `modifications` may be empty."""

    base_version: U32
    new_version: U32
    modifications: list[Add | Remove]


class Mutation(msgspec.Struct, tag="Mutation", tag_field="type", rename="camel", frozen=True, gc=False):
    """Run a mutation; (session, `request_id`) identifies it when it is sent again."""

    request_id: U32
    udf_path: str
    args: tuple[Raw]  # exactly one, an object
    component_path: str | UnsetType | None = UNSET


class Action(msgspec.Struct, tag="Action", tag_field="type", rename="camel", frozen=True, gc=False):
    """Run an action."""

    request_id: U32
    udf_path: str
    args: tuple[Raw]  # exactly one, an object
    component_path: str | UnsetType | None = UNSET


class Authenticate(msgspec.Struct, tag="Authenticate", tag_field="type", rename="camel", frozen=True):
    """Change the identity of the connection. `value` is present unless `token_type` is "None"."""

    base_version: U32
    token_type: TokenType
    value: str | UnsetType | None = UNSET
    impersonating: dict[str, Any] | UnsetType | None = UNSET
    acting_as: dict[str, Any] | UnsetType | None = msgspec.field(default=UNSET, name="acting_as")

    @property
    def acts_as(self) -> dict[str, Any] | None:
        """The identity an admin takes on, under either of the names clients use for it."""
        return self.impersonating or self.acting_as or None


class Event(msgspec.Struct, tag="Event", tag_field="type", rename="camel", frozen=True, gc=False):
    """Telemetry of a client, never answered."""

    event_type: str
    event: Raw = NULL


ClientMessage = Connect | ModifyQuerySet | Mutation | Action | Authenticate | Event


# From a server.


class StateVersion(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Where a connection stands. Both ends start every connection at zero."""

    query_set: U32 = 0
    identity: U32 = 0
    ts: str = ZERO_TS


class QueryUpdated(msgspec.Struct, tag="QueryUpdated", tag_field="type", rename="camel", frozen=True, gc=False):
    """A live query has a new value."""

    query_id: U32
    value: Raw
    log_lines: Sequence[str] = ()
    journal: str | None = None


class QueryFailed(msgspec.Struct, tag="QueryFailed", tag_field="type", rename="camel", frozen=True, gc=False):
    """A live query failed, and lives on. `error_data` is there only for the application's own errors."""

    query_id: U32
    error_message: str
    log_lines: Sequence[str] = ()
    journal: str | None = None
    error_data: Raw | UnsetType = UNSET  # null is real data


class QueryRemoved(msgspec.Struct, tag="QueryRemoved", tag_field="type", rename="camel", frozen=True, gc=False):
    """The answer to `Remove`."""

    query_id: U32


StateModification = QueryUpdated | QueryFailed | QueryRemoved


class Transition(msgspec.Struct, tag="Transition", tag_field="type", rename="camel", frozen=True):
    """One atomic step of everything the client sees; `start_version` is the `end_version` of the one before."""

    start_version: StateVersion
    end_version: StateVersion
    modifications: Sequence[StateModification] = ()
    client_clock_skew: int | float | None = None  # ms
    server_ts: int | None = None  # ns


class MutationResponse(msgspec.Struct, tag="MutationResponse", tag_field="type", rename="camel", frozen=True, gc=False):
    """The outcome of a mutation: `result` is its value, or the error text as a JSON string."""

    request_id: U32
    success: bool
    result: Raw
    ts: str | None = None  # the commit timestamp of a success
    log_lines: Sequence[str] = ()
    error_data: Raw | UnsetType = UNSET


class ActionResponse(msgspec.Struct, tag="ActionResponse", tag_field="type", rename="camel", frozen=True, gc=False):
    """The outcome of an action: `result` is its value, or the error text as a JSON string."""

    request_id: U32
    success: bool
    result: Raw
    log_lines: Sequence[str] = ()
    error_data: Raw | UnsetType = UNSET


class AuthError(msgspec.Struct, tag="AuthError", tag_field="type", rename="camel", frozen=True, gc=False):
    """The server refused the identity. `base_version` is the identity of the last Transition sent."""

    error: str
    base_version: U32 | None = None
    auth_update_attempted: bool | None = None


class FatalError(msgspec.Struct, tag="FatalError", tag_field="type", frozen=True, gc=False):
    """The client broke the protocol; official JS clients then stop for good."""

    error: str


class Ping(msgspec.Struct, tag="Ping", tag_field="type", frozen=True, gc=False):
    """Sign of life; never answered."""


class TransitionChunk(msgspec.Struct, tag="TransitionChunk", tag_field="type", rename="camel", frozen=True, gc=False):
    """A piece of the text of a large Transition. Only npm clients from 1.28.0 understand it."""

    chunk: str
    part_number: U32
    total_parts: U32
    transition_id: str


ServerMessage = (
    Transition | MutationResponse | ActionResponse | AuthError | FatalError | Ping | TransitionChunk
)  # every type a client may ever be sent


_encoder: Final = msgspec.json.Encoder()
_client_decoder: Final[msgspec.json.Decoder[ClientMessage]] = msgspec.json.Decoder(ClientMessage)
_server_decoder: Final[msgspec.json.Decoder[ServerMessage]] = msgspec.json.Decoder(ServerMessage)

# RecursionError: nesting deeper than the interpreter's stack. UnicodeError: lone surrogates in a `str`.
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def decode_client_message(text: str | bytes) -> ClientMessage:
    """Return the message in one text frame of a client. Unknown fields are ignored.

    Raises:
        ProtocolError: it is no message of the protocol; the rule is `WSMessageInvalidJson`.
    """
    try:
        message = _client_decoder.decode(text)
    except _DECODE_ERRORS as error:
        raise _invalid(str(error)) from None
    if isinstance(message, (Mutation, Action)):
        if memoryview(message.args[0])[0] != _OPEN_BRACE:
            raise _invalid("Expected `object` - at `$.args[0]`")
    elif isinstance(message, ModifyQuerySet):
        _check_modifications(message)
    elif isinstance(message, Connect):
        _check_connect(message)
    elif isinstance(message, Authenticate):
        _check_authenticate(message)
    return message


def _check_modifications(message: ModifyQuerySet) -> None:
    if message.new_version <= message.base_version:
        raise _invalid(f"newVersion {message.new_version} is not above baseVersion {message.base_version}")
    for position, modification in enumerate(message.modifications):
        if isinstance(modification, Add) and memoryview(modification.args[0])[0] != _OPEN_BRACE:
            raise _invalid(f"Expected `object` - at `$.modifications[{position}].args[0]`")


def _check_connect(message: Connect) -> None:
    if isinstance(message.max_observed_timestamp, str):
        decode_ts(message.max_observed_timestamp)


def _check_authenticate(message: Authenticate) -> None:
    if message.token_type != "None" and not isinstance(message.value, str):
        raise _invalid("Object missing required field `value`")


def _invalid(detail: str) -> ProtocolError:
    return ProtocolError("WSMessageInvalidJson", f"Received Invalid JSON on websocket: {detail}")


def decode_server_message(text: str | bytes) -> ServerMessage:
    """Return the message in one text frame of a server. Unknown fields are ignored.

    Raises:
        ProtocolError: it is no message a server may send; the rule is `InvalidServerMessage`.
    """
    try:
        return _server_decoder.decode(text)
    except _DECODE_ERRORS as error:
        raise ProtocolError("InvalidServerMessage", f"Received an invalid message from the server: {error}") from None


def encode_client_message(message: ClientMessage) -> bytes:
    """Return the JSON text of a client's message, as UTF-8."""
    return _encoder.encode(message)


def encode_server_message(message: ServerMessage) -> bytes:
    """Return the JSON text of a server's message, as UTF-8."""
    return _encoder.encode(message)


def encode_text(text: str) -> Raw:
    """Return `text` as the JSON string that stands for the `result` of a failure."""
    return Raw(_encoder.encode(text))


def split_transition(data: bytes, limit: int = MAX_TRANSITION_CHUNK_BYTES) -> list[bytes]:
    """Return the `TransitionChunk` frames that carry an encoded Transition, pieces of at most `limit` bytes.

    No message but `Ping` may be sent between them. Cuts fall between characters.
    """
    pieces: list[str] = []
    start = 0
    while start < len(data):
        end = min(start + limit, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # not inside a UTF-8 sequence
            end -= 1
        pieces.append(data[start:end].decode())
        start = end
    return [
        _encoder.encode(
            TransitionChunk(chunk=piece, part_number=number, total_parts=len(pieces), transition_id=str(len(data)))
        )
        for number, piece in enumerate(pieces)
    ]
