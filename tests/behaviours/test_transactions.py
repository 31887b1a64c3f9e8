"""Isolation, sub-transactions, snapshots and limits of nested calls, through the fixture."""

import asyncio
from typing import Any

import pytest

from reactor.errors import LimitExceeded, ReactorError
from reactor.limits import MAX_DOCUMENTS_READ, MAX_DOCUMENTS_WRITTEN
from reactor.testing.deployment import MemoryDeployment


async def documents(deployment: MemoryDeployment, table: str) -> Any:
    return await deployment.query(lambda ctx: ctx.db.query(table).collect())


# Isolation.


async def test_transactions_at_a_time_are_as_if_one_after_the_other(deployment: MemoryDeployment) -> None:
    counts = await asyncio.gather(*(deployment.mutation("counters:increment", name="a") for _ in range(50)))
    assert sorted(counts) == [float(count) for count in range(1, 51)]
    assert await deployment.query("counters:count", name="a") == 50


async def test_transactions_that_interleave_are_as_if_one_after_the_other(deployment: MemoryDeployment) -> None:
    await deployment.mutation("counters:increment", name="a")
    async with deployment.hold("counters:increment", {"name": "a"}, at=2) as held:
        assert await deployment.mutation("counters:increment", name="a") == 2
        assert await held.finish() == 3
        assert held.attempts == 2


async def test_mutations_of_one_action_at_a_time_lose_nothing(deployment: MemoryDeployment) -> None:
    await deployment.action("counters:append_at_once", number=40)
    messages = await documents(deployment, "messages")
    assert {message["body"] for message in messages} == {str(number) for number in range(40)}
    assert [float(message["author"]) for message in messages] == [float(before) for before in range(40)]


# Sub-transactions.


async def test_a_child_that_fails_takes_back_what_it_wrote_and_nothing_else(deployment: MemoryDeployment) -> None:
    await deployment.mutation("nested:catch")
    assert await deployment.query("messages:bodies") == ["before", "child was caught"]


async def test_a_parent_that_fails_takes_back_what_its_children_wrote(deployment: MemoryDeployment) -> None:
    with pytest.raises(ReactorError, match="PARENT"):
        await deployment.mutation("nested:fail_after_child")
    assert await deployment.query("messages:bodies") == []


async def test_what_a_child_inserted_and_then_changed_is_seen_by_its_parent(deployment: MemoryDeployment) -> None:
    assert await deployment.mutation("nested:see") == ["patched", None]
    assert await deployment.query("messages:bodies") == ["patched"]


# A called query, and what others see.


async def test_a_called_query_sees_what_the_mutation_has_written(deployment: MemoryDeployment) -> None:
    await deployment.mutation("messages:add", body="earlier")
    assert await deployment.mutation("nested:read_ahead", body="now") == [1, 2]


async def test_nobody_else_sees_what_is_pending_but_all_that_was_committed(deployment: MemoryDeployment) -> None:
    await deployment.mutation("messages:add", body="earlier")
    async with deployment.hold("nested:catch", at=2) as held:  # its first document is written
        assert await deployment.query("messages:bodies") == ["earlier"]
        await held.finish()
    assert await deployment.query("messages:bodies") == ["earlier", "before", "child was caught"]


# Limits.


async def test_writes_that_were_taken_back_do_not_count(deployment: MemoryDeployment) -> None:
    number = MAX_DOCUMENTS_WRITTEN // 2 + 1
    await deployment.mutation("nested:roll_back_many", number=number, rounds=1)
    assert await deployment.run(lambda ctx: ctx.db.query("things").count()) == number


async def test_the_limits_hold_for_all_nested_calls_together(deployment: MemoryDeployment) -> None:
    number = MAX_DOCUMENTS_WRITTEN // 2 + 1
    with pytest.raises(LimitExceeded, match=f"Too many writes.*{MAX_DOCUMENTS_WRITTEN}"):
        await deployment.mutation("nested:write_in_children", number=number, rounds=2)
    assert await deployment.run(lambda ctx: ctx.db.query("things").count()) == 0


async def test_what_a_transaction_used_is_not_counted_for_the_next(deployment: MemoryDeployment) -> None:
    await deployment.mutation("nested:write_in_children", number=1000, rounds=1)
    most = MAX_DOCUMENTS_READ // 1000
    for _ in range(2):
        assert await deployment.query("nested:read_in_children", rounds=most) == MAX_DOCUMENTS_READ
    with pytest.raises(LimitExceeded, match=f"Too many.*read.*{MAX_DOCUMENTS_READ}"):
        await deployment.query("nested:read_in_children", rounds=most + 1)
