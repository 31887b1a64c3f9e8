"""Who goes next: one turn of the loop at a time, on a clock that the steps move themselves."""

import asyncio

import pytest

from reactor.runtime.runqueue import RunQueue, Step

pytestmark = pytest.mark.asyncio


class Work:
    """A queue whose steps take as long as they say, and the order in which they ran, by turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queue = RunQueue(1000.0, lambda: self.now)  # slices of one second
        self.ran: list[str] = []
        self.turns: list[list[str]] = []

    def step(self, name: str, seconds: float = 1.0) -> Step:
        def run() -> None:
            self.ran.append(name)
            self.now += seconds

        return run

    async def turn(self) -> list[str]:
        """Let the loop go round once."""
        await asyncio.sleep(0)
        ran, self.ran = self.ran, []
        return ran

    async def finish(self) -> list[list[str]]:
        turns = []
        while len(self.queue):
            turns.append(await self.turn())
        return turns


async def test_nothing_runs_inside_the_call_that_queues_it() -> None:
    work = Work()
    work.queue.request(work.step("a"))
    work.queue.suspend(work.step("b"))
    work.queue.background(work.step("c"))
    assert work.ran == []
    assert len(work.queue) == 3


async def test_each_class_makes_progress_in_every_second_turn() -> None:
    work = Work()
    for at in range(3):
        work.queue.request(work.step(f"request {at}"))
        work.queue.suspend(work.step(f"suspended {at}"))
        work.queue.background(work.step(f"rerun {at}"))

    turns = [[[f"request {at}"], [f"suspended {at}", f"rerun {at}"]] for at in range(3)]
    assert await work.finish() == [turn for two in turns for turn in two]


async def test_requests_that_come_alone_are_not_kept_waiting_for_nothing() -> None:
    work = Work()
    for at in range(3):
        work.queue.request(work.step(f"request {at}"))
    assert await work.finish() == [[f"request {at}"] for at in range(3)]


async def test_short_steps_share_one_turn() -> None:
    work = Work()
    for at in range(4):
        work.queue.request(work.step(f"request {at}", 0.3))
    work.queue.background(work.step("rerun", 0.1))

    assert await work.finish() == [["request 0", "request 1", "request 2", "request 3"], ["rerun"]]


async def test_a_stream_of_requests_does_not_starve_the_others() -> None:
    work = Work()
    left = 50

    def another() -> None:
        nonlocal left
        work.ran.append("request")
        work.now += 1
        left -= 1
        if left:
            work.queue.request(another)

    work.queue.request(another)
    for at in range(3):
        work.queue.background(work.step(f"rerun {at}"))

    turns = await work.finish()
    assert turns[:6] == [["request"], ["rerun 0"], ["request"], ["rerun 1"], ["request"], ["rerun 2"]]
    assert len(turns) == 53


async def test_a_step_that_queues_itself_again_lets_the_others_of_its_class_go_first() -> None:
    work = Work()

    def again() -> None:
        work.step("long")()
        work.queue.suspend(work.step("long, part 2"))

    work.queue.suspend(again)
    work.queue.suspend(work.step("other"))

    assert await work.finish() == [["long"], ["other"], ["long, part 2"]]


async def test_a_step_is_due_when_its_own_slice_is_used_up() -> None:
    work = Work()
    due: list[bool] = []

    def look() -> None:
        due.append(work.queue.is_due())
        work.now += 0.9
        due.append(work.queue.is_due())
        work.now += 0.2
        due.append(work.queue.is_due())
        work.queue.start_slice()
        due.append(work.queue.is_due())

    work.queue.request(work.step("before", 0.9))
    work.queue.request(look)
    await work.finish()
    assert due == [False, False, True, False]


async def test_a_step_that_raises_does_not_stop_the_queue() -> None:
    work = Work()
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["exception"]))

    def broken() -> None:
        raise ValueError("broken")

    work.queue.request(broken)
    work.queue.request(work.step("next"))
    turns = await work.finish()

    assert [step for turn in turns for step in turn] == ["next"]
    assert [str(problem) for problem in problems] == ["broken"]


async def test_a_queue_that_is_held_runs_nothing_until_it_is_released() -> None:
    work = Work()
    work.queue.request(work.step("before"))
    work.queue.hold()
    work.queue.suspend(work.step("during"))
    assert await work.turn() == []
    assert await work.turn() == []
    work.queue.release()
    assert await work.finish() == [["before"], ["during"]]
