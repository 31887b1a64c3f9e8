"""Components of an application under test: called directly, from it, nested, by handles, and later."""

import asyncio
from typing import Any

import pytest

from reactor import components
from reactor.errors import FunctionNotFound
from reactor.testing.deployment import MemoryDeployment


async def count(deployment: MemoryDeployment, instance: str, name: str) -> Any:
    return await deployment.component(instance).query("counting:count", name=name)


async def test_a_direct_call(deployment: MemoryDeployment) -> None:
    assert await deployment.component("counter").mutation("counting:add", name="a") == 1
    assert await deployment.mutation(components.counter.counting.add, name="a") == 2
    assert await deployment.query(components.counter.counting.count, name="a") == 2


async def test_instances_have_their_own_data(deployment: MemoryDeployment) -> None:
    assert await deployment.mutation("counting:add_to_both") == [1, 10]
    assert await deployment.mutation("counting:add_to_both") == [2, 20]
    for instance, expected in (("counter", 2), ("other", 20)):
        rows: Any = await deployment.component(instance).run(lambda ctx: ctx.db.query("counts").collect())
        assert [row["count"] for row in rows] == [expected]


async def test_calls_of_different_components_at_a_time(deployment: MemoryDeployment) -> None:
    results = await asyncio.gather(*(deployment.action("counting:add_to_both_from_action") for _ in range(5)))
    assert sorted(results) == [[float(n), float(10 * n)] for n in range(1, 6)]  # type: ignore[type-var]
    assert [await count(deployment, instance, "b") for instance in ("counter", "other")] == [5, 50]


async def test_a_component_in_a_component(deployment: MemoryDeployment) -> None:
    assert [await deployment.mutation("counting:add_deep") for _ in range(2)] == [1, 2]
    inner = deployment.component("counter/inner")
    assert await inner.mutation("counting:add", name="a") == 3
    assert await deployment.component("other/inner").mutation("counting:add", name="a") == 1


async def test_handles_are_called_at_once_and_later(deployment: MemoryDeployment) -> None:
    await deployment.mutation("counting:call_back")
    assert await deployment.query("messages:bodies") == ["at once"]
    await deployment.advance(seconds=1)
    assert await deployment.query("messages:bodies") == ["at once", "later"]
    await deployment.finish_all_scheduled_functions()
    assert await deployment.query("messages:bodies") == ["at once", "later", "by the app"]


async def test_a_component_has_a_scheduler_of_its_own(deployment: MemoryDeployment) -> None:
    def states(ctx: Any) -> Any:
        return ctx.db.system.query("_scheduled_functions").collect()

    counter = deployment.component("counter")
    job: Any = await counter.mutation("counting:add_later", name="later")
    assert await deployment.query(states) == [] == await deployment.component("other").query(states)
    (shown,) = await counter.query(states)  # type: ignore[misc, union-attr]
    assert (shown["_id"], shown["state"]) == (job, {"kind": "pending"})  # type: ignore[index, call-overload]
    await deployment.finish_all_scheduled_functions()
    assert await count(deployment, "counter", "later") == 1
    (shown,) = await counter.query(states)  # type: ignore[misc, union-attr]
    assert shown["state"] == {"kind": "success"}  # type: ignore[index, call-overload]


@pytest.mark.parametrize("verb", ["query", "mutation", "action", "run"])
async def test_what_is_not_mounted_is_named(deployment: MemoryDeployment, verb: str) -> None:
    with pytest.raises(FunctionNotFound, match=r"Component path 'conter' not found\. Did you mean 'counter'\?"):
        await getattr(deployment.component("conter"), verb)(lambda ctx: None)
