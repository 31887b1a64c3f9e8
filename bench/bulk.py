"""A project with one large table, and its data directory filled without a mutation for each document."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random

from reactor.limits import Limits
from reactor.runtime.host import Host
from reactor.runtime.loader import ProjectLoader
from reactor.server.system import SystemAlarms, SystemClock, SystemRng
from reactor.storage.checksum import document_checksum
from reactor.storage.sqlite import DATABASE_NAME, SqlitePersistence
from reactor.values.ids import IdGenerator
from reactor.values.stored import encode_stored, normalise

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "large": define_table({"name": v.string(), "group": v.string(), "body": v.string()})
        .index("by_name", ["name"])
        .index("by_group", ["group"]),
    "small": define_table({"name": v.string()}),
})
"""
FUNCTIONS = """
from reactor import mutation, query

@query
async def small(ctx):
    return len(await ctx.db.query("small").collect())

@query
async def large(ctx, name: str):
    return (await ctx.db.query("large").with_index("by_name", name=name).unique())["group"]

@mutation
async def add_small(ctx):
    await ctx.db.insert("small", {"name": "one"})
"""
DOCUMENT_BYTES = 500
CREATED = 1_750_000_000_000.0


def write_project(root: Path) -> Path:
    """Write the project's files; return its folder."""
    (root / "functions").mkdir(parents=True)
    (root / "schema.py").write_text(SCHEMA, encoding="utf-8")
    (root / "functions" / "bulk.py").write_text(FUNCTIONS, encoding="utf-8")
    return root


def documents(table: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield ids and stored forms of `DOCUMENT_BYTES` bytes each."""
    ids = IdGenerator(SystemRng(), SystemClock())
    random = Random(7)
    text = "".join(random.choices("abcdefghijklmnopqrstuvwxyz ", k=DOCUMENT_BYTES))
    length = DOCUMENT_BYTES
    for number in range(count):
        document_id = ids.next(table)
        document = {
            "_id": document_id,
            "_creationTime": CREATED + number,
            "name": f"user-{number:09}",
            "group": f"group-{random.randrange(1000):04}",
            "body": text[:length],
        }
        data = encode_stored(normalise(document).value)
        if len(data) != DOCUMENT_BYTES:  # the first one: now the length of the rest is known
            length -= len(data) - DOCUMENT_BYTES
            document["body"] = text[:length]
            data = encode_stored(normalise(document).value)
        yield document_id, b"%b" % data


async def fill(project: Path, data: Path, count: int) -> int:
    """Deploy the project on a new data directory and put `count` documents into its large table, straight into storage.

    Returns the number of the large table.
    """
    host = await Host.open(
        SqlitePersistence(data), clock=SystemClock(), alarms=SystemAlarms(), rng=SystemRng(), limits=Limits()
    )
    await host.push(ProjectLoader(project).load())
    table = host.database.table("large")
    small = host.database.table("small")
    assert table is not None
    assert small is not None
    await host.close()
    connection = sqlite3.connect(data / DATABASE_NAME, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    for number, rows in ((table.number, count), (small.number, 100)):
        made = sorted(documents(number, rows))
        if number == small.number:
            made = [
                (id_, encode_stored(normalise({"_id": id_, "_creationTime": CREATED, "name": "s"}).value))
                for id_, _ in made
            ]
        connection.executemany(
            "INSERT INTO documents (table_id, id, ts, value, checksum) VALUES (?, ?, 1, ?, ?)",
            (
                (number, document_id, value, document_checksum(number, document_id, 1, value))
                for document_id, value in made
            ),
        )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return table.number
