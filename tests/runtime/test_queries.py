"""The chain of `ctx.db.query`: its grammar, what it keeps, what it counts, and system tables."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from reactor.errors import FilterError, InvalidArgument, LimitExceeded, UnknownIndex, UnknownTable
from reactor.limits import MAX_QUERY_OPERATORS, Limits
from reactor.runtime.calls import Failure
from reactor.values.ids import encode_id
from tests.runtime.hosts import (
    HEAD,
    NO_FUNCTIONS,
    Bench,
    Form,
    as_coroutine,
    as_function,
    open_bench,
    project_files,
)

Script = Generator[Any, Any, Any]

pytestmark = pytest.mark.asyncio

CHAINED = "This query has been chained with another operator and can't be reused."
CHAINED_TWICE = "A query can only be chained once and can't be chained after iteration begins."
CLOSED = "This query is closed and can't emit any more values."
STORAGE_ID = encode_id(540, b"0123456789abcdef")
UNUSED_ID = encode_id(10_001, b"0123456789abcdef")
HIDDEN_ID = encode_id(513, b"0123456789abcdef")


@pytest.fixture(params=[as_coroutine, as_function], ids=["async", "blocking"])
def form(request: pytest.FixtureRequest) -> Form:
    made: Form = request.param
    return made


async def fill(bench: Bench, *numbers: int) -> list[str]:
    def insert(ctx: Any) -> list[str]:
        return [ctx.db.insert("items", {"name": f"n{n}", "n": n, "extra": {"tags": [n]}}) for n in numbers]

    ids: list[str] = await bench.run(insert)
    return ids


# What a chain keeps.


@pytest.mark.parametrize(
    ("chain", "wanted"),
    [
        (lambda q: q.filter(lambda q: q.field("n") > 3), [4, 5, 6]),
        (lambda q: q.where(lambda doc: doc["n"] > 3), [4, 5, 6]),
        (lambda q: q.order("desc").filter(lambda q: q.field("n") % 2 == 0), [6, 4, 2, 0]),
        (lambda q: q.filter(lambda q: q.field("n") % 2 == 0).order("desc"), [6, 4, 2, 0]),
        (lambda q: q.filter(lambda q: q.field("n") > 1).with_index("by_n", lambda r: r.lt("n", 5)), [2, 3, 4]),
        (lambda q: q.where(lambda doc: doc["n"] > 1).where(lambda doc: doc["n"] < 4), [2, 3]),
        (
            lambda q: (
                q.filter(lambda q: q.field("n") > 0)
                .where(lambda doc: isinstance(doc["n"], int) and 6 // doc["n"] > 1)
                .filter(lambda q: q.field("n") != 2)
            ),
            [1, 3],
        ),
        (lambda q: q.filter(lambda q: True), [0, 1, 2, 3, 4, 5, 6]),
        (lambda q: q.filter(lambda q: False), []),
        (lambda q: q.where(lambda doc: doc.get("missing")), []),
    ],
)
async def test_operators_combine_in_written_order(
    tmp_path: Path, form: Form, chain: Callable[[Any], Any], wanted: list[int]
) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        def query() -> Any:
            return chain(ctx.db.query("items"))

        seen.append([item["n"] for item in (yield query().collect())])
        seen.append([item["n"] for item in (yield query().take(99))])
        seen.append([item["n"] for item in (yield query().paginate(num_items=99))["page"]])
        first = yield query().first()
        two = yield query().take(2)
        count = yield query().count()
        assert first == (two[0] if two else None)
        assert [item["n"] for item in two] == wanted[:2]
        assert count == len(wanted)

    async with open_bench(tmp_path, NO_FUNCTIONS, limits=Limits(scan_check_entries=2)) as bench:
        await fill(bench, *range(7))
        await bench.run(form(script))
        bench.clock.tick = 1.0
        await bench.run(form(script))
        bench.clock.tick = 0.0
    assert seen == [wanted] * 6


async def test_what_a_predicate_changes_is_seen_by_nobody_but_the_reader(tmp_path: Path, form: Form) -> None:
    def spoil(document: dict[str, Any]) -> bool:
        document["extra"]["tags"].append({1, 2})
        document["n"] = {3}
        return True

    def script(ctx: Any) -> Script:
        found = yield ctx.db.query("items").where(spoil).filter(lambda q: q.field("extra.tags") == [1]).collect()
        again = yield ctx.db.query("items").collect()
        return [len(found), [item["n"] for item in again]]

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await fill(bench, 1)
        assert await bench.run(form(script)) == [1, [1]]


async def test_a_filter_without_a_boolean_fails_the_call(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        yield ctx.db.query("items").filter(lambda q: q.field("name")).collect()

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await fill(bench, 1)
        with pytest.raises(FilterError, match=r'Cannot use value "n1" \(type String\) as a Boolean'):
            await bench.run(form(script))


async def test_an_error_in_a_predicate_shows_the_line_of_the_predicate(tmp_path: Path) -> None:
    files = project_files(
        app="""
def small(doc):
    return doc["nothing"] < 3

@query
async def reads(ctx):
    return await ctx.db.query("items").where(small).collect()

@query
def reads_blocking(ctx):
    return ctx.db.query("items").where(small).collect()
"""
    )
    async with open_bench(tmp_path, files) as bench:
        await fill(bench, 1)
        for path in ("app:reads", "app:reads_blocking"):
            outcome = await bench.submit("query", path)
            assert isinstance(outcome, Failure)
            line = files["functions/app.py"].splitlines().index('    return doc["nothing"] < 3') + 1
            assert "Uncaught KeyError: 'nothing'" in outcome.message
            assert f"at small ({tmp_path}/functions/app.py:{line})" in outcome.message


async def test_a_predicate_is_a_plain_function(tmp_path: Path, form: Form) -> None:
    async def later(document: Any) -> bool:
        return True

    def awaited(ctx: Any) -> Script:
        yield ctx.db.query("items").where(later).collect()

    def named(ctx: Any) -> Script:
        yield ctx.db.query("items").where("n").collect()

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await fill(bench, 1)
        with pytest.raises(InvalidArgument, match="not an async one"):
            await bench.run(form(awaited))
        with pytest.raises(InvalidArgument, match="not str"):
            await bench.run(form(named))


async def test_every_document_looked_at_counts_and_is_depended_on(tmp_path: Path, monkeypatch: Any) -> None:
    files = project_files(
        app="""
@query
async def odd(ctx):
    query = ctx.db.query("items").with_index("by_n").filter(lambda q: q.field("n") % 2 == 1)
    return [item["n"] for item in await query.take(2)]
"""
    )
    async with open_bench(tmp_path, files) as bench:
        ids = await fill(bench, 1, 2, 4, 5, 6)
        watcher = bench.watch("app:odd")
        await watcher.next()
        assert watcher.value == [1, 5]
        monkeypatch.setattr("reactor.engine.transaction.MAX_DOCUMENTS_READ", 3)
        with pytest.raises(LimitExceeded, match=r"Too many documents read .* .limit: 3."):
            await bench.run(lambda ctx: ctx.db.query("items").filter(lambda q: q.field("n") > 4).take(2))
        monkeypatch.undo()
        await bench.run(lambda ctx: ctx.db.patch(ids[1], {"n": 3}))
        await bench.settle()
        assert watcher.value == [1, 3]
        runs = bench.host.live.stats.reruns
        await bench.run(lambda ctx: ctx.db.patch(ids[4], {"n": 7}))
        await bench.settle()
        assert bench.host.live.stats.reruns == runs, "what lies behind the last result was not read"


# Grammar.


@pytest.mark.parametrize(
    ("misuse", "text"),
    [
        (lambda q: [q.order("desc"), q.collect()][1], CHAINED),
        (lambda q: [q.filter(lambda q: True), q.take(1)][1], CHAINED),
        (lambda q: [q.where(lambda doc: True), q.count()][1], CHAINED),
        (lambda q: [q.with_index("by_n"), q.paginate(num_items=1)][1], CHAINED),
        (lambda q: [q.filter(lambda q: True), q.filter(lambda q: True)][1], CHAINED_TWICE),
        (lambda q: q.with_index("by_n", lambda r: None), "The range function of with_index must return the range"),
    ],
)
async def test_each_link_of_a_chain_is_used_once(
    tmp_path: Path, form: Form, misuse: Callable[[Any], Any], text: str
) -> None:
    def script(ctx: Any) -> Script:
        yield misuse(ctx.db.query("items"))

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(InvalidArgument) as caught:
            await bench.run(form(script))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("again", "text"),
    [
        (lambda q: q.collect(), CLOSED),
        (lambda q: q.paginate(num_items=1), CLOSED),
        (lambda q: q.order("desc"), CHAINED_TWICE),
        (lambda q: q.filter(lambda q: True), CHAINED_TWICE),
    ],
)
async def test_a_query_that_gave_its_results_is_over(
    tmp_path: Path, form: Form, again: Callable[[Any], Any], text: str
) -> None:
    def script(ctx: Any) -> Script:
        query = ctx.db.query("items")
        yield query.first()
        yield again(query)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(InvalidArgument) as caught:
            await bench.run(form(script))
    assert str(caught.value) == text


async def test_a_query_is_iterated_once(tmp_path: Path) -> None:
    async def walk(ctx: Any) -> None:
        query = ctx.db.query("items").filter(lambda q: True)
        assert [item["n"] async for item in query] == [1, 2]
        async for _ in query:
            raise AssertionError

    def walk_blocking(ctx: Any) -> None:
        query = ctx.db.query("items").where(lambda doc: True)
        assert [item["n"] for item in query] == [1, 2]
        for _ in query:
            raise AssertionError

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await fill(bench, 1, 2)
        for handler in (walk, walk_blocking):
            with pytest.raises(InvalidArgument) as caught:
                await bench.run(handler)
            assert str(caught.value) == CLOSED


async def test_operators_are_limited_in_number(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any, count: int) -> Script:
        query = ctx.db.query("items")
        for at in range(count):
            query = query.filter(lambda q: True) if at % 2 else query.where(lambda doc: True)
        return len((yield query.collect()))

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await fill(bench, 1)
        assert await bench.run(form(lambda ctx: script(ctx, MAX_QUERY_OPERATORS))) == 1
        with pytest.raises(InvalidArgument, match="Can't construct query with more than 256 operators"):
            await bench.run(form(lambda ctx: script(ctx, MAX_QUERY_OPERATORS + 1)))


async def test_returning_a_query_says_how_to_get_its_results(tmp_path: Path) -> None:
    files = project_files(app='@query\nasync def whole(ctx):\n    return ctx.db.query("items").order("desc")\n')
    async with open_bench(tmp_path, files) as bench:
        outcome = await bench.submit("query", "app:whole")
    assert isinstance(outcome, Failure)
    assert outcome.detail.endswith(
        "Return value is a Query. Results must be retrieved with `.collect()`, `.take(n), `.unique()`, or `.first()`."
    )


async def test_a_table_that_does_not_exist_has_no_documents_and_no_index(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        ghosts = ctx.db.query("ghosts").filter(lambda q: q.field("x") == 1)
        seen.append((yield ghosts.collect()))
        seen.append((yield ctx.db.query("ghosts").where(lambda doc: True).count()))
        with pytest.raises(UnknownIndex):
            yield ctx.db.query("ghosts").with_index("by_id").paginate(num_items=1)

    files = {
        "schema.py": HEAD + "schema = define_schema({}, strict_table_names=False)\n",
        "functions/empty.py": "",
    }
    async with open_bench(tmp_path, files) as bench:
        await bench.run(form(script))
    assert seen == [[], 0]


async def test_a_query_ends_with_its_function(tmp_path: Path) -> None:
    kept: list[Any] = []

    def keep(ctx: Any) -> None:
        kept.append(ctx.db.query("items"))

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await bench.run(keep)
        with pytest.raises(RuntimeError, match="belongs to a function that has ended"):
            kept[0].collect()


# Limits on reads.


@pytest.mark.parametrize(
    "one_too_many",
    [
        lambda db: db.query("items").with_index("by_name", name="none").collect(),
        lambda db: db.query("counters").first(),
        lambda db: db.query("counters").count(),
        lambda db: db.get(UNUSED_ID),
    ],
)
async def test_exactly_the_limit_of_reads_can_be_made(
    tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch, one_too_many: Callable[[Any], Any]
) -> None:
    """Reads of reactor itself do not count: the deployed version, the tables, and those of inserts."""

    def script(ctx: Any) -> Script:
        for number in range(100):
            yield ctx.db.insert("counters", {"value": number})
        for at in range(32):
            yield ctx.db.query("items").with_index("by_name", name=str(at)).first()
            yield ctx.db.query("items").with_index("by_n", n=at).count()
        for _ in range(2):
            with pytest.raises(LimitExceeded) as caught:
                yield one_too_many(ctx.db)
        return caught.value.rule

    monkeypatch.setattr("reactor.engine.transaction.MAX_READS", 64)
    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await fill(bench, 1)
        assert await bench.run(form(script)) == "TooManyReads"


# System tables.


async def test_system_tables_are_read_through_their_own_door(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        system = ctx.db.system
        seen.append((yield system.query("_storage").collect()))
        seen.append((yield system.query("_scheduled_functions").with_index("by_id").first()))
        seen.append((yield system.query("_storage").with_index("by_creation_time").order("desc").count()))
        seen.append((yield system.get(STORAGE_ID)))
        seen.append((yield system.get("_storage", STORAGE_ID)))
        seen.append((yield system.get(HIDDEN_ID)))
        seen.append(system.normalize_id("_storage", STORAGE_ID))
        seen.append(system.normalize_id("_scheduled_functions", STORAGE_ID))
        seen.append(system.normalize_id("_tables", HIDDEN_ID))
        seen.append((yield system.query("_storage").paginate(num_items=1))["isDone"])

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await bench.run(form(script))
    assert seen == [[], None, 0, None, None, None, STORAGE_ID, None, None, True]


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda db, i: db.system.query("items").collect(), InvalidArgument, "User tables can only be accessed from"),
        (lambda db, i: db.query("_storage").collect(), InvalidArgument, "System tables can only be accessed from"),
        (lambda db, i: db.get(STORAGE_ID), InvalidArgument, "System tables can only be accessed with db.system."),
        (lambda db, i: db.patch(STORAGE_ID, {}), InvalidArgument, "System tables can only be accessed with db.system."),
        (lambda db, i: db.system.get(i), InvalidArgument, "User tables cannot be accessed with db.system."),
        (
            lambda db, i: db.system.get("_scheduled_functions", STORAGE_ID),
            InvalidArgument,
            'Invalid argument `id` for `db.system.get`: expected to be an Id<"_scheduled_functions">, '
            'got Id<"_storage"> instead.',
        ),
        (lambda db, i: db.system.query("_tables").collect(), UnknownTable, "There is no system table '_tables'."),
        (lambda db, i: db.system.query("_storage").with_index("by_size").collect(), UnknownIndex, "Index _storage."),
        (lambda db, i: db.insert("_storage", {}), InvalidArgument, "System tables (prefixed with `_`) are read-only."),
    ],
)
async def test_crossing_between_tables_is_refused_in_official_words(
    tmp_path: Path, form: Form, call: Callable[[Any, str], Any], kind: type[Exception], text: str
) -> None:
    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a"})
        yield call(ctx.db, item)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(kind) as caught:
            await bench.run(form(script))
    assert str(caught.value).startswith(text)


async def test_a_reference_to_a_stored_file_is_a_value_of_its_type(tmp_path: Path) -> None:
    files = project_files(
        app="""
@query(args={"file": v.id("_storage")})
async def named(ctx, file):
    return file

@query(args={"table": v.id("_tables")})
async def hidden(ctx, table):
    return table
"""
    )
    async with open_bench(tmp_path, files) as bench:
        assert await bench.query("app:named", file=STORAGE_ID) == STORAGE_ID
        outcome = await bench.submit("query", "app:hidden", {"table": HIDDEN_ID})
    assert isinstance(outcome, Failure)
