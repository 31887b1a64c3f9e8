"""Results of mutations that a client may send again, by session and request id.

Owns a bounded window of results and a mark per session above which nothing was forgotten. Promises that a request whose
result is known is answered with it, and that one whose result is forgotten is refused, never run again (`design.md` §4,
16). Filled by the committer in the step that applies a commit, and from the log when the database opens.
"""

from collections import OrderedDict
from typing import Final

import msgspec

from reactor.errors import OutcomeUnknown
from reactor.limits import Limits

MARKS_PER_SESSION: Final = 100  # sessions of which only the mark is kept, for each one whose results are


class SessionResult(msgspec.Struct, frozen=True):
    """What a committed mutation answered: wire JSON, log lines, and the timestamp of its commit."""

    value: bytes
    log_lines: tuple[str, ...]
    commit_ts: int


class SessionResults:
    """The results of recent mutations. Least recently used sessions are forgotten first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sessions: OrderedDict[str, OrderedDict[int, SessionResult]] = OrderedDict()
        self._forgotten: OrderedDict[str, int] = OrderedDict()  # session -> highest forgotten request id
        self._bytes = 0

    def find(self, session: str, request: int) -> SessionResult | None:
        """Return the result of a request that was committed before, or None when it never was.

        Raises:
            OutcomeUnknown: the request is so old that its result may have been forgotten.
        """
        results = self._sessions.get(session)
        if results is not None:
            found = results.get(request)
            if found is not None:
                return found
        if request <= self._forgotten.get(session, -1):
            raise OutcomeUnknown(
                f"Request {request} of session {session} is older than the results kept "
                f"(REACTOR_SESSION_RESULTS={self._limits.session_results}); it is not run again."
            )
        return None

    def remember(self, session: str, request: int, result: SessionResult) -> None:
        """Keep the result of a commit; older ones beyond the bounds are forgotten."""
        results = self._sessions.get(session)
        if results is None:
            results = self._sessions[session] = OrderedDict()
        else:
            self._sessions.move_to_end(session)
        results[request] = result
        self._bytes += _size(result)
        if len(results) > self._limits.session_results:
            self._forget_oldest(session, results)
        while len(self._sessions) > self._limits.sessions or (
            self._bytes > self._limits.session_bytes and len(self._sessions) > 1
        ):
            oldest, its_results = next(iter(self._sessions.items()))
            while its_results:
                self._forget_oldest(oldest, its_results)
            del self._sessions[oldest]
        while self._bytes > self._limits.session_bytes and len(results) > 1:
            self._forget_oldest(session, results)

    def withdraw(self, session: str, request: int) -> None:
        """Take back the result of a commit that was undone: the same request may run again."""
        results = self._sessions.get(session)
        if results is not None and request in results:
            self._bytes -= _size(results.pop(request))

    def refuse_through(self, session: str, request: int) -> None:
        """Refuse requests up to `request` whose results are not known: the log may have forgotten them."""
        self._forgotten[session] = max(request, self._forgotten.get(session, -1))
        self._forgotten.move_to_end(session)
        if len(self._forgotten) > MARKS_PER_SESSION * self._limits.sessions:
            self._forgotten.popitem(last=False)

    def _forget_oldest(self, session: str, results: OrderedDict[int, SessionResult]) -> None:
        request, result = results.popitem(last=False)
        self._bytes -= _size(result)
        self.refuse_through(session, request)


def _size(result: SessionResult) -> int:
    return len(result.value) + sum(map(len, result.log_lines))
