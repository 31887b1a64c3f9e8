"""Admin keys: what is a key, what is not, and whom an admin acts as."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.auth.admin_key import NONCE_BYTES, check, issue, split_impersonation
from reactor.errors import Forbidden, InvalidArgument, ProtocolError

NAME = "convex-self-hosted"
SECRET = "0123456789abcdef" * 4


def key(**changes: object) -> str:
    return issue(**{"name": NAME, "secret": SECRET, "issued_s": 1_700_000_000, "nonce": b"n" * NONCE_BYTES, **changes})


@given(
    issued=st.integers(1, 2**47), nonce=st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES), read_only=st.booleans()
)
def test_what_was_issued_checks(issued: int, nonce: bytes, read_only: bool) -> None:
    found = check(issue(NAME, SECRET, issued, nonce, read_only), NAME, SECRET)
    assert (found.name, found.issued_s, found.read_only) == (NAME, issued, read_only)


def test_a_key_has_the_official_look() -> None:
    name, bar, secret = key().partition("|")
    assert (name, bar) == (NAME, "|")
    assert set(secret) <= set("0123456789abcdef")


@pytest.mark.parametrize("prefix", ["prod:", "dev:", "preview:"])
def test_a_deployment_prefix_is_ignored(prefix: str) -> None:
    assert check(prefix + key(), NAME, SECRET).name == NAME


def flipped(text: str, position: int) -> str:
    digit = "0" if text[position] != "0" else "1"
    return text[:position] + digit + text[position + 1 :]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "|",
        NAME,
        NAME + "|",
        NAME + "|zz",
        NAME + "|00",
        "ü|" + "00" * 36,
        "other" + key().removeprefix(NAME),
        "prod:dev:" + key(),
        key() + "00",
        key()[:-2],
        "x:" + key(),
    ],
)
def test_anything_else_is_forbidden(wrong: str) -> None:
    with pytest.raises(Forbidden) as refused:
        check(wrong, NAME, SECRET)
    assert (refused.value.rule, refused.value.status) == ("BadDeployKey", 403)


@given(position=st.integers(len(NAME) + 1, len(key()) - 1))
def test_no_digit_can_be_changed(position: int) -> None:
    with pytest.raises(Forbidden):
        check(flipped(key(), position), NAME, SECRET)


def test_another_secret_ends_all_keys() -> None:
    with pytest.raises(Forbidden):
        check(key(), NAME, "f" * 64)


@given(st.text())
def test_no_text_raises_anything_but_forbidden(text: str) -> None:
    with pytest.raises(Forbidden):
        check(text, NAME, SECRET)


@pytest.mark.parametrize(
    "change",
    [
        {"secret": "abc"},
        {"secret": "g" * 64},
        {"name": "a|b"},
        {"name": "a:b"},
        {"name": ""},
        {"issued_s": 0},
        {"nonce": b""},
    ],
)
def test_malformed_settings_are_named(change: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        key(**change)


@pytest.mark.parametrize("prefix", ["", "prod:", "dev:"])
def test_impersonation_is_split_off_after_the_bar(prefix: str) -> None:
    attributes = {"tokenIdentifier": "https://me|7", "name": "Å"}
    suffix = base64.b64encode(json.dumps(attributes).encode()).decode()
    assert split_impersonation(f"{prefix}{key()}:{suffix}") == (prefix + key(), attributes)
    assert split_impersonation(prefix + key()) == (prefix + key(), None)


@pytest.mark.parametrize(
    "suffix", ["", "!", "bm8=", base64.b64encode(b"[1]").decode(), base64.b64encode(b"\xff").decode()]
)
def test_a_garbled_impersonation_is_a_bad_header(suffix: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        split_impersonation(f"{key()}:{suffix}")
    assert refused.value.rule == "InvalidHeaderFailure"
