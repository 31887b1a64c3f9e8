"""Cursors: positions as text that only their own query takes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.cursor import END, Cursors, Position, between, fingerprint
from reactor.engine.keyrange import KeyRange
from reactor.errors import InvalidCursor
from tests.values.strategies import law

HERE = Cursors(b"a secret of this deployment")
QUERY = fingerprint({"source": 1}, ("a",))
keys = st.binary(max_size=200)
positions = st.builds(Position, st.none() | keys)


@law
@given(position=positions, was_cut=st.booleans())
def test_what_was_written_is_read_by_the_same_query_after_a_restart(position: Position, was_cut: bool) -> None:
    again = Cursors(b"a secret of this deployment")
    text = HERE.write(position, QUERY)
    journal = HERE.write(Position(position.key, was_cut), QUERY, "journal")

    assert again.read(text, QUERY) == position
    assert again.write(position, QUERY) == text
    assert again.read(journal, QUERY, "journal") == Position(position.key, was_cut)


@law
@given(position=positions)
def test_a_cursor_is_good_for_one_query_one_purpose_and_one_deployment(position: Position) -> None:
    text = HERE.write(position, QUERY)
    for cursors, query, purpose in (
        (HERE, fingerprint({"source": 2}, ("a",)), "cursor"),
        (HERE, fingerprint({"source": 1}, ("b",)), "cursor"),
        (HERE, QUERY, "journal"),
        (Cursors(b"another secret"), QUERY, "cursor"),
    ):
        with pytest.raises(InvalidCursor):
            cursors.read(text, query, purpose)  # type: ignore[arg-type]


def refuses(text: str) -> bool:
    try:
        HERE.read(text, QUERY)
    except InvalidCursor as error:
        return error.data == {"isConvexSystemError": True, "paginationError": "InvalidCursor"}
    return False


@law
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(bytes.hex))
def test_any_other_text_is_refused_in_the_same_words(text: str) -> None:
    assert refuses(text)


@law
@given(position=positions, data=st.data())
def test_no_character_of_a_cursor_can_be_changed(position: Position, data: Any) -> None:
    text = HERE.write(position, QUERY)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda char: char != text[at]))

    assert refuses(text[:at] + other + text[at + 1 :])
    assert refuses(text[:at])
    assert refuses(text + "=")
    assert refuses(text + "\n")


def test_a_cursor_shows_nothing_of_its_key() -> None:
    """The last row looked at may be one that a filter kept from the client."""
    from base64 import urlsafe_b64decode

    text = HERE.write(Position(b"the salary of somebody else"), QUERY)
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert not any(word in data for word in (b"salary", b"somebody"))


@law
@given(all_keys=st.sets(keys, min_size=2, max_size=12), high=st.none() | keys, data=st.data())
@pytest.mark.parametrize("reverse", [False, True])
def test_a_page_begins_behind_its_start_and_ends_with_its_end(
    reverse: bool, all_keys: set[bytes], high: bytes | None, data: Any
) -> None:
    bounds = KeyRange(b"", high)
    ordered = sorted(filter(bounds.contains, all_keys), reverse=reverse)
    if len(ordered) < 2:
        return
    first = data.draw(st.integers(0, len(ordered) - 2))
    last = data.draw(st.integers(first + 1, len(ordered) - 1))
    inside = between(bounds, reverse, Position(ordered[first]), Position(ordered[last]))

    assert [key for key in ordered if inside.contains(key)] == ordered[first + 1 : last + 1]
    behind = between(bounds, reverse, Position(ordered[first]), None)
    assert [key for key in ordered if behind.contains(key)] == ordered[first + 1 :]
    through = between(bounds, reverse, None, Position(ordered[last]))
    assert [key for key in ordered if through.contains(key)] == ordered[: last + 1]
    assert between(bounds, reverse, Position(ordered[last]), Position(ordered[first])).is_empty


@law
@given(low=keys, high=st.none() | keys, reverse=st.booleans())
def test_nothing_is_behind_the_end(low: bytes, high: bytes | None, reverse: bool) -> None:
    assert between(KeyRange(low, high), reverse, END, None).is_empty
    assert between(KeyRange(low, high), reverse, END, Position(b"k")).is_empty
