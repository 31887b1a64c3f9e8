"""Migrations: each document changed once, whatever interrupts them, and what the statuses say meanwhile."""

from typing import Any

import pytest

from reactor import Error, ReactorError, components
from reactor.components.migrations import Migrations
from reactor.testing.deployment import MemoryDeployment

USERS = 10


async def fill(deployment: MemoryDeployment) -> None:
    async def insert(ctx: Any) -> None:
        for number in range(USERS):
            await ctx.db.insert("users", {"name": f"u{number}", "number": number, "old": "x"})

    await deployment.run(insert)


async def users(deployment: MemoryDeployment, field: str) -> list[Any]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query("users").collect())
    return [user.get(field) for user in found]


async def status(deployment: MemoryDeployment, name: str = "count") -> Any:
    found: Any = await deployment.query("migrations:statuses", names=[name])
    (found,) = found
    return found


async def start(deployment: MemoryDeployment, name: str = "count", **options: Any) -> Any:
    return await deployment.mutation("migrations:start", name=name, options=options)


async def begin(deployment: MemoryDeployment, name: str = "count", **step: Any) -> Any:
    """Run the first batch; the second one is due in an hour."""
    begun: Any = await deployment.mutation("migrations:run", {"fn": name, "oneBatchOnly": True})

    async def schedule(ctx: Any) -> None:
        row = await ctx.db.query("migrations").with_index("by_name", name=begun["name"]).unique()
        args = {"name": begun["name"], "fnHandle": handle, "next": [], "reset": False, **step}
        job = await ctx.scheduler.run_after(3_600_000, "runs:step", args)
        await ctx.db.patch(row["_id"], {"workerId": job})

    handle = await deployment.run(lambda ctx: ctx.function_handle(begun["name"]))
    await deployment.component("migrations").run(schedule)
    return await status(deployment, name)


async def test_a_migration_in_one_go(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    begun = await start(deployment)
    assert begun == {
        "name": "migrations:count",
        "cursor": begun["cursor"],
        "processed": 3,
        "isDone": False,
        "state": "inProgress",
        "latestStart": deployment.clock.now_ms,
    }
    assert await users(deployment, "times") == [1] * 3 + [None] * 7
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * USERS
    done = await status(deployment)
    assert (done["state"], done["cursor"], done["processed"], done["isDone"]) == ("success", None, USERS, True)
    assert done["latestEnd"] == deployment.clock.now_ms


async def test_an_empty_table_is_done_at_once(deployment: MemoryDeployment) -> None:
    done = await start(deployment)
    assert (done["state"], done["processed"]) == ("success", 0)


async def test_a_migration_is_a_function(deployment: MemoryDeployment) -> None:
    """As `reactor run migrations:count` calls it: it starts itself, and goes on by itself."""
    await fill(deployment)
    begun: Any = await deployment.mutation("migrations:count")
    assert (begun["name"], begun["state"]) == ("migrations:count", "inProgress")
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * USERS
    again: Any = await deployment.mutation("migrations:count")
    assert again["state"] == "success"
    batch: Any = await deployment.mutation("migrations:count", {"oneBatchOnly": True, "batchSize": 2})
    assert (batch["isDone"], batch["processed"]) == (False, 2), "and one batch of it alone, of which nothing is kept"
    assert (await status(deployment))["processed"] == USERS


async def test_every_spelling_of_a_name_is_one_migration(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    begun = await begin(deployment, "migrations:forgetOld")
    assert begun["name"] == "migrations:forget_old"
    assert await start(deployment, "forget_old") == begun


async def test_names_without_a_module_are_looked_for_where_the_application_says(deployment: MemoryDeployment) -> None:
    elsewhere = Migrations(components.migrations, location_prefix="old/migrations:")
    with pytest.raises(Error, match="old/migrations:count"):
        await deployment.run(lambda ctx: elsewhere.run_one(ctx, "count"))
    begun: Any = await deployment.run(lambda ctx: elsewhere.run_one(ctx, "migrations:count"))
    assert begun["name"] == "migrations:count"


async def test_only_what_is_returned_is_changed(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    await start(deployment, "forget_old")
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "old") == [None] * USERS
    await start(deployment, "shout")
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "name") == [f"u{n}" for n in range(5)] + [f"U{n}" for n in range(5, USERS)]
    assert (await status(deployment, "shout"))["processed"] == 5
    await start(deployment, "double")
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "number") == [2 * n for n in range(USERS)]
    await start(deployment, "with_context")
    assert await users(deployment, "name") == ["checked"] * USERS
    await start(deployment, "clean")
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "name") == []


async def test_row_rules_hide_nothing_from_a_migration(deployment: MemoryDeployment) -> None:
    await deployment.run(lambda ctx: ctx.db.unsafe.insert("secrets", {"text": "a"}))
    assert await deployment.run(lambda ctx: ctx.db.query("secrets").collect()) == []
    await start(deployment, "reveal")
    found: Any = await deployment.run(lambda ctx: ctx.db.unsafe.query("secrets").collect())
    (secret,) = found
    assert secret["text"] == "a!"


@pytest.mark.parametrize("size", [0, -1])
async def test_a_batch_size_must_be_positive(deployment: MemoryDeployment, size: int) -> None:
    with pytest.raises(ValueError, match=f"must be greater than 0, not {size}"):
        await start(deployment, batch_size=size)
    with pytest.raises(ValueError, match=f"must be greater than 0, not {size}"):
        await deployment.mutation("migrations:count", {"batchSize": size})
    assert await deployment.query("migrations:statuses") == []
    migrations = deployment.module("functions.migrations").migrations
    with pytest.raises(ValueError, match=f"must be greater than 0, not {size}"):
        migrations.define(table="users", batch_size=size)


async def test_a_handle_is_none(deployment: MemoryDeployment) -> None:
    with pytest.raises(ValueError, match=r"named by a handle, from ctx.function_handle\(\), not 'migrations:count'"):
        await deployment.mutation("migrations:start_handle", handle="migrations:count")


async def test_canceling(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    with pytest.raises(ValueError, match="'migrations:count' not found"):
        await deployment.mutation("migrations:cancel", name="count")
    assert (await begin(deployment))["state"] == "inProgress"
    canceled: Any = await deployment.mutation("migrations:cancel", name="count")
    assert (canceled["state"], canceled["processed"]) == ("canceled", 3)
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * 3 + [None] * 7
    assert (await start(deployment))["processed"] == 6, "a canceled one goes on where it was"
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * USERS
    after: Any = await deployment.mutation("migrations:cancel", name="count")
    assert after["state"] == "success", "what is done can't be canceled"


async def test_canceling_all(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    for name in ("count", "forget_old", "shout"):
        await begin(deployment, name)
    await start(deployment, "with_context")
    stopped: Any = await deployment.mutation("migrations:cancel_all")
    assert {one["name"] for one in stopped} == {f"migrations:{name}" for name in ("count", "forget_old", "shout")}
    assert {one["state"] for one in stopped} == {"canceled"}
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * 3 + [None] * 7
    assert await deployment.mutation("migrations:cancel_all") == []


async def test_one_that_is_done_is_not_run_again_but_with_reset(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    assert (await start(deployment, reset=True))["state"] == "inProgress", "reset works on a fresh one"
    await deployment.finish_all_scheduled_functions()
    await deployment.advance(hours=1)
    assert (await start(deployment))["state"] == "success"
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * USERS
    again = await start(deployment, reset=True)
    assert (again["state"], again["processed"], again["latestStart"]) == ("inProgress", 3, deployment.clock.now_ms)
    assert "latestEnd" not in again
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [2] * USERS


async def test_a_cursor_says_where_to_begin(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    third = (await start(deployment))["cursor"]
    await deployment.finish_all_scheduled_functions()
    again: Any = await deployment.mutation("migrations:start_from", cursor=third)
    assert again["processed"] == 3
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * 3 + [2] * 7
    await deployment.mutation("migrations:start_from", cursor=None)
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [2] * 3 + [3] * 7


async def test_a_series(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    begun: Any = await deployment.mutation("migrations:run_all")
    assert begun["next"] == ["migrations:forget_old", "migrations:shout"]
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * USERS
    assert await users(deployment, "old") == [None] * USERS
    found: Any = await deployment.query("migrations:statuses")
    assert [one["name"] for one in found] == [f"migrations:{name}" for name in ("shout", "forget_old", "count")]
    assert {one["state"] for one in found} == {"success"}


async def test_those_of_a_series_that_are_done_are_left_out_but_with_reset(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    for name in ("forget_old", "with_context"):
        await start(deployment, name)
        await deployment.finish_all_scheduled_functions()
    names = ["with_context", "forget_old", "count"]
    await deployment.advance(hours=1)
    begun = deployment.clock.now_ms
    await deployment.mutation("migrations:serially", names=names)
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * USERS
    starts = [(await status(deployment, name))["latestStart"] == begun for name in names]
    assert starts == [False, False, True]
    await deployment.mutation("migrations:serially", names=names, reset=True)
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [2] * USERS
    assert all([(await status(deployment, name))["latestStart"] >= begun for name in names])


@pytest.mark.parametrize("running", ["count", "shout"])
async def test_a_series_of_which_one_is_under_way_does_nothing(deployment: MemoryDeployment, running: str) -> None:
    await fill(deployment)
    before = await begin(deployment, running, batchSize=1)
    answer: Any = await deployment.mutation("migrations:run_all")
    assert answer == before
    assert answer["batchSize"] == 1
    for name in {"count", "forget_old", "shout"} - {running}:
        assert (await status(deployment, name))["state"] == "unknown"


async def test_a_failure_stops_a_migration_before_its_batch(
    deployment: MemoryDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(deployment)

    def refuse(document: dict[str, Any]) -> None:
        if document["number"] == 4:
            raise ReactorError("not this one")

    with monkeypatch.context() as patching:
        patching.setattr(deployment.module("functions.migrations"), "look", refuse)
        await deployment.mutation("migrations:serially", names=["count", "shout"])
        await deployment.finish_all_scheduled_functions()
        failed = await status(deployment)
        assert (failed["state"], failed["error"], failed["processed"]) == ("failed", "not this one", 3)
        assert await users(deployment, "times") == [1] * 3 + [None] * 7, "the third document of the batch undid it"
        assert (await status(deployment, "shout"))["state"] == "unknown", "those behind it have not begun"
        again: Any = await deployment.mutation("migrations:serially", names=["count", "shout"])
        assert again["state"] == "failed"
    await deployment.mutation("migrations:serially", names=["count", "shout"])
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * USERS
    assert "error" not in await status(deployment)
    assert (await status(deployment, "shout"))["state"] == "success"


async def test_what_fails_outside_of_the_batch_is_a_failure_too(deployment: MemoryDeployment) -> None:
    """A worker that did not even run: the function is gone, say."""
    await fill(deployment)
    await begin(deployment, nothing=1)
    await deployment.advance(hours=1)
    failed = await status(deployment)
    assert failed["state"] == "failed"
    assert "ArgumentValidationError" in failed["error"]
    assert (await start(deployment))["state"] == "inProgress"


async def test_a_dry_run_leaves_nothing(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    result: Any = await deployment.mutation("migrations:run", {"fn": "count", "dryRun": True})
    assert result["kind"] == "DRY RUN"
    assert (result["status"]["processed"], result["status"]["state"]) == (3, "unknown"), "nothing follows"
    assert await users(deployment, "times") == [None] * USERS
    assert await deployment.query("migrations:statuses") == []
    assert (await start(deployment, dry_run=True, batch_size=100))["state"] == "success"
    with pytest.raises(ReactorError) as raised:
        await deployment.mutation("migrations:count", {"oneBatchOnly": True, "dryRun": True})
    assert raised.value.data["kind"] == "DRY RUN"
    assert raised.value.data["result"]["processed"] == 3
    assert await deployment.query("migrations:statuses") == []


async def test_a_dry_run_that_fails_says_so(deployment: MemoryDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(deployment)
    monkeypatch.setattr(deployment.module("functions.migrations"), "look", int)
    with pytest.raises(TypeError):
        await start(deployment, dry_run=True)


async def test_the_runner(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    with pytest.raises(ValueError, match="Name the migration to run"):
        await deployment.mutation("migrations:run")
    one: Any = await deployment.mutation("migrations:run_count", {"oneBatchOnly": True})
    assert (one["processed"], one["state"]) == (3, "unknown")
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * 3 + [None] * 7
    named: Any = await deployment.mutation("migrations:run", {"fn": "count", "next": ["shout"], "batchSize": 5})
    assert (named["processed"], named["batchSize"], named["next"]) == (8, 5, ["migrations:shout"])
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * USERS
    assert (await status(deployment, "shout"))["state"] == "success"


async def test_from_an_action_to_the_end(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    await begin(deployment)
    with pytest.raises(RuntimeError, match="under way already"):
        await deployment.action("migrations:to_completion", name="count")
    await deployment.mutation("migrations:cancel", name="count")
    done: Any = await deployment.action("migrations:to_completion", name="count")
    assert (done["state"], done["processed"]) == ("success", USERS)
    assert await users(deployment, "times") == [1] * USERS
    await deployment.action("migrations:to_completion", name="count", reset=True)
    assert await users(deployment, "times") == [2] * USERS
    with pytest.raises(RuntimeError, match="makes no progress behind 0 documents"):
        await deployment.action("migrations:to_completion", name="stuck")


async def test_from_an_action_a_failure_is_raised(
    deployment: MemoryDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(deployment)
    with monkeypatch.context() as patching:
        patching.setattr(deployment.module("functions.migrations"), "look", int)
        with pytest.raises(RuntimeError, match="'migrations:count' failed"):
            await deployment.action("migrations:to_completion", name="count")
    await deployment.action("migrations:to_completion", name="count")
    assert await users(deployment, "times") == [1] * USERS


async def test_after_a_crash_between_two_batches_it_goes_on(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    await begin(deployment)
    async with deployment.fork() as after:
        assert await users(after, "times") == [1] * 3 + [None] * 7
        await after.advance(hours=1)
        await after.finish_all_scheduled_functions()
        assert await users(after, "times") == [1] * USERS
        assert (await status(after))["processed"] == USERS


@pytest.mark.parametrize("at", [1, 3, 4, 9])
async def test_after_a_crash_inside_of_a_batch_no_document_is_changed_twice(
    deployment: MemoryDeployment, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """What is durable when a document is looked at is all that the next process knows."""
    await fill(deployment)
    images: list[Any] = []
    seen: list[int] = []

    def crash(document: dict[str, Any]) -> None:
        seen.append(document["number"])
        if document["number"] == at and not images:
            images.append(deployment.snapshot())

    monkeypatch.setattr(deployment.module("functions.migrations"), "look", crash)
    await start(deployment)
    await deployment.finish_all_scheduled_functions()
    seen.clear()
    async with images[0].fork() as after:
        await start(after)
        await after.finish_all_scheduled_functions()
        assert await users(after, "times") == [1] * USERS
        assert seen == list(range(at // 3 * 3, USERS)), "only what was not committed is done again"


async def test_documents_that_come_and_go_meanwhile(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    await begin(deployment)
    before: Any = await deployment.query(lambda ctx: ctx.db.query("users").collect())
    ids = [user["_id"] for user in before]

    async def change(ctx: Any) -> None:
        for gone in (ids[2], ids[3]):
            await ctx.db.delete(gone)
        await ctx.db.insert("users", {"name": "new", "number": 99})

    await deployment.run(change)
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * (USERS - 1)


async def test_a_cleared_one_is_forgotten(deployment: MemoryDeployment) -> None:
    await fill(deployment)
    await begin(deployment)
    component = deployment.component("migrations")
    await component.mutation("runs:clearAll", before=0)
    assert (await status(deployment))["state"] == "inProgress"
    await component.mutation("runs:clearAll")
    await deployment.finish_all_scheduled_functions()
    assert await users(deployment, "times") == [1] * 3 + [None] * 7
    assert (await status(deployment))["state"] == "unknown"
    jobs: Any = await component.query(lambda ctx: ctx.db.system.query("_scheduled_functions").collect())
    assert [job["state"]["kind"] for job in jobs] == ["success"]


async def test_forgetting_many(deployment: MemoryDeployment) -> None:
    component = deployment.component("migrations")

    async def insert(ctx: Any) -> None:
        for number in range(250):
            row = {"name": str(number), "cursor": None, "isDone": True, "processed": 1, "latestStart": 0}
            await ctx.db.insert("migrations", row)

    await component.run(insert)
    assert len(await component.query("runs:getStatus")) == 100
    await component.mutation("runs:clearAll")
    await deployment.finish_all_scheduled_functions()
    assert await component.query("runs:getStatus") == []
