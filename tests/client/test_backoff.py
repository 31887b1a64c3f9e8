"""Waiting between connection attempts."""

from hypothesis import given
from hypothesis import strategies as st

from reactor.client.backoff import FIRST_SECONDS, MAX_SECONDS, OVERLOADED_SECONDS, SERVER_ERROR_SECONDS, Backoff


def test_the_ceiling_doubles_up_to_a_limit_and_starts_over() -> None:
    backoff = Backoff(lambda: 1.0)
    delays = [backoff.failed() for _ in range(10)]
    assert delays[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert delays[-1] == MAX_SECONDS
    backoff.succeeded()
    assert backoff.failed() == FIRST_SECONDS


def test_a_server_in_trouble_is_left_alone_for_longer() -> None:
    assert Backoff(lambda: 1.0).failed(1013) == OVERLOADED_SECONDS
    assert Backoff(lambda: 1.0).failed(1011) == SERVER_ERROR_SECONDS
    assert Backoff(lambda: 1.0).failed(1000) == FIRST_SECONDS


def test_the_reason_counts_for_more_than_the_code() -> None:
    assert Backoff(lambda: 1.0).failed(1011, "CommitterFullError") == OVERLOADED_SECONDS
    assert Backoff(lambda: 1.0).failed(1013, "InternalServerError: restart") == SERVER_ERROR_SECONDS
    assert Backoff(lambda: 1.0).failed(None, "NoSuchReason") == FIRST_SECONDS


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 5000))
def test_jitter_takes_the_whole_interval(random: float, failures: int) -> None:
    backoff = Backoff(lambda: random)
    backoff._failures = failures
    assert 0 <= backoff.failed(1013) <= MAX_SECONDS
