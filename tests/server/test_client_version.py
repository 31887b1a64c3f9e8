"""Which client asks, and that no header can do harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.server.http.client_version import ClientVersion, client_version
from reactor.server.http.errors import HttpError, status_of


@pytest.mark.parametrize(
    ("header", "segment", "expected"),
    [
        (None, None, ClientVersion()),
        (None, "1.48.0", ClientVersion("npm", (1, 48, 0))),
        (None, "1.48.0-alpha.3", ClientVersion("npm", (1, 48, 0))),
        ("python-0.8.1", "1.48.0", ClientVersion("python", (0, 8, 1))),
        ("npm-cli-1.2.3", None, ClientVersion("npm-cli", (1, 2, 3))),
    ],
)
def test_who_asks(header: str | None, segment: str | None, expected: ClientVersion) -> None:
    assert client_version(header, segment) == expected


@pytest.mark.parametrize(
    ("client", "chunks", "told"),
    [
        (ClientVersion("npm", (1, 28, 0)), True, False),
        (ClientVersion("npm", (1, 27, 9)), False, False),
        (ClientVersion("python", (2, 0, 0)), False, False),
        (ClientVersion("python", (0, 2, 0)), False, True),
        (ClientVersion("python", (0, 2, 1)), False, False),
        (ClientVersion("rust", (9, 0, 0)), False, False),
        (ClientVersion(), False, False),
    ],
)
def test_what_a_version_means(client: ClientVersion, chunks: bool, told: bool) -> None:
    assert client.takes_chunks is chunks
    assert bool(client.deprecation_headers) is told


@given(
    st.none() | st.text() | st.from_regex(r"[a-z]{1,9}-[0-9.]{1,12}[-+a-z.]{0,9}"),
    st.none() | st.text() | st.from_regex(r"[0-9.]{1,12}"),
)
def test_any_version_gives_a_client_or_an_http_error(header: str | None, segment: str | None) -> None:
    try:
        found: ClientVersion | HttpError = client_version(header, segment)
    except HttpError as refused:
        found = refused
    if isinstance(found, HttpError):
        assert status_of(found) == 400
    else:
        assert found.default_format in ("json", "convex_encoded_json")
