"""The commit gate: open unless held, first come first served, and never held for ever."""

import asyncio

import pytest

from reactor.runtime.commitgate import CommitGate
from reactor.runtime.runqueue import RunQueue

pytestmark = pytest.mark.asyncio


class Mutation:
    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self.seen = seen

    def granted(self) -> None:
        self.seen.append(f"{self.name} granted")

    def expired(self) -> None:
        self.seen.append(f"{self.name} expired")


def gate(seconds: float = 60.0) -> tuple[CommitGate, list[str], Mutation, Mutation]:
    seen: list[str] = []
    return CommitGate(RunQueue(4.0), seconds), seen, Mutation("a", seen), Mutation("b", seen)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_commits_and_candidates_are_served_in_the_order_they_came() -> None:
    made, seen, a, b = gate()
    made.close(a)
    assert seen == ["a granted"]
    made.wait(lambda: seen.append("first"))
    made.close(b)
    made.wait(lambda: seen.append("second"))
    assert made.is_closed
    assert made.is_held_by(a)

    made.leave(a)
    assert made.is_closed, "those who come now stand behind those who wait"
    await turns()
    assert seen == ["a granted", "first", "b granted"]
    assert made.is_held_by(b)
    made.leave(b)
    await turns()
    assert seen[3:] == ["second"]
    assert not made.is_closed


async def test_who_leaves_the_line_is_not_granted() -> None:
    made, seen, a, b = gate()
    made.close(a)
    made.close(b)
    made.leave(b)
    made.leave(a)
    await turns()
    assert seen == ["a granted"]
    assert not made.is_closed


async def test_a_holder_that_takes_too_long_gives_way() -> None:
    made, seen, a, _b = gate(0.0)
    opened = asyncio.get_running_loop().create_future()
    made.close(a)
    made.wait(lambda: opened.set_result(None))
    await opened
    assert seen == ["a granted", "a expired"]
    made.leave(a)
    await turns()
    assert not made.is_closed


async def test_a_long_line_is_served_in_slices() -> None:
    queue = RunQueue(4.0)
    queue.is_due = lambda: True  # type: ignore[method-assign]
    made = CommitGate(queue, 60.0)
    seen: list[int] = []
    a = Mutation("a", [])
    made.close(a)
    for at in range(3):
        made.wait(lambda at=at: seen.append(at))  # type: ignore[misc]
    made.leave(a)
    made._advance()
    assert seen == [0]
    assert made.is_closed
    await turns()
    assert seen == [0, 1, 2]
    assert not made.is_closed
