"""The rules of `ctx.db`, each in its async and its blocking form."""

import sys
import tracemalloc
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import (
    DocumentInvalid,
    DocumentNotFound,
    InvalidArgument,
    LimitExceeded,
    NotUnique,
    UnknownIndex,
    UnknownTable,
)
from reactor.limits import MAX_DOCUMENT_BYTES
from reactor.runtime.calls import Success
from reactor.values.ids import encode_id
from reactor.values.stored import decode_object, encode_stored, normalise
from reactor.values.types import undefined
from tests.runtime.hosts import HEAD, NO_FUNCTIONS, Bench, Form, as_coroutine, as_function, open_bench, project_files

Script = Generator[Any, Any, Any]
UNKNOWN_TABLE_ID = encode_id(9_999_999, b"0123456789abcdef")

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=[as_coroutine, as_function], ids=["async", "blocking"])
def form(request: pytest.FixtureRequest) -> Form:
    made: Form = request.param
    return made


async def refused(bench: Bench, handler: Callable[[Any], Any], kind: type[BaseException]) -> str:
    """Return the text with which the database refuses what `handler` does."""
    with pytest.raises(kind) as caught:
        await bench.run(handler)
    return str(caught.value)


async def test_a_document_written_is_read_back_fresh(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a", "extra": {"list": [1]}})
        first = yield ctx.db.get(item)
        first["extra"]["list"].append(2)
        second = yield ctx.db.get("items", item)
        seen.extend([item, first, second])
        return item

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        item = await bench.run(form(script))

    assert seen[2] == {"_id": item, "_creationTime": seen[1]["_creationTime"], "name": "a", "extra": {"list": [1.0]}}
    assert isinstance(seen[2]["_creationTime"], float)
    assert type(seen[2]["_id"]) is str


async def test_an_integer_field_is_an_int_in_python_and_a_float_at_rest(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a", "n": 3, "extra": 4})
        seen.append((yield ctx.db.get(item)))
        seen.extend((yield ctx.db.query("items").collect()))
        seen.append((yield ctx.db.query("items").with_index("by_n", n=3).unique()))
        yield ctx.db.patch(item, {"name": "b"})
        seen.append((yield ctx.db.get(item)))

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await bench.run(form(script))

    assert [(type(document["n"]), type(document["extra"])) for document in seen] == [(int, float)] * 4


async def test_writes_are_seen_by_the_transaction_that_made_them(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        a = yield ctx.db.insert("items", {"name": "a", "n": 1})
        b = yield ctx.db.insert("items", {"name": "b", "n": 2})
        yield ctx.db.patch(a, {"n": 5})
        yield ctx.db.replace(b, {"name": "c"})
        c = yield ctx.db.insert("items", {"name": "d"})
        yield ctx.db.delete("items", c)
        seen.append([(d["name"], d.get("n")) for d in (yield ctx.db.query("items").collect())])
        seen.append(
            [d["name"] for d in (yield ctx.db.query("items").with_index("by_n", lambda q: q.gt("n", 1)).collect())]
        )
        seen.append((yield ctx.db.query("items").count()))
        seen.append((yield ctx.db.get(c)))

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await bench.run(form(script))

    assert seen == [[("a", 5), ("c", None)], ["a"], 2, None]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda db, i: db.get(5), "Invalid argument `id` for `db.get`, expected string but got 'number': 5"),
        (lambda db, i: db.get(None), "Invalid argument `id` for `db.get`, expected string but got 'object': None"),
        (lambda db, i: db.get(True), "Invalid argument `id` for `db.get`, expected string but got 'boolean': True"),
        (
            lambda db, i: db.get("counters", i),
            'Invalid argument `id` for `db.get`: expected to be an Id<"counters">, got Id<"items"> instead.',
        ),
        (
            lambda db, i: db.patch("counters", i, {}),
            'Invalid argument `id` for `db.patch`: expected to be an Id<"counters">, got Id<"items"> instead.',
        ),
        (
            lambda db, i: db.replace("counters", i, {"name": "b"}),
            'Invalid argument `id` for `db.replace`: expected to be an Id<"counters">, got Id<"items"> instead.',
        ),
        (
            lambda db, i: db.delete("counters", i),
            'Invalid argument `id` for `db.delete`: expected to be an Id<"counters">, got Id<"items"> instead.',
        ),
        (
            lambda db, i: db.patch(UNKNOWN_TABLE_ID, {}),
            f'Invalid argument `id` for `db.patch`: Table for ID "{UNKNOWN_TABLE_ID}" not found',
        ),
        (
            lambda db, i: db.delete(UNKNOWN_TABLE_ID),
            f'Invalid argument `id` for `db.delete`: Table for ID "{UNKNOWN_TABLE_ID}" not found',
        ),
        (lambda db, i: db.insert("items", 5), "Invalid argument `value` for `db.insert`: Value must be an Object"),
        (lambda db, i: db.insert("items", []), "Invalid argument `value` for `db.insert`: Value must be an Object"),
        (lambda db, i: db.patch(i, None), "Invalid argument `value` for `db.patch`: Value must be an Object"),
        (lambda db, i: db.replace(i, "x"), "Invalid argument `value` for `db.replace`: Value must be an Object"),
        (lambda db, i: db.insert("_tables", {}), "System tables (prefixed with `_`) are read-only."),
        (lambda db, i: db.query("_tables").collect(), "System tables can only be accessed from db.system.query()."),
        (lambda db, i: db.insert(5, {}), "A table name is a string, not int."),
    ],
)
async def test_a_wrong_argument_has_its_official_text(
    tmp_path: Path, form: Form, call: Callable[[Any, str], Any], text: str
) -> None:
    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a"})
        yield call(ctx.db, item)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        assert await refused(bench, form(script), InvalidArgument) == text


async def test_an_id_that_is_none_is_refused_by_name_of_the_call(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        yield ctx.db.get("no id at all")

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        text = await refused(bench, form(script), InvalidArgument)
    assert text.startswith("Invalid argument `id` for `db.get`: Unable to decode ID: ")


async def test_a_system_document_is_out_of_reach(tmp_path: Path, form: Form) -> None:
    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        (row,) = bench.host.database.system_documents("_deployment")

        def script(ctx: Any) -> Script:
            yield ctx.db.get(row["_id"])

        text = await refused(bench, form(script), InvalidArgument)
    assert text == "System tables can only be accessed with db.system."


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("Update", lambda db, i: db.patch(i, {"name": "b"})),
        ("Replace", lambda db, i: db.replace("items", i, {"name": "b"})),
        ("Delete", lambda db, i: db.delete(i)),
    ],
)
async def test_writing_to_a_missing_document_names_verb_and_id(
    tmp_path: Path, form: Form, verb: str, call: Callable[[Any, str], Any]
) -> None:
    gone: list[str] = []

    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a"})
        gone.append(item)
        yield ctx.db.delete(item)
        yield call(ctx.db, item)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        text = await refused(bench, form(script), DocumentNotFound)
    assert text == f"{verb} on nonexistent document ID {gone[0]}"


async def test_reading_a_missing_document_gives_none(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a"})
        yield ctx.db.delete(item)
        return [(yield ctx.db.get(item)), (yield ctx.db.get(UNKNOWN_TABLE_ID))]

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        assert await bench.run(form(script)) == [None, None]


async def test_normalize_id_answers_by_table_and_never_by_document(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a"})
        yield ctx.db.delete(item)
        of = ctx.db.normalize_id
        seen.extend([of("items", item) == item, of("counters", item), of("items", "x"), of("nowhere", item)])
        with pytest.raises(InvalidArgument) as caught:
            of("_tables", item)
        seen.append(str(caught.value))

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await bench.run(form(script))
    assert seen == [True, None, None, None, "System tables can only be accessed from db.system.normalizeId()."]


async def test_an_unknown_table_is_refused_with_the_nearest_name(tmp_path: Path, form: Form) -> None:
    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        for call in (lambda db: db.insert("itms", {}), lambda db: db.query("itms").collect()):

            def script(ctx: Any, call: Callable[[Any], Any] = call) -> Script:
                yield call(ctx.db)

            assert await refused(bench, form(script), UnknownTable) == (
                "The schema has no table 'itms'. Did you mean 'items'?"
            )

        def far(ctx: Any) -> Script:
            yield ctx.db.query("zzz").first()

        assert await refused(bench, form(far), UnknownTable) == (
            "The schema has no table 'zzz'. It has: counters, items, others."
        )
        assert bench.host.database.table("itms") is None


async def test_an_unknown_index_is_refused_with_the_nearest_name(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        yield ctx.db.query("items").with_index("by_nme", name="a").collect()

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        text = await refused(bench, form(script), UnknownIndex)
    assert text == "Index items.by_nme not found. Did you mean 'by_name'?"


LOOSE = (
    HEAD
    + """
schema = define_schema({"items": define_table({"name": v.string()})}, strict_table_names=False)
"""
)


async def test_without_strict_names_a_table_begins_with_its_first_document(tmp_path: Path, form: Form) -> None:
    def empty(ctx: Any) -> Script:
        return [
            (yield ctx.db.query("notes").collect()),
            (yield ctx.db.query("notes").first()),
            (yield ctx.db.query("notes").count()),
        ]

    def insert(ctx: Any) -> Script:
        return (yield ctx.db.insert("notes", {"anything": [1, "x"]}))

    def by_index(ctx: Any) -> Script:
        yield ctx.db.query("later").with_index("by_id").collect()

    async with open_bench(tmp_path, {"schema.py": LOOSE, "functions/empty.py": ""}) as bench:
        assert await bench.run(form(empty)) == [[], None, 0]
        assert bench.host.database.table("notes") is None, "reading makes no table"
        assert await refused(bench, form(by_index), UnknownIndex) == "Index later.by_id not found."

        note = await bench.run(form(insert))

        def read(ctx: Any) -> Script:
            return [d["_id"] for d in (yield ctx.db.query("notes").collect())]

        assert await bench.run(form(read)) == [note]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "Identifier cannot be empty"),
        ("a b", "Identifier a b has invalid character ' ': "),
        ("x" * 65, "Identifier is too long (65 > maximum 64)"),
    ],
)
async def test_a_table_made_by_insert_needs_a_proper_name(tmp_path: Path, form: Form, name: str, text: str) -> None:
    def script(ctx: Any) -> Script:
        yield ctx.db.insert(name, {})

    async with open_bench(tmp_path, {"schema.py": LOOSE, "functions/empty.py": ""}) as bench:
        assert text in await refused(bench, form(script), InvalidArgument)
        assert bench.host.database.table(name) is None


async def test_a_new_table_is_there_for_a_query_that_found_it_missing(tmp_path: Path) -> None:
    files = {
        "schema.py": LOOSE,
        "functions/notes.py": HEAD
        + """
@query
def titles(ctx):
    return [note["title"] for note in ctx.db.query("notes").collect()]

@query
def known(ctx, id: str):
    return ctx.db.normalize_id("notes", id) is not None

@mutation
async def write(ctx, title: str):
    return await ctx.db.insert("notes", {"title": title})
""",
    }
    async with open_bench(tmp_path, files) as bench:
        watcher = bench.watch("notes:titles")
        other = encode_id(bench.host.database.catalog.free_number(), b"0123456789abcdef")
        known = bench.watch("notes:known", id=other)
        await bench.settle()
        assert (watcher.value, known.value) == ([], False)

        await bench.mutation("notes:write", title="first")
        await bench.settle()

        assert (watcher.value, known.value) == (["first"], True)


async def test_patch_merges_at_the_top_and_undefined_removes(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a", "n": 1, "extra": {"x": 1, "y": 2}})
        yield ctx.db.patch(item, {"n": undefined, "extra": {"x": 3}})
        first = yield ctx.db.get(item)
        yield ctx.db.patch("items", item, {"extra": undefined, "missing": undefined})
        return [first, (yield ctx.db.get(item))]

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        documents = await bench.run(form(script))
    assert [{k: v for k, v in d.items() if k[0] != "_"} for d in documents] == [
        {"name": "a", "extra": {"x": 3.0}},
        {"name": "a"},
    ]


async def test_replace_keeps_id_and_creation_time_and_nothing_else(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a", "n": 1})
        before = yield ctx.db.get(item)
        yield ctx.db.replace(item, {**before, "name": "b", "n": undefined})
        return [before, (yield ctx.db.get(item))]

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        before, after = await bench.run(form(script))
    assert after == {"_id": before["_id"], "_creationTime": before["_creationTime"], "name": "b"}


@pytest.mark.parametrize("fields", [{}, {"name": "a"}, {"n": 1.0}, {"extra": {"b": 1, "a": 2}}])
async def test_a_write_that_changes_nothing_is_no_write(tmp_path: Path, form: Form, fields: dict[str, Any]) -> None:
    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:

        def make(ctx: Any) -> Script:
            return (yield ctx.db.insert("items", {"name": "a", "n": 1, "extra": {"a": 2, "b": 1}}))

        item = await bench.run(form(make))
        before = bench.host.database.applied_ts

        def touch(ctx: Any) -> Script:
            yield ctx.db.patch(item, fields)
            yield ctx.db.replace(item, (yield ctx.db.get(item)))

        outcome = await bench.start(form(touch))
        assert isinstance(outcome, Success)
        assert (outcome.ts, bench.host.database.applied_ts) == (before, before)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"_id": "other"}, 'Provided document ID "other" doesn\'t match \'_id\' field "{id}"'),
        ({"_creationTime": 5}, "Provided creation time 5 doesn't match '_creationTime' field "),
        ({"_mine": 1}, "Field '_mine' starts with an underscore, which is only allowed for system fields like '_id'"),
    ],
)
async def test_system_fields_can_not_be_changed(tmp_path: Path, form: Form, change: dict[str, Any], text: str) -> None:
    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:

        def make(ctx: Any) -> Script:
            return (yield ctx.db.insert("items", {"name": "a"}))

        item = await bench.run(form(make))

        def patch(ctx: Any) -> Script:
            yield ctx.db.patch(item, change)

        def replace(ctx: Any) -> Script:
            yield ctx.db.replace(item, {"name": "b", **change})

        def insert(ctx: Any) -> Script:
            yield ctx.db.insert("items", {"name": "b", **change})

        for script in (patch, replace):
            assert text.replace("{id}", item) in await refused(bench, form(script), DocumentInvalid)
        assert text.partition(" field")[0] in await refused(bench, form(insert), DocumentInvalid)


async def test_a_document_the_schema_refuses_has_the_official_text(tmp_path: Path, form: Form) -> None:
    def missing(ctx: Any) -> Script:
        yield ctx.db.insert("items", {"n": 1})

    def wrong(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a"})
        yield ctx.db.patch(item, {"n": 1.5})

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        text = await refused(bench, form(missing), DocumentInvalid)
        assert text.startswith(
            'Failed to insert or update a document in table "items" because it does not match the schema: '
            "Object is missing the required field `name`. Consider wrapping the field validator in `v.optional(...)` "
            "if this is expected.\n\nObject: {n: 1.0}\nValidator: v.object({"
        )
        text = await refused(bench, form(wrong), DocumentInvalid)
        assert "does not match the schema: Value does not match validator.\nPath: .n\nValue: 1.5\n" in text


async def test_what_is_checked_first_is_said_first(tmp_path: Path, form: Form) -> None:
    """Document rules, then the schema, then the size."""
    big = "x" * MAX_DOCUMENT_BYTES
    deep: Any = 1
    for _ in range(16):
        deep = [deep]

    def insert(document: dict[str, Any]) -> Callable[[Any], Any]:
        def script(ctx: Any) -> Script:
            yield ctx.db.insert("items", document)

        return form(script)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        assert "Document is too nested (nested 17 levels deep > maximum nesting 16)" in (
            await refused(bench, insert({"name": 1, "extra": deep}), DocumentInvalid)
        )
        assert "does not match the schema" in await refused(bench, insert({"name": 1, "extra": big}), DocumentInvalid)
        assert (await refused(bench, insert({"name": "a", "extra": big}), DocumentInvalid)).startswith(
            "Value is too large (1.00 MiB > maximum size 1 MiB)"
        )


async def test_a_value_that_is_none_of_ours_is_refused(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        yield ctx.db.insert("others", {"x": {1, 2}})

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        with pytest.raises(DocumentInvalid):
            await bench.run(form(script))


async def test_reads_are_limited_in_number_and_the_limit_stays_passed(tmp_path: Path, form: Form) -> None:
    texts: list[str] = []

    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("items", {"name": "a"})
        for _ in range(3):
            try:
                for at in range(5000):
                    yield ctx.db.query("items").with_index("by_name", name=str(at)).first()
            except LimitExceeded as error:
                texts.append(f"{error.rule} {error}")
        return item

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await bench.run(form(script))
    assert (
        texts
        == [
            "TooManyReads Too many reads in a single function execution (limit: 4096). "
            "Consider using smaller limits in your queries, paginating your queries, "
            "or using indexed queries with a selective index range expressions."
        ]
        * 3
    )


async def test_writes_are_limited_in_number(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        item = yield ctx.db.insert("counters", {"value": 0})
        for value in range(1, 16_001):
            yield ctx.db.patch(item, {"value": value})

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        text = await refused(bench, form(script), LimitExceeded)
        assert text == "Too many writes in a single function execution (limit: 16000)"
        assert len(bench.host.database.catalog.by_name["counters"]) == 0


async def test_unique_refuses_a_second_document_by_both_ids(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        ids = []
        for _ in range(3):
            ids.append((yield ctx.db.insert("items", {"name": "a"})))
        ids_text = f"[{ids[0]}, {ids[1]}, ...]"
        with pytest.raises(NotUnique) as caught:
            yield ctx.db.query("items").unique()
        assert str(caught.value) == f"unique() query returned more than one result from table items:\n {ids_text}"
        return [(yield ctx.db.query("items").with_index("by_name", name="b").unique())]

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        assert await bench.run(form(script)) == [None]


@pytest.mark.parametrize("count", [-1, 1.5, True, None, "2", float("inf"), float("nan")])
async def test_take_needs_a_count(tmp_path: Path, form: Form, count: object) -> None:
    def script(ctx: Any) -> Script:
        yield ctx.db.query("items").take(count)

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        text = await refused(bench, form(script), InvalidArgument)
    assert text == "Arg 1 `n` to `take` must be a non-negative integer"


async def test_results_come_in_order_and_number(tmp_path: Path, form: Form) -> None:
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        for name in "cabd":
            yield ctx.db.insert("items", {"name": name})

        def items() -> Any:
            return ctx.db.query("items")

        def names(documents: list[Any]) -> str:
            return "".join(document["name"] for document in documents)

        seen.append(names((yield items().collect())))
        seen.append(names((yield items().order("desc").collect())))
        seen.append(names((yield items().with_index("by_name").collect())))
        seen.append(names((yield items().with_index("by_name").order("desc").take(2.0))))
        seen.append(names((yield items().take(0))))
        seen.append((yield items().order("desc").first())["name"])
        seen.append((yield items().with_index("by_name", lambda q: q.gte("name", "b").lt("name", "d")).count()))
        seen.append(names((yield items().with_index("by_creation_time").take(1))))
        seen.append(len((yield items().with_index("by_id").collect())))

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        await bench.run(form(script))
    assert seen == ["cabd", "dbac", "abcd", "dc", "", "d", 2, "c", 4]


async def test_a_scan_longer_than_a_chunk_is_whole_and_in_order(tmp_path: Path, form: Form) -> None:
    def script(ctx: Any) -> Script:
        for at in range(300):
            yield ctx.db.insert("counters", {"value": at})
        up = yield ctx.db.query("counters").collect()
        down = yield ctx.db.query("counters").order("desc").take(290)
        return [[d["value"] for d in up], [d["value"] for d in down]]

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        up, down = await bench.run(form(script))
    assert up == list(range(300))
    assert down == list(range(299, 9, -1))


async def test_schema_validation_off_lets_every_document_pass_and_keeps_the_view(tmp_path: Path, form: Form) -> None:
    schema = (
        HEAD
        + """
schema = define_schema({"items": define_table({"n": v.integer()})}, schema_validation=False)
"""
    )
    seen: list[Any] = []

    def script(ctx: Any) -> Script:
        yield ctx.db.insert("items", {"n": 1})
        yield ctx.db.insert("items", {"n": "text", "more": True})
        seen.extend([document["n"] for document in (yield ctx.db.query("items").collect())])

    async with open_bench(tmp_path, {"schema.py": schema, "functions/empty.py": ""}) as bench:
        await bench.run(form(script))
    assert seen == [1, "text"]
    assert type(seen[0]) is int


async def test_a_query_reruns_for_what_it_read_and_for_nothing_behind(tmp_path: Path) -> None:
    """take(3) depends on the first three rows: a row before or among them counts, one behind does not."""
    files = project_files(
        items="""
@query
async def three(ctx):
    return [d["name"] for d in await ctx.db.query("items").with_index("by_name").take(3)]

@query
async def until_b(ctx):
    names = []
    async for d in ctx.db.query("items").with_index("by_name"):
        names.append(d["name"])
        if d["name"] == "bb":
            break
    return names

@query
def until_b_blocking(ctx):
    names = []
    for d in ctx.db.query("items").with_index("by_name"):
        names.append(d["name"])
        if d["name"] == "bb":
            break
    return names

@mutation
async def add(ctx, name: str):
    return await ctx.db.insert("items", {"name": name})
"""
    )
    async with open_bench(tmp_path, files) as bench:
        for name in ("aa", "bb", "cc", "dd", "ee"):
            await bench.mutation("items:add", name=name)
        three, broken = bench.watch("items:three"), bench.watch("items:until_b", "items:until_b_blocking")
        await bench.settle()
        stats = bench.host.live.stats

        await bench.mutation("items:add", name="cz")
        await bench.settle()
        assert stats.reruns == 0

        await bench.mutation("items:add", name="ca")
        await bench.settle()
        assert (stats.reruns, three.value) == (1, ["aa", "bb", "ca"])

        await bench.mutation("items:add", name="ab")
        await bench.settle()
        assert stats.reruns == 4
        assert three.value == ["aa", "ab", "bb"]
        assert broken.values == [["aa", "ab", "bb"]] * 2


async def test_a_document_that_leaves_enters_or_moves_within_a_watched_range_reruns_it(tmp_path: Path) -> None:
    """Conformance #3: the old key counts as well as the new one. One that moves outside does not."""
    files = project_files(
        items="""
@query
async def middle(ctx):
    chain = ctx.db.query("items").with_index("by_name", lambda q: q.gte("name", "k").lt("name", "p"))
    return [item["name"] for item in await chain.collect()]

@mutation
async def add(ctx, name: str):
    return await ctx.db.insert("items", {"name": name})

@mutation
async def rename(ctx, id: str, name: str):
    await ctx.db.patch(id, {"name": name})
"""
    )
    async with open_bench(tmp_path, files) as bench:
        item = await bench.mutation("items:add", name="k")
        middle = bench.watch("items:middle")
        await bench.settle()
        stats = bench.host.live.stats
        for name, reruns, value in (("m", 1, ["m"]), ("z", 2, []), ("a", 2, []), ("o", 3, ["o"])):
            await bench.mutation("items:rename", id=item, name=name)
            await bench.settle()
            assert (stats.reruns, middle.value) == (reruns, value), name


async def test_an_empty_range_and_a_missing_document_are_read_too(tmp_path: Path) -> None:
    files = project_files(
        items="""
@query
async def named(ctx, name: str):
    return len(await ctx.db.query("items").with_index("by_name", name=name).collect())

@query
def exists(ctx, id: str):
    return ctx.db.get(id) is not None

@query
def how_many(ctx):
    return ctx.db.query("items").with_index("by_name", lambda q: q.gt("name", "m")).count()

@mutation
async def add(ctx, name: str):
    return await ctx.db.insert("items", {"name": name})

@mutation
async def remove(ctx, id: str):
    await ctx.db.delete(id)
"""
    )
    async with open_bench(tmp_path, files) as bench:
        item = await bench.mutation("items:add", name="x")
        named, count = bench.watch("items:named", name="z"), bench.watch("items:how_many")
        exists = bench.watch("items:exists", id=item)
        await bench.settle()
        assert (named.value, count.value, exists.value) == (0, 1, True)

        await bench.mutation("items:add", name="z")
        await bench.mutation("items:remove", id=item)
        await bench.settle()

        assert (named.value, count.value, exists.value) == (1, 1, False)


async def test_a_document_takes_no_more_memory_than_its_bytes(tmp_path: Path) -> None:
    """The encoder reserves half as much again, and its bytes keep it for as long as they live."""

    async def insert(ctx: Any) -> None:
        for length in range(300, 1300, 20):
            await ctx.db.insert("others", {"x": "y" * length})

    async with open_bench(tmp_path, NO_FUNCTIONS) as bench:
        tracemalloc.start()
        try:
            await bench.run(insert)
            taken = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
        kept = sum(map(sys.getsizeof, bench.host.database.catalog.by_name["others"].documents.values()))
        files = {line.traceback[0].filename: line.size for line in taken.statistics("filename")}
        (size,) = [size for file, size in files.items() if file.endswith("runtime/documents.py")]
        assert kept <= size < kept * 1.2


FIELDS = ["a", "aa", "b", "c", "d"]
field_values = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-(2**60), 2**60), st.text(max_size=3), st.just(undefined),
    st.lists(st.integers(0, 3), max_size=2), st.dictionaries(st.sampled_from(FIELDS), st.integers(0, 3), max_size=2),
)  # fmt: skip
bodies = st.dictionaries(st.sampled_from(FIELDS), field_values.filter(lambda value: value is not undefined), max_size=4)
patches = st.dictionaries(st.sampled_from([*FIELDS, "_id", "bad\0"]), field_values, max_size=4)


async def test_a_patch_is_a_replace_by_the_merged_document(tmp_path: Path) -> None:
    """The patch checks only what is new, and takes another way; stored bytes and refusals are the same."""

    async def both(ctx: Any, body: dict[str, Any], fields: dict[str, Any]) -> None:
        outcomes: list[Any] = []
        for call in ("patch", "replace"):
            item = await ctx.db.insert("free", body)
            before = await ctx.db.get(item)
            merged = {name: value for name, value in {**before, **fields}.items() if value is not undefined}
            try:
                if call == "patch":
                    await ctx.db.patch(item, fields)
                else:
                    await ctx.db.replace(item, merged)
            except (DocumentInvalid, InvalidArgument) as error:
                outcomes.append((type(error), str(error).replace(item, "id")))
            after = ctx.db._documents.transaction.writes[item].after
            outcomes.append({**decode_object(after), "_id": "", "_creationTime": 0.0})
            outcomes.append(encode_stored(normalise(decode_object(after)).value) == after)
        assert repr(outcomes[: len(outcomes) // 2]) == repr(outcomes[len(outcomes) // 2 :])

    files = {"schema.py": HEAD + "schema = define_schema({}, strict_table_names=False)", "functions/empty.py": ""}
    async with open_bench(tmp_path, files) as bench:

        @given(bodies, patches)
        def check(body: dict[str, Any], fields: dict[str, Any]) -> None:
            examples.append((body, fields))

        examples: list[tuple[dict[str, Any], dict[str, Any]]] = []
        check()
        for body, fields in examples:

            async def handler(ctx: Any, body: dict[str, Any] = body, fields: dict[str, Any] = fields) -> None:
                await both(ctx, body, fields)

            await bench.run(handler)


async def test_an_index_tells_what_it_is_ordered_by(tmp_path: Path) -> None:
    files = project_files(
        app="""
@query
async def fields(ctx, table: str, index: str) -> list[str]:
    return list(ctx.db.index_fields(table, index))

@query
def fields_blocking(ctx, table: str, index: str) -> list[str]:
    return list(ctx.db.index_fields(table, index))
"""
    )
    async with open_bench(tmp_path, files) as bench:
        for path in ("app:fields", "app:fields_blocking"):
            assert await bench.query(path, table="items", index="by_n") == ["n", "_creationTime", "_id"]
            assert await bench.query(path, table="items", index="by_creation_time") == ["_creationTime", "_id"]
            assert await bench.query(path, table="items", index="by_id") == ["_id"]
            with pytest.raises(UnknownIndex, match="by_name"):
                await bench.query(path, table="items", index="by_nme")
            with pytest.raises(UnknownTable, match="items"):
                await bench.query(path, table="itms", index="by_n")
