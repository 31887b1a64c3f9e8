"""From a call to its one outcome: lookup, arguments, attempts, commit, and the wait for the disk."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reactor.engine.transaction import Transaction
from reactor.errors import OutcomeUnknown, Overloaded, ReactorError, Unavailable, WriteConflict
from reactor.limits import Limits
from reactor.runtime.calls import Call, Outcome
from reactor.storage.memory import MemoryPersistence
from tests.runtime.hosts import HEAD, failure, open_bench, project_files, refusal, success, value_of
from tests.storage.faults import Fault, FaultyPersistence

pytestmark = pytest.mark.asyncio

APP = project_files(
    app="""
import random
import time
from dataclasses import dataclass

@mutation
async def make(ctx) -> str:
    return await ctx.db.insert("counters", {"value": 0})

@mutation
async def add(ctx, id: str) -> int:
    value = (await ctx.db.get(id))["value"] + 1
    await ctx.db.patch(id, {"value": value})
    return value

@query
async def read(ctx, id: str):
    return (await ctx.db.get(id))["value"]

@query
def total(ctx):
    return sum(counter["value"] for counter in ctx.db.query("counters"))

@mutation
async def slow_total(ctx, id: str, then: float):
    total = 0
    async for counter in ctx.db.query("counters"):
        total += counter["value"]
    await ctx.db.patch(id, {"value": total + then})
    return total

@mutation
async def nothing(ctx):
    print("nothing to do")
    return None

@mutation
async def look(ctx):
    return await ctx.db.query("counters").count()

@mutation
async def fails(ctx, id: str):
    await ctx.db.patch(id, {"value": 100})
    raise ReactorError({"code": "NO"})

@mutation
async def fails_below(ctx, id: str, limit: float):
    value = (await ctx.db.get(id))["value"] + 1
    await ctx.db.patch(id, {"value": value})
    if value < limit:
        raise ValueError("too low")
    return value

@internal_query
async def secret(ctx):
    return "secret"

@action
async def act(ctx):
    pass

@query(args={"n": v.integer(), "who": v.optional(v.id("counters"))})
async def typed(ctx, n, who=None):
    return [repr(n), who]

@query(args={}, returns=v.array(v.string()))
async def wrong_result(ctx):
    return [1]

@query
async def no_value(ctx):
    return {1, 2}

@query
async def huge(ctx):
    return "x" * (17 * 1024 * 1024)

@dataclass
class Point:
    x: float

    def __post_init__(self):
        if self.x < 0:
            raise ValueError("negative")

@query
async def pointed(ctx, point: Point) -> Point:
    return Point(point.x + 1)

@query
async def no_point(ctx) -> Point:
    return 5

@dataclass
class Stamped:
    x: float

    def __post_init__(self):
        self.at = time.time()
        self.seen = random.random()
        print("stamped", self.x)

@query
async def stamped(ctx, stamp: Stamped):
    return stamp.at

@query
async def no_result(ctx):
    return ctx.db.query("counters")

@mutation
async def chatty(ctx, lines: int, size: int):
    for at in range(lines):
        print("x" * size)
        print("y", at)

@mutation
async def many(ctx, reads: int, writes: int, size: int, ranges: int):
    id = await ctx.db.insert("others", {"x": "x" * size})
    for _ in range(reads):
        await ctx.db.get(id)
    for at in range(writes):
        await ctx.db.patch(id, {"x": at})
    for at in range(ranges):
        await ctx.db.query("counters").with_index("by_creation_time", lambda q: q.eq("_creationTime", at)).first()
"""
)


# Which function, and with what.


@pytest.mark.parametrize(
    ("kind", "path", "args", "detail"),
    [
        ("query", "app:nope", {}, "Could not find public function for 'app:nope'."),
        ("query", "app.js:nope", {}, "Could not find public function for 'app:nope'."),
        ("query", "nowhere", {}, "Could not find public function for 'nowhere'."),
        ("query", "app:secret", {}, "Could not find public function for 'app:secret'."),
        ("query", "app:make", {}, "Trying to execute app.js:make as Query, but it is defined as Mutation."),
        ("mutation", "app:total", {}, "Trying to execute app.js:total as Mutation, but it is defined as Query."),
        ("mutation", "app:act", {}, "Trying to execute app.js:act as Mutation, but it is defined as Action."),
        ("action", "app:total", {}, "Trying to execute app.js:total as Action, but it is defined as Query."),
        ("action", "app:nope", {}, "Could not find public function for 'app:nope'."),
        ("action", "app:secret", {}, "Could not find public function for 'app:secret'."),
        (
            "query",
            "app:typed",
            {},
            "ArgumentValidationError: Object is missing the required field `n`. Consider wrapping the field validator "
            "in `v.optional(...)` if this is expected.\n\nObject: {}\n"
            'Validator: v.object({n: v.integer(), who: v.optional(v.id("counters"))})',
        ),
        (
            "query",
            "app:typed",
            {"n": 1.5},
            "ArgumentValidationError: Value does not match validator.\nPath: .n\nValue: 1.5\nValidator: v.integer()",
        ),
        ("query", "app:no_value", {}, "Function app.js:no_value return value invalid: "),
        (
            "query",
            "app:no_result",
            {},
            "Uncaught InvalidArgument: Return value is a Query. Results must be retrieved with `.collect()`, "
            "`.take(n), `.unique()`, or `.first()`.",
        ),
        ("query", "app:wrong_result", {}, "ReturnsValidationError: Value does not match validator.\nPath: [0]\n"),
        ("query", "app:huge", {}, "Function app.js:huge return value is too large (actual: 17.00 MiB, limit: 16 MiB)"),
        ("query", "app:pointed", {"point": {"x": -1}}, "Uncaught ValueError: negative\n"),
    ],
)
async def test_what_can_not_run_is_told_in_the_official_words(
    tmp_path: Path, kind: str, path: str, args: dict[str, Any], detail: str
) -> None:
    async with open_bench(tmp_path, APP) as bench:
        told = failure(await bench.submit(kind, path, args))
    assert told.detail.startswith(detail)
    assert told.message == f"[Request ID: 00000000deadbeef] Server Error\n{told.detail}"


@pytest.mark.parametrize(
    ("args", "detail"),
    [
        (
            b"[]",
            "ArgumentValidationError: Expected to receive an object as the function's argument. Instead received: []",
        ),
        (b"{", "Invalid arguments for app.js:total: Invalid JSON: "),
        (b'{"$a": 1, "b": 2}', "Invalid arguments for app.js:total: Field name $a starts with '$', which is reserved."),
        (
            b'{"a": "' + b"x" * (17 << 20) + b'"}',
            "Arguments for app.js:total are too large (actual: 17.00 MiB, limit: 16 MiB)",
        ),
    ],
)
async def test_arguments_that_are_none_are_told(tmp_path: Path, args: bytes, detail: str) -> None:
    async with open_bench(tmp_path, APP) as bench:
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        bench.host.executor.submit_query(Call("app:total", args), done.set_result)
        assert failure(await done).detail.startswith(detail)


async def test_a_path_that_is_none_is_refused_as_a_breach_of_protocol(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        for kind in ("query", "mutation", "any"):
            error = refusal(await bench.submit(kind, "app:a b")).error
            assert error.code == "ProtocolError"


async def test_values_arrive_and_leave_as_declared(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        assert await bench.query("app:typed", n=3) == ["3", None]
        assert await bench.query("app:pointed", point={"x": 1}) == {"x": 2.0}
        assert failure(await bench.submit("query", "app:no_point")).detail


async def test_folded_paths_and_internal_callers(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        assert await bench.query("app:Total") == 0
        assert value_of(await bench.submit("any", "app:secret", internal=True)) == "secret"
        assert value_of(await bench.submit("any", "app:look")) == 0


async def test_before_the_first_push_nothing_runs(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        for kind in ("query", "mutation", "any"):
            assert isinstance(refusal(await bench.submit(kind, "a:b")).error, Unavailable)


async def test_after_closing_nothing_runs(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        waiting = bench.submit("mutation", "app:make")
        await bench.host.close()
        late = [waiting, *(bench.submit(kind, "app:look") for kind in ("query", "mutation", "any"))]
        for outcome in [await done for done in late[1:]]:
            assert isinstance(refusal(outcome).error, Unavailable)
        await waiting


async def test_redaction_hides_texts_and_log_lines_but_no_data(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, redact=True) as bench:
        counter = await bench.mutation("app:make")
        told = failure(await bench.submit("mutation", "app:fails", {"id": counter}))
        assert (told.message, told.data) == ("[Request ID: 00000000deadbeef] Server Error", b'{"code":"NO"}')
        assert success(await bench.submit("mutation", "app:nothing")).log_lines == ()


async def test_log_lines_come_with_the_outcome(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        assert success(await bench.submit("mutation", "app:nothing")).log_lines == ("[LOG] 'nothing to do'",)


async def test_a_failure_undoes_everything(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        with pytest.raises(ReactorError) as caught:
            await bench.mutation("app:fails", id=counter)
        assert caught.value.data == {"code": "NO"}
        assert await bench.query("app:read", id=counter) == 0


async def test_arguments_are_made_inside_the_execution(tmp_path: Path) -> None:
    """A dataclass that looks at the clock, draws a number or prints, does so as the function itself would."""
    async with open_bench(tmp_path, APP) as bench:
        outcome = success(await bench.submit("query", "app:stamped", {"stamp": {"x": 1}}))
        assert value_of(outcome) == bench.clock.wall / 1e9
        assert outcome.log_lines == ("[LOG] 'stamped 1.0'",)


async def test_log_lines_are_bounded_in_number_and_length(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        lines = success(await bench.submit("mutation", "app:chatty", {"lines": 200, "size": 40_000})).log_lines
    assert len(lines) == 256
    assert lines[-1] == "[ERROR] Log overflow (maximum 256). Remaining log lines omitted."
    assert lines[0] == "[LOG] '" + "x" * 32_767 + " (truncated due to length)"
    assert lines[1] == "[LOG] 'y 0'"


@pytest.mark.parametrize(
    ("used", "warning"),
    [
        ({"reads": 25_602}, "Many documents read in a single function execution (actual: 25602, limit: 32000). "),
        ({"writes": 12_800}, "Many documents written in a single function execution (actual: 12801, limit: 16000). "),
        ({"reads": 14, "size": 1_000_000}, "Many bytes read in a single function execution (actual: 14"),
        ({"ranges": 3300}, "Many reads in a single function execution (actual: 330"),
    ],
)
async def test_who_comes_near_a_limit_is_warned(tmp_path: Path, used: dict[str, int], warning: str) -> None:
    args = {"reads": 0, "writes": 0, "size": 1, "ranges": 0} | used
    async with open_bench(tmp_path, APP) as bench:
        lines = success(await bench.submit("mutation", "app:many", args)).log_lines
        assert [line for line in lines if line.startswith(f"[WARN] {warning}")], lines
        few = {name: count * 3 // 4 for name, count in args.items()}
        assert success(await bench.submit("mutation", "app:many", few)).log_lines == ()


# Conflicts.


async def test_two_interleaved_increments_both_count(tmp_path: Path) -> None:
    """Each call on ctx ends its slice, so both read before either writes; one must lose and run again."""
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        stats = bench.host.executor.stats
        bench.clock.tick = 1.0

        first, second = (bench.submit("mutation", "app:add", {"id": counter}) for _ in range(2))
        values = [value_of(await first), value_of(await second)]

        bench.clock.tick = 0.0
        assert sorted(values) == [1, 2]
        assert await bench.query("app:read", id=counter) == 2
        assert stats.conflicts == 1
        assert stats.suspensions >= 4


async def test_without_validation_the_same_interleaving_loses_an_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the test above can fail at all."""
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        monkeypatch.setattr(bench.host.database.committer, "validate", lambda transaction, since=None: None)
        bench.clock.tick = 1.0

        await asyncio.gather(*(bench.submit("mutation", "app:add", {"id": counter}) for _ in range(2)))

        bench.clock.tick = 0.0
        assert await bench.query("app:read", id=counter) == 1


async def test_many_interleaved_increments_all_count(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        bench.clock.tick = 1.0
        values = [
            value_of(outcome)
            for outcome in await asyncio.gather(
                *(bench.submit("mutation", "app:add", {"id": counter}) for _ in range(30))
            )
        ]
        bench.clock.tick = 0.0
        assert sorted(values) == list(range(1, 31))


async def test_an_overtaken_mutation_stops_at_its_resume_and_runs_again(tmp_path: Path) -> None:
    """It does not go on to the end of a long scan that can't count any more."""
    limits = Limits(scan_check_entries=1)
    async with open_bench(tmp_path, APP, limits=limits) as bench:
        counters = [await bench.mutation("app:make") for _ in range(10)]
        for _ in range(2):
            await bench.mutation("app:add", id=counters[0])
        stats = bench.host.executor.stats
        bench.clock.tick = 1.0
        long = bench.submit("mutation", "app:slow_total", {"id": counters[9], "then": 100})
        for _ in range(8):
            await asyncio.sleep(0)
        assert 0 < stats.suspensions < 9, "in the middle of its scan"

        bench.clock.tick = 0.0
        at = stats.suspensions
        short = bench.submit("mutation", "app:add", {"id": counters[0]})
        assert value_of(await short) == 3
        assert value_of(await long) == 3

        assert stats.conflicts == 1
        assert stats.suspensions == at + 1, "the lost attempt was resumed once and ended there"
        assert await bench.query("app:read", id=counters[9]) == 103


async def test_a_commit_elsewhere_does_not_stop_a_suspended_mutation(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        counters = [await bench.mutation("app:make") for _ in range(4)]
        bench.clock.tick = 1.0
        long = bench.submit("mutation", "app:add", {"id": counters[0]})
        await asyncio.sleep(0)
        short = bench.submit("mutation", "app:add", {"id": counters[1]})
        assert [value_of(await long), value_of(await short)] == [1, 1]
        bench.clock.tick = 0.0
        assert bench.host.executor.stats.conflicts == 0


async def test_the_last_attempt_can_not_be_interleaved_with(tmp_path: Path) -> None:
    """A rival that commits in every turn beats each attempt but the last, which never gives up its slice."""
    limits = Limits(scan_check_entries=1, max_commit_attempts=3)
    async with open_bench(tmp_path, APP, limits=limits) as bench:
        counters = [await bench.mutation("app:make") for _ in range(10)]
        stats = bench.host.executor.stats

        def rival(outcome: Outcome | None = None) -> None:
            if not long.done():
                call = Call("app:nudge", b"{}", internal=True)
                bench.host.executor.submit_handler(nudge, call, rival)

        def nudge(ctx: Any) -> None:
            ctx.db.patch(counters[0], {"value": ctx.db.get(counters[0])["value"] + 1})

        bench.clock.tick = 1.0
        long = bench.submit("mutation", "app:slow_total", {"id": counters[9], "then": 0})
        rival()
        await long
        bench.clock.tick = 0.0

        assert stats.conflicts == 2
        success(long.result())


async def test_the_last_attempt_is_exclusive_also_while_it_gathers(tmp_path: Path) -> None:
    """Its tasks go through the loop, where a rival would commit between any two of them."""
    async with open_bench(tmp_path, APP, limits=Limits(max_commit_attempts=3)) as bench:
        counters = [await bench.mutation("app:make") for _ in range(5)]

        async def gathers(ctx: Any) -> None:
            for _ in range(2):
                documents = await asyncio.gather(*map(ctx.db.get, counters))
            await ctx.db.patch(counters[4], {"value": documents[0]["value"]})

        def nudge(ctx: Any) -> None:
            ctx.db.patch(counters[0], {"value": ctx.db.get(counters[0])["value"] + 1})

        def rival(outcome: Outcome | None = None) -> None:
            if not gathering.done():
                bench.host.executor.submit_handler(nudge, Call("rival", b"{}", internal=True), rival)

        bench.clock.tick = 1.0
        gathering = bench.start(gathers)
        for _ in range(3):
            rival()
        success(await gathering)
        bench.clock.tick = 0.0
        assert bench.host.executor.stats.conflicts == 2


async def test_a_last_attempt_that_takes_long_keeps_others_from_committing_until_it_has(tmp_path: Path) -> None:
    """Its exclusive run is over at its first pause; the rival runs in between, but commits after it."""
    limits = Limits(scan_check_entries=1, max_commit_attempts=3, exclusive_run_ms=0)
    async with open_bench(tmp_path, APP, limits=limits) as bench:
        counters = [await bench.mutation("app:make") for _ in range(10)]
        stats = bench.host.executor.stats
        rivals: list[Outcome] = []

        def rival(outcome: Outcome | None = None) -> None:
            if outcome is not None:
                rivals.append(outcome)
            if not long.done():
                call = Call("app:nudge", b"{}", internal=True)
                bench.host.executor.submit_handler(nudge, call, rival)

        def nudge(ctx: Any) -> None:
            ctx.db.patch(counters[0], {"value": ctx.db.get(counters[0])["value"] + 1})

        bench.clock.tick = 1.0
        long = bench.submit("mutation", "app:slow_total", {"id": counters[9], "then": 0})
        rival()
        await long
        bench.clock.tick = 0.0

        success(long.result())
        assert stats.conflicts >= 2
        assert not bench.host.executor.gate.is_closed
        assert len(rivals) > 2


async def test_those_who_need_the_gate_get_it_first_come_first_served(tmp_path: Path) -> None:
    limits = Limits(max_commit_attempts=1, exclusive_run_ms=0)
    async with open_bench(tmp_path, APP, limits=limits) as bench:
        counter = await bench.mutation("app:make")
        bench.clock.tick = 1.0
        waiting = [bench.submit("mutation", "app:add", {"id": counter}) for _ in range(10)]
        values = [value_of(await outcome) for outcome in waiting]
        bench.clock.tick = 0.0
        assert values == list(range(1, 11))


async def test_a_last_attempt_that_does_not_end_is_told_why_and_stops_nobody_for_ever(tmp_path: Path) -> None:
    limits = Limits(max_commit_attempts=1, exclusive_run_ms=0, exclusive_commit_ms=1)
    async with open_bench(tmp_path, APP, limits=limits) as bench:
        counter = await bench.mutation("app:make")

        async def hangs(ctx: Any) -> None:
            while True:
                try:
                    await ctx.db.get(counter)
                except Exception:
                    pass

        bench.clock.tick = 1.0
        hanging = bench.start(hangs)
        held = bench.submit("mutation", "app:add", {"id": counter})
        assert await bench.query("app:total") == 0, "queries go on"
        error = refusal(await hanging).error
        assert value_of(await held) == 1
        bench.clock.tick = 0.0

        assert isinstance(error, WriteConflict)
        assert "did not end within 1 ms: REACTOR_EXCLUSIVE_COMMIT_MS" in str(error)
        assert not bench.host.executor.gate.is_closed


async def test_a_gate_that_is_asked_for_is_left_by_every_end(tmp_path: Path) -> None:
    limits = Limits(max_commit_attempts=1, exclusive_run_ms=0)
    async with open_bench(tmp_path, APP, limits=limits) as bench:
        counter = await bench.mutation("app:make")
        bench.clock.tick = 1.0

        async def fails(ctx: Any) -> None:
            await ctx.db.get(counter)
            raise ValueError("no")

        async def reads(ctx: Any) -> None:
            await ctx.db.get(counter)
            await ctx.db.get(counter)

        ends = [bench.start(handler) for handler in (fails, reads, fails, reads)]
        ends.append(bench.submit("mutation", "app:add", {"id": counter}))
        kinds = [type(await end).__name__ for end in ends]
        bench.clock.tick = 0.0
        assert kinds == ["Failure", "Success", "Failure", "Success", "Success"]
        assert not bench.host.executor.gate.is_closed


async def test_who_loses_every_attempt_is_told_the_official_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(max_commit_attempts=3, exclusive_commit_ms=0)
    async with open_bench(tmp_path, APP, limits=limits) as bench:
        counter = await bench.mutation("app:make")
        committer = bench.host.database.committer
        validate = committer.validate
        lose = False

        def overtaken(transaction: Transaction, since: int | None = None) -> None:
            """Let another commit through just before each validation of the mutation under test."""
            nonlocal lose
            if lose:
                lose = False
                value_now = bench.start(nudge)
                value_now.add_done_callback(lambda _: None)
                bench.host.queue._turn()
                lose = True
            validate(transaction, since)

        def nudge(ctx: Any) -> None:
            ctx.db.patch(counter, {"value": ctx.db.get(counter)["value"] + 1})

        monkeypatch.setattr(committer, "validate", overtaken)
        future = bench.submit("mutation", "app:add", {"id": counter})
        lose = True
        error = refusal(await future).error
        lose = False

        assert isinstance(error, WriteConflict)
        assert (error.code, error.status) == ("OptimisticConcurrencyControlFailure", 503)
        assert str(error) == (
            'Documents read from or written to the "counters" table changed while this mutation was being run and on '
            f'every subsequent retry. A call to "run:handler" changed the document with ID "{counter}". '
            "See https://docs.convex.dev/error#1"
        )
        report = error.report
        assert (report.table, report.document, report.writer, report.reader) == (
            "counters",
            counter,
            "run:handler",
            "app:add",
        )
        assert report.read == f'_id = "{counter}"'
        assert list(committer.conflicts)[-1] == report
        assert await bench.query("app:read", id=counter) == 3
        assert bench.host.executor.stats.conflicts == 3


async def test_a_phantom_is_a_conflict(tmp_path: Path) -> None:
    """Both see an empty table and insert; one of them must see the other."""
    async with open_bench(tmp_path, APP) as bench:

        async def claim(ctx: Any) -> bool:
            taken = await ctx.db.query("items").with_index("by_name", name="x").first()
            if taken is None:
                await ctx.db.insert("items", {"name": "x"})
            return taken is None

        bench.clock.tick = 1.0
        won = [value_of(outcome) for outcome in await asyncio.gather(bench.start(claim), bench.start(claim))]
        assert sorted(won) == [False, True]


UNDECLARED = {
    "schema.py": HEAD + "schema = define_schema({})",
    "functions/app.py": HEAD
    + """
@mutation
async def add(ctx, table: str) -> float:
    before = await ctx.db.query(table).count()
    await ctx.db.insert(table, {"x": 1})
    return before
""",
}


async def test_the_first_insert_into_a_new_table_is_no_conflict_with_its_own_creation(tmp_path: Path) -> None:
    async with open_bench(tmp_path, UNDECLARED) as bench:
        stats = bench.host.executor.stats
        assert [await bench.mutation("app:add", table="notes") for _ in range(2)] == [0, 1]
        assert stats.conflicts == 0

        bench.clock.tick = 1.0
        both = await asyncio.gather(*(bench.submit("mutation", "app:add", {"table": "others"}) for _ in range(2)))
        bench.clock.tick = 0.0
        assert sorted(map(value_of, both)) == [0, 1], "but two that create it at once still see each other"


# Slices.


async def test_a_long_scan_lets_other_requests_in(tmp_path: Path) -> None:
    """No request waits behind more than one slice of another."""
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for _ in range(20):
            await bench.mutation("app:make")
        order: list[str] = []
        bench.clock.tick = 1.0
        long = bench.start(scan)
        long.add_done_callback(lambda _: order.append("long"))
        for at in range(5):
            short = bench.submit("query", "app:total")
            short.add_done_callback(lambda _, at=at: order.append(f"short {at}"))  # type: ignore[misc]
        await long
        bench.clock.tick = 0.0
        assert order == [*(f"short {at}" for at in range(5)), "long"]


async def scan(ctx: Any) -> int:
    return len(await ctx.db.query("counters").collect())


async def test_suspended_scans_take_turns(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(scan_check_entries=1)) as bench:
        for _ in range(5):
            await bench.mutation("app:make")
        bench.clock.tick = 1.0
        steps: list[str] = []

        def named(name: str) -> Any:
            async def walk(ctx: Any) -> None:
                async for _ in ctx.db.query("counters"):
                    steps.append(name)

            return walk

        await asyncio.gather(*(bench.start(named(name)) for name in "abc"))
        bench.clock.tick = 0.0
        tail = steps[-9:]
        assert {tuple(sorted(tail[at : at + 3])) for at in (0, 3)} == {("a", "b", "c")}, steps
        assert sorted(steps) == sorted("abc" * 5)


# The same request twice.


@pytest.mark.parametrize("with_reopen", [False, True])
async def test_a_request_sent_twice_takes_effect_once(tmp_path: Path, with_reopen: bool) -> None:
    storage = FaultyPersistence(MemoryPersistence())
    async with open_bench(tmp_path, APP, storage=storage) as bench:
        counter = await bench.mutation("app:make")
        first = success(await bench.submit("mutation", "app:add", {"id": counter}, session="s", request=1))
        if not with_reopen:
            second = await bench.submit("mutation", "app:add", {"id": counter}, session="s", request=1)
            assert second == first
            other = await bench.submit("mutation", "app:add", {"id": counter}, session="t", request=1)
            assert value_of(other) == 2
            return
    async with open_bench(tmp_path, APP, storage=storage) as bench:
        second = await bench.submit("mutation", "app:add", {"id": counter}, session="s", request=1)
        assert second == first
        assert await bench.query("app:read", id=counter) == 1


async def test_a_request_sent_again_while_it_is_suspended_takes_effect_once(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        bench.clock.tick = 1.0
        twice = [bench.submit("mutation", "app:add", {"id": counter}, session="s", request=1) for _ in range(3)]
        outcomes = [success(await future) for future in twice]
        bench.clock.tick = 0.0
        assert outcomes[0] == outcomes[1] == outcomes[2]
        assert await bench.query("app:read", id=counter) == 1


async def test_a_suspended_copy_of_an_answered_request_gives_the_same_answer_when_it_fails(tmp_path: Path) -> None:
    """The copy reads nothing that changed, and raises: what the client was told the first time still holds."""
    async with open_bench(tmp_path, APP) as bench:
        runs = 0

        async def once(ctx: Any) -> str:
            nonlocal runs
            runs += 1
            mine = runs
            for _ in range(3 if mine == 1 else 1):
                await ctx.db.insert("items", {"name": "x"})
            if mine == 1:
                raise ValueError("the first run fails late")
            return "done"

        bench.clock.tick = 1.0
        done: list[asyncio.Future[Outcome]] = []
        for _ in range(2):
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            call = Call("run", b"{}", session="s", request=1, internal=True)
            bench.host.executor.submit_handler(once, call, future.set_result)
            done.append(future)
        outcomes = [success(await future) for future in done]
        assert outcomes[0] == outcomes[1]
        assert len(bench.host.database.catalog.by_name["items"]) == 1


async def test_a_request_that_failed_runs_again(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")

        def send() -> asyncio.Future[Outcome]:
            return bench.submit("mutation", "app:fails_below", {"id": counter, "limit": 2}, session="s", request=1)

        assert "too low" in failure(await send()).detail
        await bench.mutation("app:add", id=counter)
        assert value_of(await send()) == 2
        assert value_of(await send()) == 2
        assert await bench.query("app:read", id=counter) == 2


async def test_a_request_whose_result_is_forgotten_is_refused_and_not_run(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(session_results=1)) as bench:
        counter = await bench.mutation("app:make")
        for request in (1, 2):
            await bench.submit("mutation", "app:add", {"id": counter}, session="s", request=request)
        again = refusal(await bench.submit("mutation", "app:add", {"id": counter}, session="s", request=1))
        assert isinstance(again.error, OutcomeUnknown)
        assert await bench.query("app:read", id=counter) == 2


# The disk.


async def drain() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_outcome_leaves_before_what_it_rests_on_is_durable(tmp_path: Path) -> None:
    """Successes, failures and results that changed nothing, once they have seen an undurable commit."""
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        bench.storage.hold()
        order: list[str] = []
        ran: list[str] = []
        futures = []
        for name, args in (("add", {"id": counter}), ("look", {}), ("fails", {"id": counter}), ("nope", {})):
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            call = Call(f"app:{name}", msgspec.json.encode(args))
            bench.host.executor.submit_mutation(call, future.set_result, lambda name=name: ran.append(name))  # type: ignore[misc]
            future.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
            futures.append(future)
        await bench.storage.held()
        await drain()
        assert ran == ["add", "look", "fails", "nope"], "all have run"
        assert order == [], "none has answered"
        assert await bench.query("app:read", id=counter) == 0, "queries read what is durable"

        bench.storage.release()
        await asyncio.wait(futures)
        assert order == ["add", "look", "fails", "nope"]
        assert await bench.query("app:read", id=counter) == 1


async def test_what_rests_on_nothing_new_is_answered_while_the_disk_is_busy(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP) as bench:
        bench.storage.hold()
        assert value_of(await bench.submit("mutation", "app:nothing")) is None
        assert failure(await bench.submit("mutation", "app:nope"))


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNKNOWN_WRITTEN])
async def test_an_append_that_went_wrong_is_answered_when_it_went_right(tmp_path: Path, fault: Fault) -> None:
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        bench.storage.faults.append(fault)
        outcome = success(await bench.submit("mutation", "app:add", {"id": counter}))
        assert any(record.ts == outcome.ts for batch in bench.storage.appended for record in batch) or (
            fault is Fault.UNKNOWN_WRITTEN
        )
        assert await bench.query("app:read", id=counter) == 1


async def test_an_append_that_was_lost_is_neither_success_nor_failure_and_may_be_sent_again(tmp_path: Path) -> None:
    """#28, #29: what read the lost commit is not told what it read, and runs again on what is left."""
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        bench.storage.faults.append(Fault.UNKNOWN_LOST)
        outcome = await bench.submit("mutation", "app:add", {"id": counter})
        assert isinstance(refusal(outcome).error, OutcomeUnknown)
        assert await bench.query("app:read", id=counter) == 0
        await bench.mutation("app:add", id=counter)
        assert await bench.query("app:read", id=counter) == 1


async def test_a_full_tail_makes_mutations_wait_and_then_refuses(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(tail_commits=3)) as bench:
        bench.storage.hold()
        ran: list[int] = []
        answered: list[int] = []
        futures = []
        for at in range(10):
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            bench.host.executor.submit_mutation(
                Call("app:make", b"{}"),
                future.set_result,
                lambda at=at: ran.append(at),  # type: ignore[misc]
            )
            future.add_done_callback(lambda _, at=at: answered.append(at))  # type: ignore[misc]
            futures.append(future)
        await bench.storage.held()
        await drain()

        assert sorted(ran) == [0, 1, 2, 6, 7, 8, 9]
        assert answered == [6, 7, 8, 9]
        for future in futures[6:]:
            error = refusal(future.result()).error
            assert isinstance(error, Overloaded)
            assert error.rule == "CommitterFullError"
            assert str(error) == (
                "Too many concurrent commits in a short period of time. "
                "Spread your writes out over time or throttle them to avoid errors."
            )

        bench.storage.release()
        for future in futures[:6]:
            success(await future)
        await drain()
        assert answered == [6, 7, 8, 9, 0, 1, 2, 3, 4, 5]


async def test_the_tail_stays_bounded_when_those_who_waited_come_in(tmp_path: Path) -> None:
    async with open_bench(tmp_path, APP, limits=Limits(tail_commits=2)) as bench:
        bench.storage.hold()
        futures = [bench.submit("mutation", "app:make") for _ in range(4)]
        await bench.storage.held()
        await drain()
        publisher = bench.host.database.publisher
        longest = 0
        enqueue = publisher.enqueue

        def counting(record: Any) -> None:
            nonlocal longest
            enqueue(record)
            longest = max(longest, len(publisher._tail))

        publisher.enqueue = counting  # type: ignore[method-assign]
        bench.storage.release()
        for future in futures:
            success(await future)
        assert longest <= 2


async def test_each_outcome_is_reported_once(tmp_path: Path) -> None:
    """`Bench.submit` sets a future, which would raise the second time."""
    async with open_bench(tmp_path, APP) as bench:
        counter = await bench.mutation("app:make")
        bench.clock.tick = 1.0
        futures = [
            bench.submit(kind, path, {"id": counter} if path in ("app:add", "app:fails") else {})
            for kind, path in (
                ("mutation", "app:add"),
                ("mutation", "app:fails"),
                ("mutation", "app:look"),
                ("query", "app:total"),
                ("any", "app:nope"),
            )
            for _ in range(4)
        ]
        await asyncio.wait(futures)
        await drain()


async def test_closing_waits_for_what_was_applied_and_stops_what_is_suspended(tmp_path: Path) -> None:
    storage = FaultyPersistence(MemoryPersistence())
    async with open_bench(tmp_path, APP, storage=storage) as bench:
        counter = await bench.mutation("app:make")
        storage.hold()
        applied = bench.submit("mutation", "app:add", {"id": counter})
        await storage.held()
        bench.clock.tick = 1.0

        async def catches_everything(ctx: Any) -> None:
            for at in range(5):
                try:
                    await ctx.db.insert("items", {"name": str(at)})
                except Exception:
                    pass

        suspended = bench.start(catches_everything)
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(bench.host.close())
        await drain()
        bench.clock.tick = 0.0
        assert isinstance(refusal(await suspended).error, Unavailable)
        assert not applied.done()
        storage.release()
        await closing
        assert value_of(await applied) == 1

    async with open_bench(tmp_path, APP, storage=storage) as bench:
        assert await bench.query("app:read", id=counter) == 1
        items = bench.host.database.catalog.by_name["items"]
        await bench.host.database.loading.load(items)
        assert len(items) == 0
