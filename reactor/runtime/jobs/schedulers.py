"""The schedulers of a deployment: one for the application, and one for each component instance.

Owns which of them are open. Each has its own queue, since a component's scheduled functions are documents of its own;
that of an instance which is not mounted at present stays as it is until it is mounted again. Used by the host.
"""

from reactor.ports import Alarms, Clock
from reactor.runtime.executor import Executor
from reactor.runtime.jobs.scheduler import Scheduler


class Schedulers:
    """Every scheduler. A `Service` of the host."""

    def __init__(self, executor: Executor, clock: Clock, alarms: Alarms) -> None:
        self._executor = executor
        self._clock = clock
        self._alarms = alarms
        self._all: dict[str, Scheduler] = {"": Scheduler(executor, clock, alarms)}  # by path of the instance
        self._open: list[Scheduler] = []
        self._is_started = False

    @property
    def application(self) -> Scheduler:
        """That of the application itself."""
        return self._all[""]

    def start(self) -> None:
        """Begin to run what is due."""
        self._is_started = True
        self.follow()

    def follow(self) -> None:
        """Open the schedulers of what is mounted in the latest version, and close the others."""
        if not self._is_started:
            return
        mounted = self._executor.versions.latest().scopes
        for path in mounted:
            if path not in self._all:
                self._all[path] = Scheduler(self._executor, self._clock, self._alarms, path)
        wanted = [scheduler for path, scheduler in self._all.items() if path in mounted]
        for scheduler in self._open:
            if scheduler not in wanted:
                scheduler.close()
        for scheduler in wanted:
            if scheduler not in self._open:
                scheduler.start()
        self._open = wanted

    async def stop(self) -> None:
        """Begin nothing more, and wait for the mutations that run."""
        self._is_started = False
        for scheduler in self._all.values():
            await scheduler.stop()

    async def settled(self) -> None:
        """Wait until no scheduled function runs or is due, and everything is durable."""
        while True:
            for scheduler in self._open:
                await scheduler.settled()
            if all(scheduler.is_settled for scheduler in self._open):
                return

    def due_ids(self) -> list[str]:
        """Return the ids of the scheduled functions that run or are due."""
        return [job_id for scheduler in self._open for job_id in scheduler.due.due_ids()]

    @property
    def next_due_ns(self) -> int | None:
        """When the next scheduled function is due, in nanoseconds since the Unix epoch, or None."""
        return min((due for scheduler in self._open if (due := scheduler.next_due_ns) is not None), default=None)
