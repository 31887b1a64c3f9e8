"""The fingerprint of a client: the same as JavaScript computes."""

import hashlib

import pytest
from starlette.datastructures import Headers

from functions.model.fingerprint import fields_of, fingerprint_of

BROWSER = {
    "userAgent": "Mozilla/5.0 (X11; Linux x86_64)",
    "acceptLanguage": "en-US,en;q=0.9",
    "acceptEncoding": "gzip, deflate, br",
    "accept": "application/json",
    "dnt": "1",
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "f6fc799425759f4c"),
        ({"userAgent": "curl/8.5.0", "accept": "*/*"}, "0f8a08158aa3ad26"),
        (BROWSER, "5de597a862a78b5f"),
        (dict(reversed(BROWSER.items())), "5de597a862a78b5f"),  # the order is that of the fields, not of the caller
        ({**BROWSER, "cookie": "x"}, "5de597a862a78b5f"),
    ],
)
def test_golden_values(fields: dict[str, str], expected: str) -> None:
    assert fingerprint_of(fields) == expected


def test_text_is_written_as_javascript_writes_it() -> None:
    for agent, escaped in (("é😀", "é😀"), ('"\\\n', '\\"\\\\\\n'), ("\ud83d", "\\ud83d")):
        text = f'{{"userAgent":"{escaped}","acceptLanguage":"","acceptEncoding":"","accept":"","dnt":""}}'
        expected = hashlib.sha256(text.encode()).hexdigest()[:16]
        assert fingerprint_of({"userAgent": agent}) == expected


def test_fields_come_from_headers_of_any_case() -> None:
    headers = Headers({"USER-AGENT": "a", "Accept-Language": "b", "DNT": "1", "cookie": "c"})
    assert fields_of(headers) == {"userAgent": "a", "acceptLanguage": "b", "dnt": "1"}
