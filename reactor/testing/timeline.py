"""What runs by itself in a deployment under test: scheduled functions and crons, and the time that they wait for.

Promises that each runs at its own time on the virtual clock, in the order of these times, that a wait returns when
everything it is for has ended and is durable, and that a wait which has no end says why. What runs, runs as on a
server; only time is ours. Used by `testing/deployment`.
"""

import asyncio
import difflib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, cast

from reactor.engine.catalog import CRON_JOBS
from reactor.errors import InvalidArgument, LimitExceeded
from reactor.runtime.calls import Call
from reactor.runtime.host import Host
from reactor.runtime.jobs.documents import Job, is_unfinished, read_job
from reactor.testing.clock import VirtualClock

IN_PROGRESS: Final = "finish_in_progress_scheduled_functions"
ALL: Final = "finish_all_scheduled_functions"
ADVANCE: Final = "advance"


class Timeline:
    """The time of one open deployment. Belongs to its event loop."""

    def __init__(self, host: Host, clock: VirtualClock) -> None:
        self._host = host
        self._clock = clock

    async def finish_in_progress(self, rounds: int, seconds: float | None) -> None:
        """Wait until nothing runs or is due."""
        async with self._waiting(IN_PROGRESS, seconds):
            await self._finish_due(_Rounds(IN_PROGRESS, rounds))

    async def finish_all(self, rounds: int, seconds: float | None) -> None:
        """Let time pass until nothing is scheduled."""
        allowed = _Rounds(ALL, rounds)
        async with self._waiting(ALL, seconds):
            await self._finish_due(allowed)
            while self._host.scheduler.next_due_ns is not None:
                self._advance_to(self._next_ns())
                await self._finish_due(allowed)

    async def advance(self, by: timedelta, rounds: int, seconds: float | None) -> None:
        """Let a span of time pass; what becomes due in it has then ended.

        Raises:
            InvalidArgument: the span is negative.
        """
        if by < timedelta():
            raise InvalidArgument(f"Time advances; {by} would set it back.")
        end_ns = self._clock.now_ns() + by // timedelta(microseconds=1) * 1000
        async with self._waiting(ADVANCE, seconds):
            await self._finish_due(_Rounds(ADVANCE, rounds))
            while (next_ns := self._next_ns()) is not None and next_ns <= end_ns:
                self._advance_to(next_ns)
                await self._finish_due(_Rounds(ADVANCE, rounds))
            self._advance_to(end_ns)

    def cron(self, name: str) -> Call:
        """Return the call that a cron makes.

        Raises:
            InvalidArgument: there is no cron of this name.
        """
        crons = {str(row["name"]): row for row in self._host.database.system_documents(CRON_JOBS)}
        row = crons.get(name)
        if row is None:
            close = difflib.get_close_matches(name, crons, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(crons)) or 'none'}."
            raise InvalidArgument(f"There is no cron {name!r}. {hint}")
        component = str(row.get("component", ""))
        return Call(str(row["path"]), cast("bytes", row["args"]), internal=True, component=component)

    def _next_ns(self) -> int | None:
        """When the next scheduled function or cron is due; rounded up to what the clock can show."""
        due = (self._host.scheduler.next_due_ns, self._host.crons.next_due_ns)
        next_ns = min((time for time in due if time is not None), default=None)
        return None if next_ns is None else -(-next_ns // 1000) * 1000

    def _advance_to(self, time_ns: int | None) -> None:
        if time_ns is not None and time_ns > self._clock.now_ns():
            self._clock.advance(timedelta(microseconds=(time_ns - self._clock.now_ns()) // 1000))

    async def _finish_due(self, rounds: "_Rounds") -> None:
        """Wait until nothing runs or is due at the present time."""
        host = self._host
        while True:
            await self._finish_rounds(rounds)
            await host.crons.settled()
            if not self._due():
                await host.scheduler.settled()
                if not host.scheduler.due_ids():
                    return

    async def _finish_rounds(self, rounds: "_Rounds") -> None:
        """Wait for what is due, then for what that has scheduled for now, and so on."""
        published = self._host.database.after_publish
        waiting: list[str] = []
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        # Called when the end of a function is published, before what it has scheduled can have ended, too: so the
        # number of rounds is that of the functions, whatever the machine does.
        def look() -> None:
            while waiting and not self._is_due(waiting[-1]):
                waiting.pop()
            if waiting or ended.done():
                return
            waiting.extend(self._due())
            if not waiting:
                ended.set_result(None)
            elif rounds.is_over():
                ended.set_exception(rounds.error())

        published.append(look)
        try:
            look()
            await ended
        finally:
            published.remove(look)

    def _due(self) -> list[str]:
        return [job_id for job_id in self._host.scheduler.due_ids() if self._is_due(job_id)]

    def _is_due(self, job_id: str) -> bool:
        job = self._job(job_id)
        return job is not None and is_unfinished(job) and job["nextTime"] * 1e6 - 1e3 <= self._clock.now_ns()

    def _job(self, job_id: str) -> Job | None:
        return read_job(self._host.database.begin_query(), job_id)

    @asynccontextmanager
    async def _waiting(self, verb: str, seconds: float | None) -> AsyncIterator[None]:
        """Wait for so many real seconds at most.

        Raises:
            TimeoutError: they are over; it says what still runs.
        """
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise TimeoutError(
                f"{verb}: scheduled function did not complete after {seconds:g} s of real time: {self._names()}. "
                "Does it wait for something that the test has to do, or really sleep? Else give it more with timeout=, "
                "or go past it in one step with deployment.clock.advance."
            ) from None

    def _names(self) -> str:
        host = self._host
        jobs = (self._job(job_id) for job_id in host.scheduler.due_ids())
        crons = {row["_id"]: row["name"] for row in host.database.system_documents(CRON_JOBS)}
        names = {str(job["name"]) for job in jobs if job is not None}
        names |= {f"cron {crons[cron_id]!r}" for cron_id in host.crons.due.due_ids() if cron_id in crons}
        return ", ".join(sorted(names)) or "none at this moment"


class _Rounds:
    """How often what was scheduled may schedule others."""

    def __init__(self, verb: str, most: int) -> None:
        self._verb = verb
        self._most = most
        self._begun = 0

    def is_over(self) -> bool:
        """Count one more, and tell whether that is too often."""
        self._begun += 1
        return self._begun > self._most

    def error(self) -> LimitExceeded:
        """Return what the test is told then."""
        return LimitExceeded(
            "TooManyIterations",
            f"{self._verb}: too many iterations. Check for infinitely recursive scheduled functions, "
            f"or allow more than max_iterations={self._most}.",
        )
