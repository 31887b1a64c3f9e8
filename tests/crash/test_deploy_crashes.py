"""The server dies at each step of a deploy: after its restart the old version runs, or the new one, whole."""

import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from reactor.client import BlockingClient
from reactor.storage.failpoints import DEPLOY_NAMES
from tests.servers import Server, admin_key, deploy, running, start_empty
from tests.sizes import size

PLACES = size(("deploy: archive stored", "deploy: after the switch", "deploy: durable"), DEPLOY_NAMES)
ROUNDS = size(1, 10)
DYING = [sys.executable, "-m", "tests.crash.serve_dying"]

HEAD = "from reactor import define_schema, define_table, mutation, query, v\n"
OLD_SCHEMA = HEAD + 'schema = define_schema({"notes": define_table({"text": v.string()})})\n'
NEW_SCHEMA = HEAD + (
    'schema = define_schema({"notes": define_table({"text": v.string()}).index("by_text", ["text"]),'
    '"more": define_table({"n": v.number()})})\n'
)
NOTES = """
@mutation
async def add(ctx, text: str) -> None:
    await ctx.db.insert("notes", {"text": text})

@query
async def all(ctx) -> list[str]:
    return sorted([note["text"] for note in await ctx.db.query("notes").collect()])
"""
OLD = """
@query
async def it(ctx) -> list[str]:
    return ["old"]
"""
NEW = """
@query
async def it(ctx) -> list[str]:
    more = await ctx.db.query("more").collect()
    return ["new", *[note["text"] for note in await ctx.db.query("notes").with_index("by_text").collect()], *more]
"""


def version(schema: str, says: str, number: int) -> dict[str, str]:
    return {
        "schema.py": schema,
        "functions/notes.py": HEAD + NOTES,
        "functions/says.py": f"{HEAD}{says}\nNUMBER = {number}\n",
    }


def listing(server: Server) -> Any:
    headers = {"Authorization": f"Convex {admin_key()}"}
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/api/deploys", headers=headers)) as answer:
        return json.loads(answer.read())


@pytest.mark.timeout(size(60, 600))
@pytest.mark.parametrize("place", PLACES)
def test_a_deploy_is_whole_or_not_at_all(place: str, tmp_path: Path) -> None:
    order = tmp_path / "order"
    folder = tmp_path / "server"
    texts: list[str] = []
    for number in range(ROUNDS):
        order.unlink(missing_ok=True)
        server = start_empty(folder, env={"REACTOR_DIE_BY": str(order)}, program=DYING)
        with running(server):
            last = deploy(server.url, version(OLD_SCHEMA, OLD, number))
            assert last["kind"] == "done", last
            texts.append(f"text{number}")
            with BlockingClient(server.url) as client:
                client.mutation("notes:add", {"text": texts[-1]})
            before = listing(server)["running"]
            order.write_text(f"{place}\n1\n")
            with pytest.raises((OSError, http.client.HTTPException, urllib.error.URLError, IndexError)):
                deploy(server.url, version(NEW_SCHEMA, NEW, number))
            server.finish()

        again = start_empty(folder)
        with running(again):
            with BlockingClient(again.url) as client:
                said = client.query("says:it")
                assert client.query("notes:all") == sorted(texts)
                client.mutation("notes:add", {"text": "after"})
                texts.append("after")
            kept = listing(again)
            is_new = kept["running"] == before + 1
            assert kept["running"] in (before, before + 1)
            assert said == (["new", *sorted(texts[:-1])] if is_new else ["old"])
            if place in ("deploy: durable", "deploy: done"):
                assert is_new
            elif place != "deploy: after the switch":
                assert not is_new
            archives = {path.stem for path in (folder / "data" / "deploys").iterdir() if path.name != "unpacked"}
            assert archives == {one["archive"] for one in kept["deploys"]}
            assert len(list((folder / "data" / "deploys" / "unpacked").iterdir())) == 1
            assert deploy(again.url, version(NEW_SCHEMA, NEW, number))["kind"] == "done"
