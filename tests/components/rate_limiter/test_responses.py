"""Limits over HTTP: 429 for those who come too often, 503 when too many came at once, and nothing hidden."""

import json
from typing import Any

import pytest

from reactor.components.rate_limiter import FixedWindow, Reading, TokenBucket, headers_of, response_for
from reactor.errors import ReactorError, WriteConflict
from tests.components.rate_limiter.calls import MINUTE


async def test_an_http_action_says_when_to_come_again(deployment: Any) -> None:
    for left in range(9, -1, -1):
        served = await deployment.fetch("/limited?name=messages")
        assert served.status_code == 200
        assert served.headers["RateLimit-Remaining"] == str(left)
    refused = await deployment.fetch("/limited?name=messages")
    assert refused.status_code == 429
    assert refused.json() == {"kind": "RateLimited", "name": "messages", "retryAfter": 6000}
    assert refused.headers["Content-Type"] == "application/json"
    assert refused.headers["Retry-After"] == "6"
    assert refused.headers["RateLimit-Limit"] == "10"
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert refused.headers["RateLimit-Reset"] == "60"


@pytest.mark.parametrize(("wait", "seconds"), [(1, "1"), (999, "1"), (1000, "1"), (1000.5, "2"), (59_001, "60")])
def test_retry_after_is_in_whole_seconds_and_never_0(wait: float, seconds: str) -> None:
    response = response_for(ReactorError({"kind": "RateLimited", "name": "a", "retryAfter": wait}))
    assert response is not None
    assert (response.status_code, response.headers["Retry-After"]) == (429, seconds)
    assert "RateLimit-Limit" not in response.headers


def test_losing_to_others_on_every_attempt_is_no_error_of_the_server() -> None:
    response = response_for(WriteConflict("lost"))
    assert response is not None
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert json.loads(bytes(response.body)) == {"kind": "OptimisticConcurrencyControlFailure"}


@pytest.mark.parametrize("error", [ReactorError({"kind": "Other"}), ReactorError("no"), ValueError("x"), KeyError("y")])
def test_other_errors_are_for_others(error: Exception) -> None:
    assert response_for(error) is None


@pytest.mark.parametrize(
    ("reading", "now", "expected"),
    [
        (Reading(-5, 1e12, 0, TokenBucket(10, MINUTE, 20), False), 1e12, ("20", "0", "150")),
        (Reading(20, 1e12, 0, TokenBucket(10, MINUTE, 20), False), 1e12, ("20", "20", "0")),
        (Reading(4.5, 1e12, 0, FixedWindow(10, MINUTE, start=0), False), 1e12 + 30_000, ("10", "4", "30")),
    ],
)
def test_headers_tell_what_is_left(reading: Reading, now: float, expected: Any) -> None:
    assert tuple(headers_of(reading, now).values()) == expected
