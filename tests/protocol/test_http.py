"""Bodies of the HTTP function API."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from reactor.errors import ProtocolError
from reactor.protocol.http import (
    BatchResponse,
    ErrorBody,
    TsResponse,
    UdfFailure,
    UdfSuccess,
    VariablesResponse,
    arguments_object,
    decode_function_request,
    decode_query_at_ts_request,
    decode_query_batch_request,
    decode_run_request,
    decode_variables_request,
    encode_body,
)

DECODERS = [decode_function_request, decode_query_at_ts_request, decode_query_batch_request, decode_run_request]


@pytest.mark.parametrize("args", ['{"a": 1}', '[{"a": 1}]', ' [ {"a": 1} ] '])
def test_arguments_are_an_object_or_a_list_holding_it(args: str) -> None:
    assert bytes(arguments_object(args.encode())) == b'{"a": 1}'
    request = decode_function_request(f'{{"path":"m:f","args":{args},"format":"json","more":1}}'.encode())
    assert (request.path, bytes(request.args), request.format, request.component_path) == (
        "m:f",
        b'{"a": 1}',
        "json",
        None,
    )


@pytest.mark.parametrize("args", ["[]", "[{},{}]", "[1]", "null", '"x"', "[[{}]]", "7"])
def test_other_arguments_are_refused(args: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode_function_request(f'{{"path":"m:f","args":{args}}}'.encode())
    assert refusal.value.rule == "BadQueryArgs"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"path":1,"args":{}}', b'{"path":"a"}', b'{"args":{}}', b"\xff"])
def test_other_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode_function_request(body)
    assert refusal.value.rule == "BadJsonBody"


def test_the_other_requests() -> None:
    request, ts = decode_query_at_ts_request(b'{"path":"m:f","args":{},"ts":"AAAqNv6clxc="}')
    assert (request.path, ts) == ("m:f", 1_700_000_000_000_000_000)
    assert bytes(decode_run_request(b'{"args":[{}]}').args) == b"{}"
    batch = decode_query_batch_request(b'{"queries":[{"path":"a","args":{}},{"path":"b","args":[{"x":1}]}]}')
    assert [(one.path, bytes(one.args)) for one in batch] == [("a", b"{}"), ("b", b'{"x":1}')]
    with pytest.raises(ProtocolError, match="timestamp"):
        decode_query_at_ts_request(b'{"path":"m:f","args":{},"ts":"x"}')


def body_of(response: Any) -> Any:
    return json.loads(encode_body(response))


def test_responses_leave_out_what_is_empty() -> None:
    assert body_of(UdfSuccess(value=Raw(b"null"))) == {"status": "success", "value": None}
    assert body_of(UdfSuccess(value=Raw(b"1.0"), log_lines=["[LOG] 'x'"])) == {
        "status": "success",
        "value": 1.0,
        "logLines": ["[LOG] 'x'"],
    }
    assert body_of(UdfFailure(error_message="no")) == {"status": "error", "errorMessage": "no"}
    assert body_of(UdfFailure(error_message="no", error_data=Raw(b"null"))) == {
        "status": "error",
        "errorMessage": "no",
        "errorData": None,
    }
    assert body_of(ErrorBody(code="BadFormat", message="m")) == {"code": "BadFormat", "message": "m"}
    assert body_of(TsResponse(ts="AAAAAAAAAAA=")) == {"ts": "AAAAAAAAAAA="}
    assert body_of(BatchResponse(results=[UdfSuccess(value=Raw(b"2.0"))])) == {
        "results": [{"status": "success", "value": 2.0}]
    }


@given(st.binary() | st.text(alphabet='{}[]",:pathrgsfom01 ').map(str.encode), st.sampled_from(DECODERS))
def test_no_body_raises_anything_else(body: bytes, decode: Any) -> None:
    try:
        decode(body)
    except ProtocolError:
        pass


def test_changes_of_environment_variables_show_no_values() -> None:
    """They are secrets, and a traceback may hold them."""
    changes = decode_variables_request(b'{"changes":[{"name":"KEY","value":"secret"},{"name":"OLD","value":null}]}')
    assert [(change.name, change.value) for change in changes] == [("KEY", "secret"), ("OLD", None)]
    assert "secret" not in repr(changes)
    assert "secret" not in repr(VariablesResponse({"KEY": "secret"}))
