"""Calls and outcomes are plain values."""

import msgspec
import pytest

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.runtime.calls import Call, Success


def test_a_call_without_more_is_anonymous_and_may_reach_no_internal_function() -> None:
    call = Call("messages:send", b"{}")
    assert (call.identity, call.session, call.request, call.internal) == (ANONYMOUS, None, None, False)
    assert (ANONYMOUS.kind, ANONYMOUS.claims, ANONYMOUS.key) == ("none", None, "")


def test_arguments_may_be_a_part_of_a_decoded_frame() -> None:
    assert bytes(Call("a:b", msgspec.Raw(b'{"x":1}')).args) == b'{"x":1}'


def test_outcomes_and_identities_can_not_be_changed() -> None:
    for value, field in ((Success(b"1", 1), "ts"), (Identity(), "key"), (Call("a", b""), "path")):
        with pytest.raises(AttributeError):
            setattr(value, field, None)
