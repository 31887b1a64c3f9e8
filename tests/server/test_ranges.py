"""Headers of transfers: any text gives an answer or an error with a status, and the answer is right."""

from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.server.http.errors import HttpError
from reactor.server.http.ranges import (
    Span,
    asked_span,
    content_length,
    content_type,
    expected_sha256,
    names_tag,
)
from tests.values.strategies import law

SIZE = 100


@law
@given(first=st.integers(0, 300), last=st.integers(0, 300), size=st.integers(1, 200))
def test_a_range_is_what_the_standard_says(first: int, last: int, size: int) -> None:
    whole = range(size)
    for header, expected in (
        (f"bytes={first}-{last}", whole[first : last + 1] if first <= last else whole[:0]),
        (f"bytes={first}-", whole[first:]),
        (f"bytes=-{last}", whole[max(0, size - last) :]),
    ):
        if expected:
            assert asked_span(header, size) == Span(expected[0], expected[-1] + 1)
        else:
            with pytest.raises(HttpError) as refused:
                asked_span(header, size)
            assert (refused.value.http_status, refused.value.rule) == (416, "RangeNotSatisfiable")


@pytest.mark.parametrize(
    "header", ["bytes=0-1,4-5", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=--1", "bytes=0x1-2", "bytes=²-"]
)
def test_several_or_garbled_ranges_are_416(header: str) -> None:
    with pytest.raises(HttpError) as refused:
        asked_span(header, SIZE)
    assert refused.value.http_status == 416


@pytest.mark.parametrize("header", ["", "0-1", "items=0-1", "bytes", "bytes 0-1"])
def test_what_is_no_range_of_bytes_is_a_bad_header(header: str) -> None:
    with pytest.raises(HttpError) as refused:
        asked_span(header, SIZE)
    assert (refused.value.http_status, refused.value.rule) == (400, "BadHeader")


def test_every_range_of_an_empty_file_is_all_of_it() -> None:
    assert asked_span("bytes=0-1", 0) is None
    assert asked_span("BYTES = 5-6", 0) is None


@law
@given(text=st.text(max_size=60))
def test_any_text_is_an_answer_or_a_refusal(text: str) -> None:
    for read in (
        lambda: asked_span(text, SIZE),
        lambda: asked_span("bytes=" + text, SIZE),
        lambda: expected_sha256({"digest": text}),
        lambda: expected_sha256({"digest": "sha-256=" + text}),
        lambda: content_type({"content-type": text}),
        lambda: content_length({"content-length": text}),
        lambda: names_tag(text, '"tag"'),
    ):
        with suppress(HttpError):
            read()


@pytest.mark.parametrize("text", ["a/b", "text/plain; charset=utf-8", "application/vnd.x+json", 'a/b;x="y z"'])
def test_content_types(text: str) -> None:
    assert content_type({"content-type": text}) == text


@pytest.mark.parametrize("text", ["a", "a/b\r\nSet-Cookie: x", "a/b; \n", "ä/b", "a/b c", "a/" + "b" * 255, " a/b"])
def test_what_is_no_content_type_is_refused(text: str) -> None:
    with pytest.raises(HttpError) as refused:
        content_type({"content-type": text})
    assert refused.value.rule == "BadHeader"


def test_a_file_of_unknown_type() -> None:
    """Browsers send an empty type for it."""
    assert content_type({}) is None
    assert content_type({"content-type": ""}) is None


def test_digests() -> None:
    digest = bytes(range(32))
    text = b64encode(digest).decode()
    for header in (f"sha-256={text}", f"SHA-256={text}", f"md5=abc, sha-256={text}"):
        assert expected_sha256({"digest": header}) == digest
    assert expected_sha256({}) is None


def test_lengths() -> None:
    assert content_length({"content-length": "012"}) == 12
    assert content_length({}) is None
    for text in ("-1", "1.0", "", "1" * 19, "٣"):
        with pytest.raises(HttpError):
            content_length({"content-length": text})


def test_tags() -> None:
    for header, is_named in (
        ('"a"', True),
        ('W/"a", "b"', True),
        ("*", True),
        ('"b"', False),
        ("", False),
        ("a", False),
    ):
        assert names_tag(header, '"a"') == is_named
