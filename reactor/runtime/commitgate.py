"""The commit gate: lets one mutation at a time commit alone, when it would lose for ever among the others.

Owns who may commit. Promises that the gate is open unless a mutation on its last attempt holds it, that each holds it
for a bounded time, and that commits and mutations that want it go first come, first served. Used by mutations
(`design.md` §4, 3).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from reactor.runtime.guard import outside
from reactor.runtime.runqueue import RunQueue


class Candidate(Protocol):
    """A mutation on its last attempt."""

    def granted(self) -> None:
        """The gate is closed for all others from now on."""

    def expired(self) -> None:
        """The gate is open for all again: it took too long."""


class _Waiting(NamedTuple):
    candidate: Candidate | None  # None for a commit
    step: Callable[[], None]


class CommitGate:
    """`is_closed` is an attribute, since every commit looks at it."""

    def __init__(self, queue: RunQueue, seconds: float) -> None:
        self.is_closed = False
        self.seconds = seconds
        self._queue = queue
        self._holder: Candidate | None = None
        self._line: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def is_held_by(self, candidate: Candidate) -> bool:
        """Whether all commits but those of `candidate` wait."""
        return self._holder is candidate

    def close(self, candidate: Candidate) -> None:
        """Close the gate for all but `candidate`, now or when it is its turn; then it is `granted`. Call it once."""
        self._line.append(_Waiting(candidate, candidate.granted))
        if not self.is_closed:
            self._advance()

    def wait(self, commit: Callable[[], None]) -> None:
        """Call `commit` when the gate is open again for those who came now."""
        self._line.append(_Waiting(None, commit))

    def leave(self, candidate: Candidate) -> None:
        """A mutation on its last attempt has come to its end."""
        if self._holder is candidate:
            self._release()
        else:
            self._line = deque(waiting for waiting in self._line if waiting.candidate is not candidate)

    def _expire(self) -> None:
        holder = self._holder
        assert holder is not None
        self._release()
        holder.expired()

    def _release(self) -> None:
        self._holder = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.request(self._advance)  # it stays closed for those who come meanwhile: they stand behind the line

    def _advance(self) -> None:
        """Serve the line until somebody holds the gate, or nobody is left, or the slice is used up."""
        while self._line and self._holder is None:
            candidate, step = self._line.popleft()
            if candidate is not None:
                self._holder = candidate
                loop = asyncio.get_running_loop()
                # Perhaps inside the user's context, where a timer would be refused.
                self._timer = outside(loop.call_later, self.seconds, self._expire)
            self.is_closed = True
            step()
            if self._holder is None and self._line and self._queue.is_due():
                self._queue.request(self._advance)
                return
        self.is_closed = self._holder is not None
