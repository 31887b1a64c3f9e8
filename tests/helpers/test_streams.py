"""Streams as functions use them: live pages, what they depend on, components, and what goes wrong where."""

import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor import Error, ReactorError
from reactor.helpers.streams import Stream, get_page, merged, stream
from reactor.testing.deployment import MemoryDeployment
from tests.garbage import kept_garbage
from tests.projects import opened

pytestmark = pytest.mark.asyncio

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "messages": define_table({"channel": v.string(), "author": v.string(), "n": v.integer()})
        .index("by_channel", ["channel", "n"]).index("by_author", ["author"]),
})
"""
FUNCTIONS = """
from reactor import mutation, pagination_opts_validator, query, v
from reactor.helpers.streams import merged, stream

@mutation
async def send(ctx, channel: str, n: int, author: str = "ann"):
    return await ctx.db.insert("messages", {"channel": channel, "author": author, "n": n})

@query(args={"channel": v.string(), "paginationOpts": pagination_opts_validator})
async def even(ctx, channel, pagination_opts):
    messages = stream(ctx.db).query("messages").with_index("by_channel", channel=channel)
    numbers = messages.filter_with(lambda message: message["n"] % 2 == 0).map(lambda message: message["n"])
    return await numbers.paginate(pagination_opts)

@query
async def first_two(ctx, channel: str) -> list[int]:
    messages = stream(ctx.db).query("messages").with_index("by_channel", channel=channel)
    return [message["n"] for message in await messages.take(2)]
"""
APP = {"schema.py": SCHEMA, "functions/messages.py": FUNCTIONS}


@pytest_asyncio.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[MemoryDeployment]:
    async with opened(tmp_path, APP) as one:
        yield one


async def send(deployment: MemoryDeployment, *numbers: int, channel: str = "a") -> None:
    for n in numbers:
        await deployment.mutation("messages:send", channel=channel, n=n)


async def test_a_live_page_that_is_told_its_end_neither_overlaps_nor_leaves_a_gap(deployment: MemoryDeployment) -> None:
    await send(deployment, 0, 1, 2, 4, 6, 8)

    async def page(cursor: str | None, end: str | None = None) -> dict[str, Any]:
        options = {"numItems": 2, "cursor": cursor, "endCursor": end}
        found = await deployment.query("messages:even", {"channel": "a", "paginationOpts": options})
        assert isinstance(found, dict)
        return found

    first = await page(None)
    second = await page(first["continueCursor"])
    assert (first["page"], second["page"], first["isDone"]) == ([0, 2], [4, 6], False)
    await send(deployment, 3, -2, 5)
    assert (await page(None, first["continueCursor"]))["page"] == [-2, 0, 2]
    assert (await page(first["continueCursor"], second["continueCursor"]))["page"] == [4, 6]
    last = await page(second["continueCursor"])
    assert (last["page"], last["isDone"]) == ([8], True)
    await send(deployment, 10)
    assert (await page(second["continueCursor"], last["continueCursor"]))["page"] == [8, 10], "the last one grows"


async def test_a_stream_depends_on_what_it_has_read(deployment: MemoryDeployment) -> None:
    await send(deployment, 0, 2, 4)
    async with deployment.subscribe("messages:first_two", {"channel": "a"}) as live:
        assert await live.next() == [0, 2]
        runs = deployment._host.executor.stats.queries  # type: ignore[union-attr]
        await send(deployment, 3, 5)
        await send(deployment, 0, channel="b")
        assert await live.is_unchanged()
        assert deployment._host.executor.stats.queries == runs  # type: ignore[union-attr]
        await send(deployment, 1)
        assert await live.next() == [0, 1]


async def test_a_page_leaves_no_cycles(deployment: MemoryDeployment) -> None:
    async def ask(number: int, cursor: str | None) -> None:
        await send(deployment, number)  # or the result would be a kept one
        options = {"numItems": 2, "cursor": cursor}
        try:
            await deployment.query("messages:even", {"channel": "a", "paginationOpts": options})
        except ReactorError:
            assert cursor == "none"

    for cursor in (None, "none"):
        await ask(0, cursor)
        with kept_garbage() as garbage:
            for number in range(3):
                await ask(number, cursor)
            assert not garbage()


async def test_a_cursor_leads_out_of_no_stream(deployment: MemoryDeployment) -> None:
    """It comes from a client: one of another channel shows nothing of that channel."""
    await send(deployment, 0, 2, channel="a")
    await send(deployment, 0, 2, channel="b")
    for channel, other in (("a", "b"), ("b", "a")):
        options = {"numItems": 1, "cursor": None}
        foreign = await deployment.query("messages:even", {"channel": other, "paginationOpts": options})
        assert isinstance(foreign, dict)
        options = {"numItems": 9, "cursor": foreign["continueCursor"]}
        found = await deployment.query("messages:even", {"channel": channel, "paginationOpts": options})
        assert isinstance(found, dict)
        assert found["page"] == ([0, 2] if channel == "b" else [])
        ended = {"numItems": 9, "cursor": None, "endCursor": foreign["continueCursor"]}
        found = await deployment.query("messages:even", {"channel": channel, "paginationOpts": ended})
        assert isinstance(found, dict)
        assert found["page"] == ([0, 2] if channel == "a" else [])


@pytest.mark.parametrize(
    "cursor",
    [
        *["", "x", "7", "{}", "[7]", '["a","b","c","d","e"]', "[" * 5000, '[{"$bytes":"?"}]', '[{"$bytes":7}]'],
        *['["a",{"$float":"zz"}]', '[{"$float":"00"}]', '[{"$integer":"x"}]', '[{"$integer":5,"a":1}]', '[{"$x":1}]'],
        '["a",{"$integer":"9223372036854775808"}]',
    ],
)
async def test_any_other_text_is_an_invalid_cursor(deployment: MemoryDeployment, cursor: str) -> None:
    for name in ("cursor", "endCursor"):
        options = {"numItems": 1, "cursor": None} | {name: cursor}
        with pytest.raises(ReactorError) as refused:
            await deployment.query("messages:even", {"channel": "a", "paginationOpts": options})
        assert isinstance(refused.value.data, dict)
        assert refused.value.data["paginationError"] == "InvalidCursor"
        assert refused.value.data["isConvexSystemError"] is True


def by_channel(ctx: Any, channel: str = "a") -> Any:
    return stream(ctx.db).query("messages").with_index("by_channel", channel=channel)


MISTAKES: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "no such index": (lambda ctx: stream(ctx.db).query("messages").with_index("by_chanel"), Error, "by_channel"),
    "no such table": (lambda ctx: stream(ctx.db).query("mesages"), Error, "messages"),
    "out of order": (
        lambda ctx: stream(ctx.db).query("messages").with_index("by_channel", n=1),
        ValueError,
        r"index 'by_channel' is over channel, n, _creationTime, _id: .* not eq n$",
    ),
    "two bounds": (
        lambda ctx: (
            stream(ctx.db).query("messages").with_index("by_channel", lambda q: q.gt("channel", "a").lt("n", 1))
        ),
        ValueError,
        "not gt channel, lt n",
    ),
    "equal twice": (
        lambda ctx: (
            stream(ctx.db).query("messages").with_index("by_channel", lambda q: q.eq("channel", "a").eq("channel", "b"))
        ),
        ValueError,
        "in order",
    ),
    "index twice": (lambda ctx: by_channel(ctx).with_index("by_author"), ValueError, "only one with_index"),
    "order": (lambda ctx: by_channel(ctx).order("up"), ValueError, "not 'up'"),
    "distinct": (
        lambda ctx: by_channel(ctx).distinct(["_creationTime"]),
        ValueError,
        r"ordered by these first, not by n, _creationTime, _id",
    ),
    "merged": (
        lambda ctx: merged([by_channel(ctx), by_channel(ctx, "b").order("desc")], ["n"]),
        ValueError,
        r"n, _creationTime, _id \(asc\) and by n, _creationTime, _id \(desc\)",
    ),
    "merged by another": (
        lambda ctx: merged([by_channel(ctx)], ["_creationTime"]),
        ValueError,
        "of which equality fixes channel$",
    ),
    "merged nothing": (lambda ctx: merged([], ["n"]), ValueError, "needs a stream"),
    "unique": (lambda ctx: by_channel(ctx).unique(), ValueError, "more than one"),
    "joined otherwise": (
        lambda ctx: by_channel(ctx).flat_map(lambda m: by_channel(ctx).order("desc"), ["channel", "n"]).collect(),
        ValueError,
        "ascending, and got one ordered by channel, n, _creationTime, _id, descending",
    ),
    "joined to no stream": (
        lambda ctx: by_channel(ctx).flat_map(lambda m: [m], ["n"]).collect(),
        TypeError,
        "returns a stream, not list",
    ),
    "size": (lambda ctx: by_channel(ctx).paginate(num_items=0), ValueError, "numItems is a whole number above 0"),
    **{
        f"size {size}": (
            lambda ctx, size=size: by_channel(ctx).paginate({"numItems": size, "cursor": None}),
            ValueError,
            f"numItems is a whole number above 0, not {size}",
        )
        for size in (math.nan, math.inf, -math.inf, 0.5)
    },
    "cursor": (lambda ctx: by_channel(ctx).paginate({"numItems": 1, "cursor": 7}), ValueError, "not int"),
    "options twice": (lambda ctx: by_channel(ctx).paginate({}, num_items=1), ValueError, "not both"),
    "key": (
        lambda ctx: get_page(ctx.db, "messages", index="by_author", start_key=[1, 2, 3, 4]),
        ValueError,
        "one to 3 values, of author, _creationTime, _id; this has 4",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_says_what_and_where(deployment: MemoryDeployment, mistake: str) -> None:
    await send(deployment, 0, 1)
    make, kind, text = MISTAKES[mistake]

    async def run(ctx: Any) -> None:
        made = make(ctx)
        if not isinstance(made, Stream):
            await made

    with pytest.raises(kind, match=text):
        await deployment.query(run)


async def test_an_async_predicate_may_read(deployment: MemoryDeployment) -> None:
    await send(deployment, 0, 1, 2)
    await send(deployment, 1, channel="b")

    async def is_in_b(ctx: Any, n: int) -> bool:
        return bool(await by_channel(ctx, "b").filter_with(lambda other: other["n"] == n).first())

    async def shared(ctx: Any) -> list[int]:
        found = by_channel(ctx).filter_with(lambda message: is_in_b(ctx, message["n"]))
        return [message["n"] async for message in found]

    assert await deployment.query(shared) == [1]
    unique = await deployment.query(lambda ctx: by_channel(ctx, "b").map(lambda message: message["n"]).unique())
    assert unique == 1


COMPONENT = {
    "functions/app.py": "from reactor import define_app\nimport box\napp = define_app()\napp.use(box)\n",
    "functions/main.py": """
from reactor import components, mutation

@mutation
async def fill_and_read(ctx):
    for n in range(5):
        await ctx.run_mutation(components.box.items.add, n=n)
    return await ctx.run_mutation(components.box.items.pages)
""",
    "box/__init__.py": "from reactor import define_component\ncomponent = define_component(__name__)\n",
    "box/schema.py": """
from reactor import define_schema, define_table, v
schema = define_schema({"items": define_table({"n": v.integer()}).index("by_n", ["n"])})
""",
    "box/functions/items.py": """
from reactor import mutation
from reactor.helpers.streams import stream

@mutation
async def add(ctx, n: int):
    await ctx.db.insert("items", {"n": n})

@mutation
async def pages(ctx) -> list[list[int]]:
    found, cursor, is_done = [], None, False
    while not is_done:
        page = await stream(ctx.db).query("items").with_index("by_n").order("desc").paginate(num_items=2, cursor=cursor)
        found.append([item["n"] for item in page["page"]])
        cursor, is_done = page["continueCursor"], page["isDone"]
    return found
""",
}


async def test_components_read_pages_of_streams(tmp_path: Path) -> None:
    async with opened(tmp_path, COMPONENT) as deployment:
        assert await deployment.mutation("main:fill_and_read") == [[4, 3], [2, 1], [0]]
