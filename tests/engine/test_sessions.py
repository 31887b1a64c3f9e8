"""A remembered result is found, a forgotten one is refused, and neither takes more memory than it may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.engine.sessions import MARKS_PER_SESSION, SessionResult, SessionResults
from reactor.errors import OutcomeUnknown
from reactor.limits import Limits


def result(ts: int, length: int = 1, lines: int = 0) -> SessionResult:
    return SessionResult(b"x" * length, ("y" * 100,) * lines, ts)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30_000), st.integers(0, 100)), max_size=60),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_no_committed_request_is_ever_taken_for_a_new_one(
    commits: list[tuple[str, int, int]], per_session: int, sessions: int
) -> None:
    limits = Limits(session_results=per_session, sessions=sessions, session_bytes=1 << 16)
    results = SessionResults(limits)
    made: dict[tuple[str, int], SessionResult] = {}
    requests: dict[str, int] = {}
    for ts, (session, length, lines) in enumerate(commits):
        request = requests[session] = requests.get(session, -1) + 1
        made[session, request] = result(ts, length, lines)
        results.remember(session, request, made[session, request])

        assert results.find(session, request) == made[session, request]  # the newest is always there
        assert results.find(session, request + 1) is None

    kept: list[tuple[str, int]] = []
    for (session, request), expected in made.items():
        try:
            assert results.find(session, request) == expected
            kept.append((session, request))
        except OutcomeUnknown:
            pass
    assert len({session for session, _ in kept}) <= sessions
    assert all(sum(session == other for other, _ in kept) <= per_session for session in "abcd")
    if len(kept) > 1:
        assert sum(len(made[each].value) + 100 * len(made[each].log_lines) for each in kept) <= 1 << 16


def test_the_session_used_longest_ago_is_forgotten_first() -> None:
    results = SessionResults(Limits(sessions=2))
    results.remember("a", 0, result(1))
    results.remember("b", 0, result(2))
    results.remember("a", 1, result(3))
    results.remember("c", 0, result(4))

    assert results.find("a", 0) == result(1)
    assert results.find("c", 0) == result(4)
    with pytest.raises(OutcomeUnknown, match=r"Request 0 of session b .* \(REACTOR_SESSION_RESULTS=1000\)"):
        results.find("b", 0)
    assert results.find("b", 1) is None


def test_results_of_one_session_are_bounded_in_bytes() -> None:
    """The newest stays whatever its size; what had to go is refused."""
    results = SessionResults(Limits(session_bytes=1 << 16))
    for request in range(4):
        results.remember("a", request, result(request + 1, 30_000))
    assert results.find("a", 3) == result(4, 30_000)
    assert results.find("a", 2) == result(3, 30_000)
    with pytest.raises(OutcomeUnknown):
        results.find("a", 1)
    results.remember("a", 4, result(5, 1 << 17))
    with pytest.raises(OutcomeUnknown):
        results.find("a", 3)
    assert results.find("a", 4) == result(5, 1 << 17)


def test_what_is_taken_back_may_run_again_and_what_is_unknown_is_no_matter() -> None:
    results = SessionResults(Limits())
    results.remember("a", 0, result(1))
    results.withdraw("a", 0)
    results.withdraw("a", 7)
    results.withdraw("b", 0)
    assert results.find("a", 0) is None


def test_marks_of_forgotten_sessions_are_bounded() -> None:
    limits = Limits(sessions=2)
    results = SessionResults(limits)
    many = MARKS_PER_SESSION * limits.sessions
    for number in range(many + 1):
        results.refuse_through(f"s{number}", 5)
    assert results.find("s0", 5) is None, "the mark longest unused gave way"
    with pytest.raises(OutcomeUnknown):
        results.find("s1", 5)
