"""Concurrent clients on a real server, and the history they saw.

One process and one loop hold the server and its clients, so that the engine's counters can be asked; between them are
real sockets. Transactions stop in the middle (`asyncio.gather` over nothing), so that others run in between.
"""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from reactor import Deployment
from reactor.client import Client
from reactor.limits import Limits
from tests.serializability.history import Append, ListTransaction, Look, Transaction

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "lists": define_table({"name": v.string(), "values": v.array(v.number())}).index("by_name", ["name"]),
    "elements": define_table({"list": v.string(), "position": v.number(), "value": v.number()})
        .index("by_list", ["list", "position"]),
    "accounts": define_table({"name": v.string(), "balance": v.number(), "version": v.number()})
        .index("by_name", ["name"]),
})
"""

FUNCTIONS = '''
import asyncio
from reactor import mutation, query, v


async def nothing():
    """Waiting for this lets others run."""


async def find(ctx, name):
    return await ctx.db.query("lists").with_index("by_name", name=name).first()


async def values_of(ctx, name):
    """A list is one document, or, where its name begins with "rows", a document for each element."""
    if name.startswith("rows"):
        rows = await ctx.db.query("elements").with_index("by_list", list=name).collect()
        return [row["value"] for row in rows]
    found = await find(ctx, name)
    return [] if found is None else found["values"]


async def append(ctx, name, value):
    values = await values_of(ctx, name)
    await asyncio.gather(nothing())
    if name.startswith("rows"):
        await ctx.db.insert("elements", {"list": name, "position": len(values), "value": value})
        return
    found = await find(ctx, name)
    if found is None:
        await ctx.db.insert("lists", {"name": name, "values": [value]})
    else:
        await ctx.db.patch(found["_id"], {"values": [*values, value]})


@mutation(args={"operations": v.any()})
async def transact(ctx, operations):
    """Do [name, value or null] in order; a null looks. Return what the looks saw."""
    seen = []
    for name, value in operations:
        if value is None:
            seen.append(await values_of(ctx, name))
        else:
            await append(ctx, name, value)
        await asyncio.gather(nothing())
    return seen


@query(args={"names": v.any()})
async def look(ctx, names):
    return [await values_of(ctx, name) for name in names]


@mutation(args={"count": v.integer()})
async def open_accounts(ctx, count):
    for number in range(count):
        await ctx.db.insert("accounts", {"name": f"{number}", "balance": 100, "version": 0})


@mutation(args={"source": v.string(), "target": v.string(), "amount": v.number()})
async def transfer(ctx, source, target, amount):
    """Return the versions read, and whether money moved."""
    first = await ctx.db.query("accounts").with_index("by_name", name=source).unique()
    await asyncio.gather(nothing(), nothing())
    second = await ctx.db.query("accounts").with_index("by_name", name=target).unique()
    moves = first["balance"] >= amount
    if moves:
        await ctx.db.patch(first["_id"], {"balance": first["balance"] - amount, "version": first["version"] + 1})
        await asyncio.gather(nothing())
        await ctx.db.patch(second["_id"], {"balance": second["balance"] + amount, "version": second["version"] + 1})
    return [first["version"], second["version"], moves]


@mutation(args={"stops": v.boolean()})
async def increment(ctx, stops):
    counter = await ctx.db.query("accounts").first()
    if stops:
        await asyncio.gather(nothing(), nothing())
    await ctx.db.patch(counter["_id"], {"version": counter["version"] + 1})


@query
async def balances(ctx):
    return [[one["name"], one["balance"], one["version"]] async for one in ctx.db.query("accounts")]
'''


@dataclass
class Counts:
    """What the engine had to do."""

    transactions: int
    conflicts: int
    exclusive: int
    seconds: float


@contextlib.asynccontextmanager
async def served(folder: Path, *, limits: Limits | None = None) -> AsyncIterator[tuple[Deployment, str]]:
    """A deployment of the workload's project on a free port, its data in a real file."""
    (folder / "functions").mkdir(parents=True)
    (folder / "schema.py").write_text(SCHEMA)
    (folder / "functions" / "work.py").write_text(FUNCTIONS)
    async with Deployment(folder, data=folder / "data", limits=limits) as deployment:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            config = uvicorn.Config(
                deployment.asgi(), loop="none", ws="websockets-sansio", lifespan="off", log_config=None
            )
            server = uvicorn.Server(config)
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            try:
                yield deployment, f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                await serving


LISTS = ["a", "b", "c", "rows a", "rows b"]


async def append_to_lists(
    folder: Path, seed: int, clients: int, each: int, limits: Limits | None = None
) -> tuple[list[ListTransaction], Counts]:
    """Let `clients` do `each` random transactions of appends and looks, then look at everything."""
    history: list[ListTransaction] = []

    async def work(url: str, number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        async with Client(url) as client:
            for turn in range(each):
                name = f"{number}.{turn}"
                begin = time.monotonic()
                if chance.random() < 0.2:
                    names = chance.sample(LISTS, 3)
                    seen = await client.query("work:look", {"names": names})
                    operations: list[Append | Look] = list(map(_look, names, seen))
                else:
                    steps = [
                        (chance.choice(LISTS), float(number * 1_000_000 + turn * 10 + at) if append else None)
                        for at, append in enumerate(chance.choices([True, False], k=chance.randrange(2, 5)))
                    ]
                    seen = iter(await client.mutation("work:transact", {"operations": [list(step) for step in steps]}))
                    operations = [
                        _look(one, next(seen)) if value is None else Append(one, int(value)) for one, value in steps
                    ]
                history.append(ListTransaction(name, begin, time.monotonic(), tuple(operations)))

    async with served(folder, limits=limits) as (deployment, url):
        started = time.monotonic()
        await asyncio.gather(*[work(url, number) for number in range(clients)])
        seconds = time.monotonic() - started
        begin = time.monotonic()
        last = await deployment.query("work:look", {"names": LISTS})
        history.append(ListTransaction("last", begin, time.monotonic(), tuple(map(_look, LISTS, last))))
        return history, counted(deployment, len(history), seconds)


def _look(name: str, values: list[float]) -> Look:
    return Look(name, tuple(map(int, values)))


async def move_money(
    folder: Path, seed: int, clients: int, each: int, accounts: int, limits: Limits | None = None
) -> tuple[list[Transaction], list[float], Counts]:
    """Let `clients` make `each` transfers between few accounts; return also every total anybody saw."""
    history: list[Transaction] = []
    totals: list[float] = []

    async def work(url: str, number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        async with Client(url) as client:
            for turn in range(each):
                name = f"{number}.{turn}"
                begin = time.monotonic()
                if chance.random() < 0.1:
                    seen = await client.query("work:balances")
                    totals.append(sum(balance for _, balance, _ in seen))
                    reads = {one: int(version) for one, _, version in seen}
                    history.append(Transaction(name, begin, time.monotonic(), reads))
                    continue
                source, target = map(str, chance.sample(range(accounts), 2))
                args = {"source": source, "target": target, "amount": chance.randrange(1, 60)}
                first, second, moved = await client.mutation("work:transfer", args)
                versions: dict[str, Any] = {source: int(first), target: int(second)}
                writes = {one: [version + 1] for one, version in versions.items()} if moved else {}
                history.append(Transaction(name, begin, time.monotonic(), versions, writes))

    async with served(folder, limits=limits) as (deployment, url):
        await deployment.mutation("work:open_accounts", {"count": accounts})
        started = time.monotonic()
        await asyncio.gather(*[work(url, number) for number in range(clients)])
        seconds = time.monotonic() - started
        begin = time.monotonic()
        last = await deployment.query("work:balances")
        totals.append(sum(balance for _, balance, _ in last))
        reads = {one: int(version) for one, _, version in last}
        history.append(Transaction("last", begin, time.monotonic(), reads))
        return history, totals, counted(deployment, len(history), seconds)


async def count_up(
    folder: Path, clients: int, each: int, limits: Limits | None = None
) -> tuple[float, list[float], Counts]:
    """Let `clients` add one to the same document `each` times, every second time stopping between read and write.

    Returns what it holds at the end, and how many seconds each call took, shortest first.
    """
    took: list[float] = []

    async def work(url: str) -> None:
        async with Client(url) as client:
            for turn in range(each):
                begin = time.monotonic()
                await client.mutation("work:increment", {"stops": turn % 2 == 0})
                took.append(time.monotonic() - begin)

    async with served(folder, limits=limits) as (deployment, url):
        await deployment.mutation("work:open_accounts", {"count": 1})
        started = time.monotonic()
        await asyncio.gather(*[work(url) for _ in range(clients)])
        seconds = time.monotonic() - started
        ((_, _, version),) = await deployment.query("work:balances")
        return version, sorted(took), counted(deployment, clients * each, seconds)


def counted(deployment: Deployment, transactions: int, seconds: float) -> Counts:
    """Ask the engine what it had to do."""
    host = deployment._host
    assert host is not None
    stats = host.executor.stats
    return Counts(transactions, stats.conflicts, stats.exclusive, seconds)
