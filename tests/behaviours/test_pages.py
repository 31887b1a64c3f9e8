"""Pages: where they end, what limits them, and what happens to them between two."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from reactor.errors import Error
from reactor.testing.deployment import MemoryDeployment

LETTERS = "abcdefgh"


@pytest_asyncio.fixture
async def letters(deployment: MemoryDeployment) -> AsyncIterator[MemoryDeployment]:
    for letter in LETTERS:
        await deployment.mutation("messages:add", body=letter)
    await deployment.mutation("messages:add", body="z", author="bob")
    yield deployment


async def page(deployment: MemoryDeployment, cursor: str | None, number: int = 3, **options: Any) -> Any:
    opts = {"cursor": cursor, "numItems": number, **options}
    return await deployment.query("messages:page", {"opts": opts})


def bodies(page: Any) -> str:
    return "".join(message["body"] for message in page["page"])


async def test_pages_follow_a_compound_index_to_its_end(letters: MemoryDeployment) -> None:
    first = await page(letters, None)
    second = await page(letters, first["continueCursor"])
    third = await page(letters, second["continueCursor"])
    assert [bodies(found) for found in (first, second, third)] == ["abc", "def", "gh"]
    assert [found["isDone"] for found in (first, second, third)] == [False, False, True]


async def test_an_end_cursor_fixes_where_a_page_ends(letters: MemoryDeployment) -> None:
    first = await page(letters, None)
    second = await page(letters, first["continueCursor"])
    await letters.mutation("messages:add", body="bb")
    both = await page(letters, None, 1, endCursor=second["continueCursor"])
    assert bodies(both) == "abbbcdef", "the size counts no more"
    assert both["continueCursor"] == second["continueCursor"]


async def test_a_page_reads_so_many_rows_at_most(letters: MemoryDeployment) -> None:
    found = await page(letters, None, 8, maximumRowsRead=2)
    assert (bodies(found), found["isDone"]) == ("ab", False)
    assert bodies(await page(letters, found["continueCursor"], 8)) == "cdefgh"


async def test_a_page_reads_so_many_bytes_at_most(letters: MemoryDeployment) -> None:
    found = await page(letters, None, 8, maximumBytesRead=1)
    assert (bodies(found), found["isDone"]) == ("a", False), "one document, so that there is progress"


async def test_what_is_deleted_between_two_pages_moves_nothing(letters: MemoryDeployment) -> None:
    first = await page(letters, None)
    for message in first["page"][1:]:
        await letters.run(lambda ctx, id=message["_id"]: ctx.db.delete(id))  # type: ignore[misc]
    assert bodies(await page(letters, first["continueCursor"])) == "def"
    assert bodies(await page(letters, None, 2)) == "ad"


async def test_fields_that_are_missing_come_first(deployment: MemoryDeployment) -> None:
    for document in ({"value": 2}, {}, {"value": 1}, {}):
        await deployment.run(lambda ctx, document=document: ctx.db.insert("things", document))  # type: ignore[misc]
    seen: list[Any] = []
    cursor = None
    for _ in range(4):
        found: Any = await deployment.query(
            lambda ctx, cursor=cursor: (  # type: ignore[misc]
                ctx.db.query("things").with_index("by_value").paginate(num_items=1, cursor=cursor)
            )
        )
        seen += [thing.get("value", "missing") for thing in found["page"]]
        cursor = found["continueCursor"]
    assert seen == ["missing", "missing", 1, 2]


async def test_one_function_reads_one_page(letters: MemoryDeployment) -> None:
    with pytest.raises(Error, match="ran multiple paginated queries"):
        await letters.query("messages:two_pages")
    assert await letters.query("messages:a_page_each") == ["a", "a", "a"], "each called function has its own"
