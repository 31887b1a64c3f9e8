"""Never more run than the pool allows, and what goes first is what should."""

from typing import Any

import pytest

from reactor.components.workpool.settings import BATCH, DUE_BATCH
from tests.components.workpool.pools import Pool


async def test_never_more_run_than_allowed_and_all_run(pool: Pool) -> None:
    """Real actions at a time, each held until the test lets it end."""
    names = [f"job{n:02}" for n in range(8)]
    works = dict(zip(names, await pool.enqueue("gated", *names, most=3), strict=True))
    for left in range(8, 0, -1):
        await pool.quiet()
        assert pool.gates.active == len(await pool.running()) == min(3, left)
        name = min(pool.gates.waiting)
        await pool.end(name, works[name])
    assert pool.gates.most == 3
    assert await pool.documents() == {}
    assert len(await pool.ends()) == 8


async def test_zero_pauses_and_an_update_goes_on(pool: Pool) -> None:
    await pool.one("act", most=0)
    await pool.settle()
    assert await pool.documents() == {"work": 1, "pendingStart": 1}
    await pool.allow(1)
    assert await pool.effects() == ["job"]


async def test_the_last_enqueue_says_how_many(pool: Pool) -> None:
    first = await pool.one("gated", "a", most=1)
    second = await pool.one("gated", "b", most=1)
    await pool.quiet()
    assert pool.gates.active == 1
    third = await pool.one("gated", "c", most=2)
    await pool.quiet()
    assert pool.gates.active == 2
    await pool.deployment.mutation("jobs:set_most", value=1)
    await pool.end("a", first)
    await pool.quiet()
    assert set(pool.gates.waiting) == {"b"}, "above what is allowed nothing starts"
    await pool.end("b", second)
    await pool.quiet()
    await pool.end("c", third)


async def test_higher_priorities_go_first_among_what_is_due(pool: Pool) -> None:
    held = await pool.one("gated", "held", most=1)
    await pool.quiet()
    for name, priority in (("low", -1), ("first", -0.0), ("second", 0), ("high", 5)):
        await pool.enqueue("effect", name, kind="mutation", most=1, options={"priority": priority})
    late = {"priority": 9, "run_after": 60_000}
    await pool.enqueue("effect", "late", kind="mutation", most=1, options=late)
    await pool.end("held", held)
    await pool.settle()
    assert await pool.effects() == ["high", "first", "second", "low"]
    await pool.deployment.advance(minutes=1)
    assert (await pool.effects())[-1] == "late"


async def test_what_has_become_due_while_there_was_no_room_takes_part(pool: Pool) -> None:
    held = await pool.one("gated", "held", most=1)
    await pool.quiet()
    await pool.enqueue("effect", "low", kind="mutation", most=1)
    await pool.enqueue("effect", "high", kind="mutation", most=1, options={"priority": 1, "run_after": 1000})
    pool.deployment.clock.advance(seconds=2)
    await pool.quiet()
    await pool.end("held", held)
    await pool.settle()
    assert await pool.effects() == ["high", "low"]


async def test_what_became_due_alone_while_there_was_no_room_is_not_forgotten(pool: Pool) -> None:
    held = await pool.one("gated", "held", most=1)
    await pool.quiet()
    await pool.enqueue("effect", "late", kind="mutation", most=1, options={"run_after": 1000})
    pool.deployment.clock.advance(seconds=2)
    await pool.quiet()
    await pool.end("held", held)
    await pool.settle()
    assert await pool.effects() == ["late"]


async def test_work_starts_at_its_time(pool: Pool) -> None:
    begin = pool.deployment.clock.now_ms
    for delay in (30_000, 10_000, 20_000):
        await pool.enqueue("effect", str(delay), kind="mutation", options={"run_after": delay})
    await pool.enqueue("effect", "at", kind="mutation", options={"run_at": begin + 15_000})
    await pool.deployment.advance(minutes=5)
    assert [time - begin for time in await pool.effect_times()] == [10_000, 15_000, 20_000, 30_000]


@pytest.mark.parametrize(("asked_days", "days"), [(-364, -364), (-400, 0), (4 * 365, 4 * 365), (4 * 365 + 1, 365)])
async def test_times_that_must_be_mistakes_are_bounded(pool: Pool, asked_days: float, days: float) -> None:
    now = pool.deployment.clock.now_ms
    day = 86_400_000.0
    await pool.enqueue("effect", most=0, kind="mutation", options={"run_at": now + asked_days * day})
    (pending,) = await pool.component.run(lambda ctx: ctx.db.query("pendingStart").collect())  # type: ignore[misc]
    assert pending["time"] == now + days * day  # type: ignore[index, call-overload]


async def test_a_time_and_a_delay_are_too_much(pool: Pool) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        await pool.enqueue("act", options={"run_at": 1, "run_after": 1})


async def test_nothing_starts_before_all_that_is_due_is_known(pool: Pool) -> None:
    """The most urgent became due last, behind more than one step looks at."""
    names = map(str, range(DUE_BATCH + 1))
    await pool.enqueue("effect", *names, kind="mutation", told=False, most=1, options={"run_after": 1000})
    urgent = await pool.one("gated", "urgent", most=1, options={"run_after": 1001, "priority": 1})
    pool.deployment.clock.advance(seconds=2)
    await pool.quiet()
    assert set(pool.gates.waiting) == {"urgent"}
    await pool.deployment.mutation("jobs:cancel_all", limit=1000)
    await pool.end("urgent", urgent)
    assert await pool.effects() == []


async def test_more_than_one_step_starts_has_room(pool: Pool) -> None:
    names = [str(n) for n in range(BATCH + 6)]
    loop = pool.deployment.component("workpool/batch_worker")
    await pool.enqueue("effect", *names, kind="mutation", told=False, most=0)
    await pool.settle()
    await loop.mutation("loops:stop", name="main")
    await pool.deployment.mutation("jobs:set_most", value=200)
    assert await pool.component.mutation("loop:main", name="main") == {"kind": "work"}
    await loop.mutation("loops:start", name="main")
    await pool.settle()
    assert sorted(await pool.effects()) == sorted(names)


async def test_what_waits_behind_something_canceled_starts_in_time(pool: Pool) -> None:
    begin = pool.deployment.clock.now_ms
    first = await pool.one("effect", kind="mutation", options={"run_after": 10_000})
    await pool.one("effect", kind="mutation", options={"run_after": 20_000})
    await pool.deployment.mutation("jobs:cancel", work=first)
    await pool.deployment.advance(minutes=1)
    assert [time - begin for time in await pool.effect_times()] == [20_000]


async def test_a_pool_with_nothing_to_do_costs_nothing(pool: Pool) -> None:
    """Once it has looked for the last time after those that ran."""
    await pool.one("act")
    await pool.deployment.advance(minutes=10)
    for component in ("workpool", "workpool/batch_worker"):
        rows: Any = await pool.deployment.component(component).query(
            lambda ctx: ctx.db.system.query("_scheduled_functions").collect()
        )
        assert [row["name"] for row in rows if row["state"]["kind"] == "pending"] == []
