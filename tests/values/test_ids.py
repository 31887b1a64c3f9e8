"""Document ids and their text."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import InvalidArgument
from reactor.values import ids
from reactor.values.ids import IdGenerator, decode_id, encode_id, table_of
from tests.values.strategies import law
from tests.values.vectors import load

VECTORS = load("ids")
tables = st.integers(1, 2**32 - 1) | st.sampled_from([1, 127, 128, 16383, 16384, 2**21, 2**28, 2**32 - 1])


class Chance:
    """Counts the bytes it gave."""

    def __init__(self) -> None:
        self.given = 0

    def token_bytes(self, count: int) -> bytes:
        self.given += count
        return os.urandom(count)


class Frozen:
    """A clock that stands still."""

    def __init__(self, now: int) -> None:
        self.now = now

    def now_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize("entry", VECTORS["valid"], ids=lambda entry: entry["id"])
def test_published_ids_encode_and_decode(entry: dict[str, Any]) -> None:
    internal = bytes.fromhex(entry["internal_id_hex"])

    assert encode_id(entry["table_number"], internal) == entry["id"]
    assert decode_id(entry["id"]) == (entry["table_number"], internal)
    assert table_of(entry["id"]) == entry["table_number"]
    assert len(entry["id"]) == entry["length"]


@pytest.mark.parametrize("entry", VECTORS["published_examples"], ids=lambda entry: entry["id"])
def test_ids_of_real_deployments_decode(entry: dict[str, Any]) -> None:
    table, internal = decode_id(entry["id"])

    assert (table, internal.hex()) == (entry["table_number"], entry["internal_id_hex"])
    assert int.from_bytes(internal[-2:], "big") == entry["day_since_epoch"]
    assert encode_id(table, internal) == entry["id"]


# The package `id-encoding` accepts four of these (table 0, a long varint, dirty padding); the backend does not.
@pytest.mark.parametrize("entry", VECTORS["invalid"], ids=lambda entry: entry["why"])
def test_published_invalid_ids_are_refused_with_the_backend_s_text(entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as failure:
        decode_id(entry["id"])

    assert str(failure.value) == entry["backend_error"]


@law
@given(tables, st.binary(min_size=16, max_size=16))
def test_ids_round_trip(table: int, internal: bytes) -> None:
    text = encode_id(table, internal)

    assert decode_id(text) == (table, internal)
    assert table_of(text) == table


@law
@given(
    st.text(max_size=40)
    | st.text(st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz"), min_size=30, max_size=38)
    | st.text(st.sampled_from("z08g"), min_size=31, max_size=37)
)
def test_any_text_is_an_id_or_refused(text: str) -> None:
    try:
        table_of(text)
    except InvalidArgument:
        pass
    try:
        table, internal = decode_id(text)
    except InvalidArgument:
        return

    assert encode_id(table, internal) == text


@law
@given(
    tables, st.binary(min_size=16, max_size=16), st.integers(0, 36), st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz")
)
def test_no_other_text_decodes_to_the_same_id(table: int, internal: bytes, at: int, letter: str) -> None:
    text = encode_id(table, internal)
    at %= len(text)
    changed = text[:at] + letter + text[at + 1 :]
    try:
        decoded = decode_id(changed)
    except InvalidArgument:
        return

    assert encode_id(*decoded) == changed


@pytest.mark.parametrize("text", ["0" * 33, "0" * 35, "é" * 32, "j" * 31 + "_", " " * 32, "zzzzzzzz" + "0" * 29])
def test_refused_texts(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^Unable to decode ID: "):
        decode_id(text)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "Invalid ID length 0"),
        (33, "Invalid ID length 33"),
        (32, "ID wasn't valid base32"),
        (31, "Invalid ID length 31"),
        (37, "Invalid table number"),
    ],
)
def test_the_table_of_what_is_no_id(length: int, text: str) -> None:
    letters = {32: "é", 31: "z", 37: "z"}
    with pytest.raises(InvalidArgument) as failure:
        table_of(letters.get(length, "0") * length)

    expected = "Invalid table number" if length == 31 else text
    assert str(failure.value) == f"Unable to decode ID: {expected}"


def test_the_table_of_an_id_whose_length_is_another_s() -> None:
    with pytest.raises(InvalidArgument, match=r"^Unable to decode ID: Invalid ID length 32$"):
        table_of("04" + "0" * 30)


def test_remembered_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[tuple[int, str], int] = {}
    monkeypatch.setattr(ids, "_tables", remembered)
    monkeypatch.setattr(ids, "_MAX_KNOWN_TABLES", 3)
    for table in range(10_001, 10_011):
        assert table_of(encode_id(table, bytes(16))) == table
        assert len(remembered) <= 3


@pytest.mark.parametrize("table", [0, -1, 2**32])
def test_table_numbers_are_positive_u32(table: int) -> None:
    with pytest.raises(InvalidArgument, match=r"Table number .* is not between 1 and 4294967295"):
        encode_id(table, bytes(16))


def test_new_ids_are_random_and_carry_the_day() -> None:
    chance = Chance()
    generator = IdGenerator(chance, Frozen(20_572 * 86_400 * 10**9 + 5))

    made = [generator.next(10_001) for _ in range(1000)]

    assert len(set(made)) == 1000
    assert chance.given < 1400 * 14  # blocks, not one call for each id
    for text in made:
        table, internal = decode_id(text)
        assert table == 10_001
        assert internal[-2:] == (20_572).to_bytes(2, "big")
        assert text.startswith("j57")
    assert len({decode_id(text)[1][:14] for text in made}) == 1000
