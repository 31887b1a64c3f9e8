"""Live queries whose snapshot outlives the history that is kept: sockets recover by themselves."""

from pathlib import Path

import pytest

from reactor.engine.retention import Retention
from reactor.errors import SnapshotTooOld
from reactor.limits import Limits
from reactor.server.app import Deployment
from tests.server.fakes import add
from tests.server.projects import raw_client, served

pytestmark = pytest.mark.asyncio

ROWS, HOT_BYTES = 2_000, 20_000
APP = """
from reactor import mutation, query


@mutation
async def fill(ctx, rows: float):
    for number in range(int(rows)):
        await ctx.db.insert("rows", {"number": number})
    await ctx.db.insert("hot", {"number": 0, "filler": ""})


@mutation
async def turn(ctx, number: float, size: float):
    hot = await ctx.db.query("hot").first()
    await ctx.db.patch(hot["_id"], {"number": number, "filler": "x" * int(size)})


@query
async def numbers(ctx) -> list[float]:
    first = (await ctx.db.query("hot").first())["number"]
    rows = 0
    async for _ in ctx.db.query("rows"):
        rows += 1
    return [first, rows, (await ctx.db.query("hot").first())["number"]]
"""


async def test_a_live_query_whose_snapshot_is_gone_runs_at_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conformance #24. It reads for a hundred slices, and between any two of them history moves on."""
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "app.py").write_text(APP)
    (tmp_path / "schema.py").write_text(
        "from reactor import define_schema, define_table, v\n"
        'schema = define_schema({"rows": define_table({"number": v.number()}),\n'
        '    "hot": define_table({"number": v.number(), "filler": v.string()})})\n'
    )
    refused: list[int] = []
    check = Retention.check

    def counted(self: Retention, ts: int) -> None:
        try:
            check(self, ts)
        except SnapshotTooOld:
            refused.append(ts)
            raise

    monkeypatch.setattr(Retention, "check", counted)
    limits = Limits(slice_ms=0.1, scan_check_entries=1, history_bytes=1 << 16)
    deployment = Deployment(tmp_path, data=":memory:", limits=limits)

    async def body(url: str) -> None:
        await deployment.mutation("app:fill", rows=ROWS)
        async with raw_client(url) as client:
            await client.connect()
            await client.modify(add(0, "app:numbers"))
            number = 0
            while not refused and number < 1_000:
                number += 1
                await deployment.mutation("app:turn", number=number, size=HOT_BYTES)
            assert refused
            while client.values.get(0) != [number, ROWS, number]:
                await client.receive()
                assert client.errors == {}, "what was refused is no result"
                for first, rows, last in client.values.values():
                    assert (first, rows) == (last, ROWS), "each result is of one state"

    await served(deployment, body)
