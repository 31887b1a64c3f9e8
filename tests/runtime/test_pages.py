"""Pagination: options, results, journals; and that pages stay a partition while documents come and go."""

import asyncio
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from reactor.engine.cursor import Cursors
from reactor.errors import InvalidArgument, InvalidCursor, InvalidPage, LimitExceeded
from reactor.limits import Limits
from reactor.runtime import pages
from reactor.runtime.calls import Call, Failure, Success
from reactor.runtime.executor import QueryRun
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.schema.pagination import pagination_result_validator
from reactor.schema.validators import v
from reactor.storage.memory import MemoryPersistence
from reactor.testing.deployment import SharedProject
from reactor.values.json import decode_json
from reactor.values.types import undefined
from tests.runtime.hosts import (
    NO_FUNCTIONS,
    Bench,
    Form,
    SeededRng,
    TestClock,
    as_coroutine,
    as_function,
    open_bench,
    project_files,
    value_of,
    wire,
)
from tests.runtime.projects import write
from tests.sizes import size

Script = Generator[Any, Any, Any]

PROJECT = project_files(
    app="""
@query
async def page(ctx, opts, order="asc", odd=False):
    query = ctx.db.query("items").with_index("by_n").order(order)
    if odd:
        query = query.filter(lambda q: q.field("n") % 2 == 1)
    page = await query.paginate(opts)
    return {**page, "page": [item["n"] for item in page["page"]]}
@query
async def fails_after(ctx, opts, fail):
    page = await ctx.db.query("items").with_index("by_n").paginate(opts)
    if fail == "after":
        raise ReactorError("after")
    return [item["n"] for item in page["page"]]

@query
async def fails_before(ctx, opts):
    raise ReactorError("before")

@query
async def plain(ctx):
    return 1
"""
)


@pytest.fixture(params=[as_coroutine, as_function], ids=["async", "blocking"])
def form(request: pytest.FixtureRequest) -> Form:
    made: Form = request.param
    return made


def run_page(host: Host, path: str, journal: str | None, **args: object) -> "asyncio.Future[QueryRun]":
    done: asyncio.Future[QueryRun] = asyncio.get_running_loop().create_future()
    call = Call(path, wire(args), journal=journal)
    host.queue.request(lambda: host.executor.run_query(call, None, done.set_result))
    return done


async def page(
    bench: Bench, opts: dict[str, Any], journal: str | None = None, path: str = "app:page", **args: object
) -> tuple[dict[str, Any], str | None]:
    run = await run_page(bench.host, path, journal, opts=opts, **args)
    return value_of(run.outcome), run.journal


def opts(num_items: int, cursor: str | None = None, **more: object) -> dict[str, Any]:
    return {"numItems": num_items, "cursor": cursor, **more}


async def fill(bench: Bench, *numbers: int) -> list[str]:
    def insert(ctx: Any) -> list[str]:
        return [ctx.db.insert("items", {"name": "x", "n": n}) for n in numbers]

    ids: list[str] = await bench.run(insert)
    return ids


# Options and results.


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({}, InvalidArgument, "`options.numItems` must be a positive number. Received `undefined`."),
        ({"numItems": None}, InvalidArgument, "`options.numItems` must be a positive number. Received `null`."),
        ({"numItems": True}, InvalidArgument, "`options.numItems` must be a positive number. Received `true`."),
        ({"numItems": 1.5}, InvalidArgument, "`options.numItems` must be a positive number. Received `1.5`."),
        ({"numItems": -2.0}, InvalidArgument, "`options.numItems` must be a positive number. Received `-2`."),
        ({"numItems": float("nan")}, InvalidArgument, "`options.numItems` must be a positive number. Received `nan`."),
        ({"numItems": 0}, InvalidPage, "Must request at least 1 document while paginating"),
        ({"numItems": 32_001}, InvalidPage, "Requested too many items: 32001"),
        (
            {"numItems": 1, "maximumRowsRead": 0},
            InvalidPage,
            "maximumRowsRead and maximumBytesRead must be greater than 0",
        ),
        (
            {"numItems": 1, "maximumBytesRead": -1},
            InvalidPage,
            "maximumRowsRead and maximumBytesRead must be greater than 0",
        ),
        (
            {"numItems": 1, "maximumBytesRead": "5"},
            InvalidArgument,
            "`options.maximumBytesRead` must be a whole number. Received `5`.",
        ),
        ({"numItems": 1, "cursor": 5}, InvalidArgument, "`options.cursor` must be a string or null. Received `5`."),
        ([1], InvalidArgument, "paginate takes a dict of options, not list."),
    ],
)
async def test_options_that_can_not_be_served_are_refused(
    tmp_path: Path, form: Form, options: Any, kind: type[Exception], text: str
) -> None:
    def script(ctx: Any) -> Script:
        yield ctx.db.query("items").paginate(options)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(kind) as caught:
            await bench.run(form(script))
    assert str(caught.value) == text


@pytest.mark.asyncio
async def test_pages_by_keywords_and_by_options_are_the_same(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def first(ctx: Any) -> Script:
        return (yield ctx.db.query("items").with_index("by_n").paginate(num_items=2))

    def second(ctx: Any) -> Script:
        return (yield ctx.db.query("items").with_index("by_n").paginate(num_items=2, cursor=seen[0]["continueCursor"]))

    def again(ctx: Any) -> Script:
        options = {"numItems": 2.0, "cursor": None, "id": 7.0, "endCursor": None, "maximumRowsRead": undefined}
        return (yield ctx.db.query("items").with_index("by_n").paginate(options))

    def both(ctx: Any) -> Script:
        yield ctx.db.query("items").paginate({"numItems": 1}, num_items=2)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await fill(bench, 1, 2, 3)
        for script in (first, second, again):
            seen.append(await bench.run(form(script)))
        with pytest.raises(TypeError, match="not both"):
            await bench.run(form(both))

    assert [[item["n"] for item in result["page"]] for result in seen] == [[1, 2], [3], [1, 2]]
    assert seen[2] == seen[0]
    assert [result["isDone"] for result in seen] == [False, True, False]
    assert set(seen[0]) == {"page", "isDone", "continueCursor", "splitCursor", "pageStatus"}
    for result in seen:
        pagination_result_validator(v.any()).check(result, None)


@pytest.mark.asyncio
async def test_a_page_that_is_exactly_full_is_not_the_last(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, 1, 2)
        first, _ = await page(bench, opts(2))
        last, _ = await page(bench, opts(2, first["continueCursor"]))
        beyond, _ = await page(bench, opts(2, last["continueCursor"]))

    assert (first["page"], first["isDone"]) == ([1, 2], False)
    assert (last["page"], last["isDone"]) == ([], True)
    assert beyond == last


@pytest.mark.asyncio
async def test_a_page_of_a_table_that_does_not_exist_is_empty_and_done(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        return (yield ctx.db.query("ghosts").paginate(num_items=5))

    schema = (
        "from reactor.schema.definition import define_schema\nschema = define_schema({}, strict_table_names=False)\n"
    )
    async with open_bench(tmp_path, {"schema.py": schema, "functions/empty.py": ""}) as bench:
        result = await bench.run(form(script))
    assert (result["page"], result["isDone"], result["splitCursor"], result["pageStatus"]) == ([], True, None, None)


@pytest.mark.asyncio
async def test_the_split_cursor_is_in_the_middle_of_the_rows_looked_at(tmp_path: Path) -> None:
    """Rows before filters: halves of a page that filters much are of equal work."""
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, 1, 2, 4, 6, 8, 9)
        two, _ = await page(bench, opts(2))
        whole, _ = await page(bench, opts(2), odd=True)
        cursor = whole["splitCursor"]
        low, _ = await page(bench, opts(1, None, endCursor=cursor), odd=True)
        high, _ = await page(bench, opts(1, cursor, endCursor=whole["continueCursor"]), odd=True)

    assert two["splitCursor"] is None
    assert whole["page"] == [1, 9]
    assert (low["page"], low["continueCursor"]) == ([1], cursor)
    assert (high["page"], high["continueCursor"]) == ([9], whole["continueCursor"])


@pytest.mark.asyncio
async def test_rows_and_bytes_of_a_page_are_bounded_before_filters(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, *range(0, 40, 2))
        rows, journal = await page(bench, opts(5, maximumRowsRead=4), odd=True)
        again, _ = await page(bench, opts(5, maximumRowsRead=4), journal, odd=True)
        one, _ = await page(bench, opts(5, maximumBytesRead=1))
        bounded, _ = await page(bench, opts(1, maximumRowsRead=1, endCursor=rows["continueCursor"]), odd=True)
        close, _ = await page(bench, opts(4, maximumRowsRead=5))
        far, _ = await page(bench, opts(3, maximumRowsRead=4))

    assert (rows["page"], rows["pageStatus"], rows["isDone"]) == ([], "SplitRequired", False)
    assert again == rows
    assert (one["page"], one["pageStatus"]) == ([0], "SplitRequired")
    assert bounded["pageStatus"] is None
    assert close["pageStatus"] == "SplitRecommended"
    assert far["pageStatus"] is None


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", ["MAX_DOCUMENTS_READ", "MAX_BYTES_READ"])
async def test_a_read_limit_ends_a_page_instead_of_the_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, *range(100))
        weight = len(next(iter(bench.host.database.catalog.by_name["items"].documents.values())))
        most = 10 if limit == "MAX_DOCUMENTS_READ" else weight * 10
        monkeypatch.setattr(f"reactor.engine.transaction.{limit}", most)
        first, _ = await page(bench, opts(50))
        next_page, _ = await page(bench, opts(50, first["continueCursor"]))
        bounded, _ = await page(bench, opts(50, None, endCursor=next_page["continueCursor"]))

        def reads_before(ctx: Any) -> Any:
            ctx.db.query("items").take(10)
            return ctx.db.query("items").paginate(num_items=1)

        with pytest.raises(LimitExceeded):
            await bench.run(reads_before)

    assert (first["page"], first["pageStatus"]) == (list(range(10)), "SplitRequired")
    assert next_page["page"] == list(range(10, 20))
    assert (bounded["page"], bounded["pageStatus"]) == (list(range(10)), "SplitRequired")
    assert bounded["continueCursor"] == next_page["continueCursor"], "its halves must cover all of it"


@pytest.mark.asyncio
async def test_a_long_page_should_be_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SPLIT_PAGE_ITEMS", 5)
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, *range(7))
        assert (await page(bench, opts(5)))[0]["pageStatus"] is None
        assert (await page(bench, opts(6)))[0]["pageStatus"] == "SplitRecommended"


@pytest.mark.asyncio
async def test_one_page_for_each_execution(tmp_path: Path, form: Form) -> None:
    def twice(ctx: Any) -> Script:
        yield ctx.db.query("items").paginate(num_items=1)
        yield ctx.db.query("counters").paginate(num_items=1)

    def after_a_refusal(ctx: Any) -> Script:
        with pytest.raises(InvalidCursor):
            yield ctx.db.query("items").paginate(num_items=1, cursor="nonsense")
        return (yield ctx.db.query("items").paginate(num_items=1))

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(InvalidPage) as caught:
            await bench.run(form(twice))
        assert (await bench.run(form(after_a_refusal)))["isDone"]

    assert caught.value.rule == "MultiplePaginatedDatabaseQueries"
    assert str(caught.value).startswith("This query or mutation function ran multiple paginated queries.")


# Cursors and journals.


@pytest.mark.asyncio
async def test_a_cursor_of_another_query_is_refused_with_the_data_clients_look_for(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT, redact=True) as bench:
        await fill(bench, 1, 2, 3)
        result, journal = await page(bench, opts(1))
        cursor = result["continueCursor"]
        runs = [
            await run_page(bench.host, "app:page", None, opts=opts(1, cursor), order="desc"),
            await run_page(bench.host, "app:page", None, opts=opts(1, cursor), odd=True),
            await run_page(bench.host, "app:page", None, opts=opts(1, "x")),
            await run_page(bench.host, "app:page", None, opts=opts(1, None, endCursor="")),
            await run_page(bench.host, "app:page", None, opts=opts(1, journal)),
            await run_page(bench.host, "app:page", cursor, opts=opts(1)),
        ]
        healed = await run_page(bench.host, "app:page", runs[-1].journal, opts=opts(1))

    for run in runs:
        assert isinstance(run.outcome, Failure)
        assert run.outcome.data is not None
        assert decode_json(run.outcome.data) == {"isConvexSystemError": True, "paginationError": "InvalidCursor"}
    assert value_of(healed.outcome) == result


@pytest.mark.asyncio
async def test_an_invalid_cursor_has_the_official_text(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        run = await run_page(bench.host, "app:page", None, opts=opts(1, "x"))
    assert isinstance(run.outcome, Failure)
    assert (
        "InvalidCursor: Tried to run a query starting from a cursor, "
        "but it looks like this cursor is from a different query." in run.outcome.message
    )


@pytest.mark.asyncio
async def test_cursors_depend_on_the_secret_and_on_nothing_else(tmp_path: Path) -> None:
    cursors = []
    for at, secret in enumerate((b"one", b"one", b"two")):
        async with open_bench(tmp_path / str(at), PROJECT) as bench:
            bench.host.database.cursors = Cursors(secret)
            await fill(bench, 1, 2, 3)
            cursors.append((await page(bench, opts(1)))[0]["continueCursor"])
    assert cursors[0] == cursors[1] != cursors[2]


@pytest.mark.asyncio
async def test_a_journal_that_reached_the_end_keeps_it(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, 1, 2)
        _, journal = await page(bench, opts(5))
        await fill(bench, *range(3, 20))
        grown, again = await page(bench, opts(5), journal)

    assert (grown["page"], grown["isDone"]) == (list(range(1, 20)), True)
    assert again == journal


@pytest.mark.asyncio
async def test_an_end_cursor_overrides_the_journal(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, *range(10))
        two, _ = await page(bench, opts(2))
        _, journal = await page(bench, opts(5))
        result, after = await page(bench, opts(5, None, endCursor=two["continueCursor"]), journal)

    assert result["page"] == [0, 1]
    assert after != journal


@pytest.mark.asyncio
async def test_a_failure_leaves_the_page_where_it_was(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, *range(10))
        _, journal = await page(bench, opts(5))
        before = await run_page(bench.host, "app:fails_before", journal, opts=opts(5))
        run = await run_page(bench.host, "app:fails_after", None, opts=opts(5), fail="after")
        again = await run_page(bench.host, "app:fails_after", run.journal, opts=opts(5), fail="")
        plain = await run_page(bench.host, "app:plain", journal)

    assert before.journal == journal
    assert value_of(again.outcome) == list(range(5))
    assert again.journal == run.journal
    assert plain.journal is None, "a function without a page has no journal"


@pytest.mark.asyncio
async def test_a_page_suspended_while_its_range_is_rewritten_returns_exactly_its_snapshot(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT, limits=Limits(scan_check_entries=1)) as bench:
        ids = await fill(bench, *range(12))

        def rewrite(ctx: Any) -> None:
            for n, item in enumerate(ids):
                if n % 3 == 0:
                    ctx.db.delete(item)
                elif n % 3 == 1:
                    ctx.db.patch(item, {"n": 100 - n})
            ctx.db.insert("items", {"name": "y", "n": 4})

        bench.clock.tick = 1.0
        up = run_page(bench.host, "app:page", None, opts=opts(6))
        down = run_page(bench.host, "app:page", None, opts=opts(5), odd=True, order="desc")
        value_of(await bench.start(rewrite))
        assert not up.done()
        assert not down.done()
        assert value_of((await up).outcome)["page"] == [0, 1, 2, 3, 4, 5]
        assert value_of((await down).outcome)["page"] == [11, 9, 7, 5, 3]
        bench.clock.tick = 0.0


@pytest.mark.asyncio
async def test_a_page_depends_on_its_own_range_only(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        await fill(bench, 10, 20, 30, 40)
        first, journal = await page(bench, opts(2))
        index = bench.host.database.catalog.by_name["items"].indexes["n", "_creationTime"]

        def touched(run: QueryRun) -> list[bool]:
            return [
                run.reads.touches(index.id, index.encoder({"n": float(n), "_creationTime": 9e15, "_id": "z"}))
                for n in (5, 15, 25, 35, 45)
            ]

        fresh = await run_page(bench.host, "app:page", None, opts=opts(2))
        fixed = await run_page(bench.host, "app:page", journal, opts=opts(2))
        second = await run_page(bench.host, "app:page", None, opts=opts(2, first["continueCursor"]))
        last = await run_page(bench.host, "app:page", None, opts=opts(9, first["continueCursor"]))

    assert touched(fresh) == [True, True, False, False, False]
    assert touched(fixed) == touched(fresh)
    assert touched(second) == [False, False, True, True, False]
    assert touched(last) == [False, False, True, True, True]


# While documents come and go.

_loaded: list[Project] = []  # of the examples of the machine: importing code for each would be most of their time


@pytest.fixture(scope="module", autouse=True)
def loaded_once(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    _loaded.append(ProjectLoader(write(tmp_path_factory.mktemp("pages"), PROJECT)).load())
    yield
    _loaded.pop().release()


class Chained:
    """One page that a client keeps: how it was asked for, and its journal."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.journal: str | None = None
        self.result: dict[str, Any] = {}


class Paging(RuleBasedStateMachine):
    """A client pages through a query while others write: what it holds is always a prefix of the results."""

    items = Bundle("items")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.runner.run(self.open())
        self.numbers: dict[str, int] = {}
        self.chains: dict[tuple[str, bool], list[Chained]] = {
            (order, odd): [] for order in ("asc", "desc") for odd in (False, True)
        }

    async def open(self) -> None:
        self.host = await Host.open(
            MemoryPersistence(),
            clock=TestClock(),
            alarms=TestClock(),
            rng=SeededRng(1),
            limits=Limits(scan_check_entries=3),
        )
        await self.host.push(SharedProject(_loaded[0]))

    def teardown(self) -> None:
        self.runner.run(self.host.close())
        self.runner.close()

    def mutate(self, handler: Any) -> Any:
        async def run() -> Any:
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self.host.executor.submit_handler(handler, Call("run", b"{}", internal=True), done.set_result)
            return value_of(await done)

        return self.runner.run(run())

    def load(self, chained: Chained, order: str, odd: bool) -> None:
        """Run a page with its journal, twice: the second time with the journal of the first."""

        async def run(journal: str | None) -> QueryRun:
            return await run_page(self.host, "app:page", journal, opts=chained.options, order=order, odd=odd)

        first = self.runner.run(run(chained.journal))
        again = self.runner.run(run(first.journal))
        assert isinstance(first.outcome, Success)
        assert isinstance(again.outcome, Success)
        assert (again.outcome.value, again.journal) == (first.outcome.value, first.journal)
        before, chained.result, chained.journal = chained.result, value_of(first.outcome), first.journal
        assert before.get("continueCursor") in (None, chained.result["continueCursor"]), "ends stay where they were"

    @rule(target=items, numbers=st.lists(st.integers(0, 12), min_size=1, max_size=4))
    def insert(self, numbers: list[int]) -> str:
        ids: list[str] = self.mutate(lambda ctx: [ctx.db.insert("items", {"name": "x", "n": n}) for n in numbers])
        self.numbers.update(zip(ids, numbers, strict=True))
        return ids[0]

    @rule(item=items)
    def delete(self, item: str) -> None:
        if self.numbers.pop(item, None) is not None:
            self.mutate(lambda ctx: ctx.db.delete(item))

    @rule(item=items, number=st.integers(0, 12))
    def move(self, item: str, number: int) -> None:
        if item in self.numbers:
            self.numbers[item] = number
            self.mutate(lambda ctx: ctx.db.patch(item, {"n": number}))

    @rule(
        order=st.sampled_from(["asc", "desc"]),
        odd=st.booleans(),
        num_items=st.integers(1, 4),
        rows=st.none() | st.integers(1, 5),
    )
    def next_page(self, order: str, odd: bool, num_items: int, rows: int | None) -> None:
        chain = self.chains[order, odd]
        if chain and chain[-1].result["isDone"]:
            return
        cursor = chain[-1].result["continueCursor"] if chain else None
        chained = Chained({"numItems": num_items, "cursor": cursor})
        if rows is not None:
            chained.options["maximumRowsRead"] = rows
        self.load(chained, order, odd)
        chain.append(chained)

    @precondition(lambda self: any(self.chains.values()))
    @rule(data=st.data())
    def split(self, data: Any) -> None:
        order, odd = data.draw(st.sampled_from([key for key, chain in self.chains.items() if chain]))
        chain = self.chains[order, odd]
        at = data.draw(st.integers(0, len(chain) - 1))
        options, middle = chain[at].options, chain[at].result["splitCursor"]
        if middle is None:
            return
        halves = [
            Chained({"numItems": 1, "cursor": options["cursor"], "endCursor": middle}),
            Chained({"numItems": 1, "cursor": middle, "endCursor": chain[at].result["continueCursor"]}),
        ]
        for half in halves:
            self.load(half, order, odd)
        chain[at : at + 1] = halves

    @invariant()
    def pages_are_a_partition_of_the_results_so_far(self) -> None:
        for (order, odd), chain in self.chains.items():
            for chained in chain:
                self.load(chained, order, odd)
            found = [n for chained in chain for n in chained.result["page"]]
            wanted = sorted((n for n in self.numbers.values() if n % 2 or not odd), reverse=order == "desc")
            assert found == wanted[: len(found)]
            if chain and chain[-1].result["isDone"]:
                assert found == wanted
            for left, right in pairwise(chain):
                assert left.result["continueCursor"] == right.options["cursor"]


Paging.TestCase.settings = settings(deadline=None, max_examples=size(40, 500), stateful_step_count=size(15, 40))
TestPaging = Paging.TestCase


@pytest.mark.asyncio
async def test_a_live_page_keeps_its_ends(tmp_path: Path) -> None:
    async with open_bench(tmp_path, PROJECT) as bench:
        ids = await fill(bench, 10, 20, 30, 40)
        watcher = bench.watch("app:page", opts=opts(2))
        await watcher.next()
        before = watcher.value
        await fill(bench, 15, 25)
        await bench.run(lambda ctx: ctx.db.delete(ids[1]))
        await bench.settle()
        after = watcher.value

    assert (before["page"], after["page"]) == ([10, 20], [10, 15])
    assert after["continueCursor"] == before["continueCursor"]
