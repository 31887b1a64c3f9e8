"""Row rules at work: what each caller sees and may do; that nothing shows what is hidden; that reads stay narrow."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.engine import transaction
from reactor.errors import AccessDenied, DocumentNotFound, InvalidCursor, NotUnique, ReactorError
from reactor.limits import Limits
from reactor.runtime import usage
from reactor.runtime.calls import Call, Outcome
from reactor.runtime.executor import QueryRun
from reactor.runtime.runs import QueryAttempt
from tests.runtime.hosts import Bench, failure, open_bench, refusal, success, user, value_of, wire

pytestmark = pytest.mark.asyncio

SCHEMA = """
from counting import loads
from reactor import ReactorError, define_rules, define_schema, define_table, v

async def load_user(ctx):
    identity = await ctx.auth.get_user_identity()
    loads.append(1)
    if identity is None:
        return None
    return await ctx.db.query("users").with_index("by_name", name=identity["name"]).unique()

schema = define_schema({
    "users": define_table({"name": v.string(), "admin": v.optional(v.boolean())}).index("by_name", ["name"]),
    "notes": define_table({"owner": v.string(), "text": v.string(), "n": v.integer()})
        .index("by_owner", ["owner"]).index("by_n", ["n"]).index("by_text_n", ["text", "n"])
        .index("by_text_owner_n", ["text", "owner", "n"]),
    "members": define_table({"room": v.string(), "user": v.string()}).index("by_user_room", ["user", "room"]),
    "messages": define_table({"room": v.string(), "text": v.string(), "n": v.integer()})
        .index("by_room", ["room"]).index("by_n", ["n"]),
    "locked": define_table({"x": v.any()}),
    "open": define_table({"x": v.any()}),
    "odd": define_table({"kind": v.string()}),
    "browsed": define_table({"room": v.string()}),
})

def own(ctx, doc):
    return doc["owner"] == ctx.user["name"]

def is_member(ctx, doc):
    if ctx.user is None:
        return False
    room = doc["room"]
    return ctx.db.query("members").with_index("by_user_room", user=ctx.user["name"], room=room).first() is not None

async def may_post(ctx, doc):
    if ctx.user is None:
        return False
    members = ctx.db.query("members").with_index("by_user_room", user=ctx.user["name"], room=doc["room"])
    return await members.first() is not None

async def forgets(ctx, doc):
    ctx.db.get(doc["_id"])
    return True

def judge(ctx, doc):
    kind = doc["kind"]
    print("judging", kind)
    if kind == "raises":
        return {}[kind]
    if kind == "says":
        raise ReactorError({"code": "LOGIN"})
    if kind == "chain":
        return ctx.db.query("open")
    if kind == "calls":
        return ctx.run_query("app:nothing")
    if kind == "generator":
        return (number for number in [1])
    if kind == "forgets":
        return forgets(ctx, doc)
    return kind == "shown"

def browses(ctx, doc):
    for member in ctx.db.query("members"):
        if member["room"] == doc["room"]:
            return True
    return False

rules = define_rules({
    "notes": {
        "read": lambda ctx, doc: ctx.user is not None and doc["owner"] == ctx.user["name"],
        "insert": own,
        "update": lambda ctx, old, new: own(ctx, old) and old["n"] <= new["n"] and type(new["n"]) is int,
        "delete": lambda ctx, doc: own(ctx, doc) and doc["n"] > 0,
    },
    "messages": {"read": is_member, "insert": may_post, "delete": lambda ctx, doc: may_post(ctx, doc)},
    "locked": {},
    "odd": {"read": judge},
    "browsed": {"read": browses},
}, user=load_user)
"""

APP = """
from reactor import api, internal_query, mutation, query
from counting import loads

def chain(ctx, table, steps):
    found = ctx.db.query(table)
    for name, *args in steps:
        if name == "index":
            found = found.with_index(args[0], **args[1])
        elif name == "order":
            found = found.order(args[0])
        elif name == "filter":
            found = found.filter(lambda q: q.field(args[0]) != args[1])
        elif name == "where":
            found = found.where(lambda doc: print("where", doc["text"]) or True)
    return found

@query
async def read(ctx, table, how, steps=[], n=2, opts=None):
    found = chain(ctx, table, steps)
    if how == "each":
        return [doc async for doc in found]
    if how == "take":
        return await found.take(n)
    if how == "paginate":
        return await found.paginate(opts)
    return await getattr(found, how)()

@query
def read_blocking(ctx, table, how, steps=[], n=2, opts=None):
    found = chain(ctx, table, steps)
    if how == "each":
        return [doc for doc in found]
    if how == "take":
        return found.take(n)
    if how == "paginate":
        return found.paginate(opts)
    return getattr(found, how)()

@query
async def get(ctx, id):
    return await ctx.db.get(id)

@query
def get_blocking(ctx, table, id):
    return ctx.db.get(table, id)

@query
async def normal(ctx, table, id):
    return ctx.db.normalize_id(table, id)

@query
async def nested(ctx, path, args):
    return await ctx.run_query(path, args)

@query
async def past(ctx, table):
    return [len(await ctx.db.unsafe.query(table).collect()), len(await ctx.db.query(table).collect())]

@query
def past_page(ctx, table, opts):
    return len(ctx.db.unsafe.query(table).paginate(opts)["page"])

@query
def past_first(ctx):
    for note in ctx.db.unsafe.query("notes"):
        return note["text"]

@query
async def loaded(ctx, id):
    before = len(loads)
    await ctx.db.query("messages").collect()
    await ctx.run_query(api.app.read, table="notes", how="collect")
    await ctx.run_query(api.app.get, id=id)
    await ctx.db.get(id)
    return len(loads) - before

@query
async def nothing(ctx):
    before = len(loads)
    await ctx.db.query("open").collect()
    return len(loads) - before

@mutation
async def write(ctx, call, args, then=None):
    result = await getattr(ctx.db, call)(*args)
    if then is not None:
        return await ctx.db.get(then)
    return result

@mutation
def write_blocking(ctx, call, args):
    return getattr(ctx.db, call)(*args)

@mutation
async def slow_copy(ctx, table):
    found = await ctx.db.query(table).collect()
    await ctx.run_query(api.app.nothing)
    await ctx.db.insert("open", {"x": len(found)})
"""
FILES = {"schema.py": SCHEMA, "functions/app.py": APP, "counting.py": "loads = []"}
ALICE, BOB, EVE = user("alice"), user("bob"), user("eve")


def fill(ctx: Any) -> dict[str, list[str]]:
    """Two users with notes and rooms that interleave, past the rules."""
    db = ctx.db.unsafe
    for name in ("alice", "bob"):
        db.insert("users", {"name": name})
        db.insert("members", {"user": name, "room": f"room of {name}"})
    ids: dict[str, list[str]] = {}
    for n in range(10):
        name = "bob" if n % 3 == 0 else "alice"
        ids.setdefault(f"notes of {name}", []).append(
            db.insert("notes", {"owner": name, "text": f"secret of {name}", "n": n})
        )
        ids.setdefault(f"messages of {name}", []).append(
            db.insert("messages", {"room": f"room of {name}", "text": f"secret of {name}", "n": n})
        )
    return ids


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, FILES) as opened:
        yield opened


@pytest_asyncio.fixture
async def ids(bench: Bench) -> dict[str, list[str]]:
    filled: dict[str, list[str]] = await bench.run(fill)
    return filled


async def ask(bench: Bench, identity: Identity, path: str, **args: object) -> Any:
    return value_of(await bench.submit("query", path, args, identity=identity))


async def tell(bench: Bench, identity: Identity, path: str, **args: object) -> Any:
    return value_of(await bench.submit("mutation", path, args, identity=identity))


# Nothing shows what is hidden: whoever asks gets the same, byte for byte, as if hidden documents were not there.

EVERYTHING = [[], [["order", "desc"]], [["filter", "n", 2]], [["where"]]]
OPTS: list[dict[str, Any]] = [
    {"numItems": 100, "cursor": None},
    {"numItems": 2, "cursor": None},
    {"numItems": 5, "cursor": None, "maximumRowsRead": 1},
    {"numItems": 5, "cursor": None, "maximumRowsRead": 3},
    {"numItems": 5, "cursor": None, "maximumBytesRead": 1},
]
READS: list[dict[str, Any]] = [
    {"table": table, "how": how, "steps": [*index, *steps]}
    for table in ("notes", "messages", "open", "unmade")
    for how in ("collect", "first", "take", "unique", "count", "each")
    for index in ([], [["index", "by_n", {}]], [["index", "by_n", {"n": 3}]])
    if table in ("notes", "messages") or index == []
    for steps in EVERYTHING
] + [
    {"table": table, "how": "paginate", "steps": steps, "opts": opts}
    for table in ("notes", "messages", "open")
    for steps in EVERYTHING
    for opts in OPTS
]


def shown(outcome: Outcome) -> object:
    """Everything of an outcome that reaches a client."""
    if hasattr(outcome, "message"):
        return outcome.message, outcome.data, outcome.log_lines
    return success(outcome).value, success(outcome).log_lines


async def all_that_is_shown(bench: Bench, ids: dict[str, list[str]], identity: Identity) -> dict[str, object]:
    seen: dict[str, object] = {}
    for read in READS:
        for path in ("app:read", "app:read_blocking"):
            seen[f"{path} {read}"] = shown(await bench.submit("query", path, read, identity=identity))
        if read["how"] == "paginate":  # the whole chain of pages
            opts = read["opts"]
            for _ in range(30):
                outcome = await bench.submit("query", "app:read", {**read, "opts": opts}, identity=identity)
                page = value_of(outcome)
                seen[f"page {read} {opts}"] = shown(outcome)
                if page["isDone"]:
                    break
                opts = {**opts, "cursor": page["continueCursor"]}
            assert page["isDone"]
    for table in ("notes", "messages"):
        for id in ids[f"{table} of bob"]:
            for path, args in (
                ("app:get", {"id": id}),
                ("app:get_blocking", {"table": table, "id": id}),
                ("app:normal", {"table": table, "id": id}),
                ("app:nested", {"path": "app:get", "args": {"id": id}}),
            ):
                seen[f"{path} {args}"] = shown(await bench.submit("query", path, args, identity=identity))
            for call, write in (
                ("patch", [id, {"text": "mine"}]),
                ("patch", [id, {"text": 7}]),
                ("patch", [id, {}]),
                ("replace", [id, {"text": "mine"}]),
                ("delete", [id]),
            ):
                for path in ("app:write", "app:write_blocking"):
                    outcome = await bench.submit("mutation", path, {"call": call, "args": write}, identity=identity)
                    seen[f"{path} {call} {write}"] = shown(outcome)
    for how in ("collect", "count", "unique"):
        args = {"path": "app:read", "args": {"table": "notes", "how": how}}
        seen[f"nested {how}"] = shown(await bench.submit("query", "app:nested", args, identity=identity))
    return seen


@pytest.mark.parametrize("identity", [ALICE, EVE, ANONYMOUS], ids=["alice", "eve", "anonymous"])
async def test_every_read_is_as_if_hidden_documents_were_not_there(tmp_path: Path, identity: Identity) -> None:
    """Get, scan, index, count, cursors, page sizes, `unique` texts, nested calls, writes by id, log lines."""
    seen = []
    for are_hidden_there in (True, False):
        async with open_bench(tmp_path, FILES, seed=7) as bench:
            ids = await bench.run(fill)

            def forget(ctx: Any, ids: dict[str, list[str]] = ids) -> None:
                visible = "alice" if identity is ALICE else "nobody"
                for name, own in ids.items():
                    for id in own:
                        if not name.endswith(visible):
                            ctx.db.unsafe.delete(id)

            if not are_hidden_there:
                await bench.run(forget)
            seen.append(await all_that_is_shown(bench, ids, identity))
    there, gone = seen

    assert len(there) > 400
    for question, answer in there.items():
        assert answer == gone[question], question
    told = str(there.values())
    assert "secret of bob" not in told
    assert ("secret of alice" in told) == (identity is ALICE)


async def test_a_long_page_of_hidden_documents_says_nothing_of_them(tmp_path: Path) -> None:
    """Middle, advice and limits of a page are those of what may be seen."""
    async with open_bench(tmp_path, FILES) as bench:

        def many(ctx: Any) -> None:
            db = ctx.db.unsafe
            db.insert("users", {"name": "alice"})
            db.insert("members", {"user": "alice", "room": "a"})
            for n in range(900):
                db.insert("messages", {"room": "a" if n == 450 else "b", "text": "x", "n": n})

        await bench.run(many)
        page = await ask(bench, ALICE, "app:read", table="messages", how="paginate", opts=OPTS[0])

    assert [doc["n"] for doc in page["page"]] == [450]
    assert (page["isDone"], page["splitCursor"], page["pageStatus"]) == (True, None, None)


async def test_hidden_documents_count_toward_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a client gets is then a short page, or an error with the limit in it, and never how much was read."""
    async with open_bench(tmp_path, FILES) as bench:

        def many(ctx: Any) -> None:
            db = ctx.db.unsafe
            db.insert("users", {"name": "alice"})
            db.insert("members", {"user": "alice", "room": "a"})
            for n in range(70):
                db.insert("messages", {"room": "a" if n % 30 == 5 else "b", "text": "x", "n": n})

        await bench.run(many)
        for module in (transaction, usage):
            monkeypatch.setattr(module, "MAX_DOCUMENTS_READ", 40)
        monkeypatch.setattr(usage, "NEAR_DOCUMENTS_READ", 30)
        read = {"table": "messages", "how": "collect"}
        refused = failure(await bench.submit("query", "app:read", read, identity=ALICE))
        seen, opts, statuses = [], OPTS[0], set()
        page: dict[str, Any] = {"isDone": False}
        cursors = [None]
        while not page["isDone"]:
            read = {"table": "messages", "how": "paginate", "opts": opts}
            outcome = success(await bench.submit("query", "app:read", read, identity=ALICE))
            page = value_of(outcome)
            seen += [doc["n"] for doc in page["page"]]
            statuses.add((page["pageStatus"], page["splitCursor"], outcome.log_lines))
            cursors.append(page["continueCursor"])
            opts = {**opts, "cursor": page["continueCursor"]}
        # A page that has to end at a given place can't just be short: it is to be split, where there was no more room.
        opts = {"numItems": 9, "cursor": None, "endCursor": cursors[-1]}
        args = {"table": "messages", "how": "paginate", "opts": opts}
        whole = await ask(bench, ALICE, "app:read", **args)

    assert "Too many documents read in a single function execution (limit: 40)." in refused.message
    assert refused.log_lines == ()
    assert seen == [5, 35, 65]
    assert len(cursors) == 3, "two pages"
    assert statuses == {(None, None, ())}
    assert "Many documents read in a single function execution" in caplog.text
    assert (whole["pageStatus"], whole["continueCursor"]) == ("SplitRequired", cursors[-1])
    assert whole["splitCursor"] == cursors[1]


# Reads.


@pytest.mark.parametrize("table", ["notes", "messages"])
async def test_each_caller_sees_what_the_rule_says(bench: Bench, ids: dict[str, list[str]], table: str) -> None:
    async def numbers(identity: Identity, **args: object) -> list[int]:
        return [doc["n"] for doc in await ask(bench, identity, "app:read", table=table, how="collect", **args)]

    assert await numbers(ALICE) == [1, 2, 4, 5, 7, 8]
    assert await numbers(BOB) == [0, 3, 6, 9]
    assert await numbers(BOB, steps=[["index", "by_n", {}], ["order", "desc"]]) == [9, 6, 3, 0]
    assert await numbers(EVE) == await numbers(ANONYMOUS) == []
    assert await ask(bench, BOB, "app:read", table=table, how="count") == 4
    assert (await ask(bench, BOB, "app:get", id=ids[f"{table} of bob"][1]))["n"] == 3
    assert await ask(bench, BOB, "app:get", id=ids[f"{table} of alice"][1]) is None


async def test_a_table_without_a_read_rule_shows_nothing_and_others_everything(bench: Bench) -> None:
    def insert(ctx: Any) -> list[str]:
        return [ctx.db.unsafe.insert(table, {"x": 1}) for table in ("locked", "open")]

    locked, unlocked = await bench.run(insert)

    assert await ask(bench, ALICE, "app:get", id=locked) is None
    assert await ask(bench, ALICE, "app:read", table="locked", how="collect") == []
    assert await ask(bench, ALICE, "app:read", table="locked", how="count") == 0
    assert (await ask(bench, ANONYMOUS, "app:get", id=unlocked))["x"] == 1
    assert await ask(bench, ANONYMOUS, "app:read", table="open", how="count") == 1
    for call, args in (("patch", [unlocked, {"x": 2}]), ("replace", [unlocked, {"x": 3}]), ("delete", [unlocked])):
        await tell(bench, ANONYMOUS, "app:write", call=call, args=args)
    assert await ask(bench, ANONYMOUS, "app:get", id=unlocked) is None


async def test_unique_names_visible_documents_only(bench: Bench, ids: dict[str, list[str]]) -> None:
    with pytest.raises(NotUnique) as two:
        await ask(bench, BOB, "app:read", table="messages", how="unique")

    first, second = ids["messages of bob"][:2]
    assert f"[{first}, {second}, ...]" in str(two.value)


async def test_predicates_never_meet_a_hidden_document(bench: Bench, ids: dict[str, list[str]]) -> None:
    args = {"table": "messages", "how": "collect", "steps": [["where"]]}
    lines = success(await bench.submit("query", "app:read", args, identity=BOB)).log_lines

    assert lines == ("[LOG] 'where secret of bob'",) * 4


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        ([], 4),
        ([["order", "desc"]], 4),
        ([["index", "by_owner", {"owner": "bob"}]], 4),
        ([["index", "by_owner", {"owner": "alice"}]], 0),
        ([["index", "by_text_n", {"text": "secret of bob"}]], 4),
        ([["index", "by_text_n", {"text": "secret of alice"}]], 0),
    ],
)
async def test_a_rule_of_equalities_reads_only_what_it_shows(
    bench: Bench, ids: dict[str, list[str]], steps: list[Any], count: int
) -> None:
    """The user is one more document."""
    counted = [
        await documents_read(bench, Call("app:read", wire({"table": "notes", "how": how, "steps": steps}), BOB))
        for how in ("collect", "count")
    ]

    assert counted == [count + 1, 1]


async def documents_read(bench: Bench, call: Call) -> int:
    """Return how many documents a run of a query reads."""
    done: asyncio.Future[QueryRun] = asyncio.get_running_loop().create_future()
    attempt = QueryAttempt(bench.host.executor, call, None, done.set_result)
    bench.host.queue.request(attempt.begin)
    value_of((await done).outcome)
    return attempt.transaction.documents_read


async def test_the_cost_does_not_grow_with_what_is_hidden(bench: Bench, ids: dict[str, list[str]]) -> None:
    def more(ctx: Any) -> None:
        for n in range(500):
            ctx.db.unsafe.insert("notes", {"owner": "alice", "text": "x", "n": n})

    await bench.run(more)

    for how, expected in (("collect", 5), ("first", 2), ("count", 1), ("each", 5)):
        assert await documents_read(bench, Call("app:read", wire({"table": "notes", "how": how}), BOB)) == expected
    assert await documents_read(bench, Call("app:read", wire({"table": "notes", "how": "count"}), ANONYMOUS)) == 0


async def test_the_user_is_loaded_once_in_a_transaction_and_only_for_rules(
    bench: Bench, ids: dict[str, list[str]]
) -> None:
    assert await ask(bench, ALICE, "app:loaded", id=ids["notes of alice"][0]) == 1
    assert await ask(bench, ALICE, "app:nothing") == 0


# Writes.


@pytest.mark.parametrize("path", ["app:write", "app:write_blocking"])
async def test_writes_need_a_rule_that_allows_them(bench: Bench, ids: dict[str, list[str]], path: str) -> None:
    async def write(identity: Identity, call: str, *args: object) -> Any:
        return await tell(bench, identity, path, call=call, args=list(args))

    own, other = ids["notes of bob"][1], ids["notes of alice"][0]
    made = await write(BOB, "insert", "notes", {"owner": "bob", "text": "new", "n": 0})
    await write(BOB, "patch", own, {"n": 30})
    await write(BOB, "replace", own, {"owner": "bob", "text": "t", "n": 31})
    await write(BOB, "patch", own, {"n": 31})  # no change, no write
    for operation, call, args in (
        ("insert", "insert", ("notes", {"owner": "alice", "text": "forged", "n": 0})),
        ("update", "patch", (own, {"n": 1})),
        ("update", "replace", (own, {"owner": "bob", "text": "t", "n": 1})),
        ("delete", "delete", (made,)),
    ):
        with pytest.raises(AccessDenied) as denied:
            await write(BOB, call, *args)
        assert (denied.value.table, denied.value.operation) == ("notes", operation)
        assert str(denied.value) == (
            f'The rules of table "notes" do not allow this {operation}: '
            "the rule for it does not hold for this caller and document."
        )
    for call, args, verb in (
        ("patch", (other, {"n": 99}), "Update"),
        ("replace", (other, {"owner": "bob", "text": "t", "n": 99}), "Replace"),
        ("delete", (other,), "Delete"),
    ):
        with pytest.raises(DocumentNotFound, match=f"^{verb} on nonexistent document ID {other}$"):
            await write(BOB, call, *args)
    await write(BOB, "delete", own)

    assert await ask(bench, BOB, "app:get", id=own) is None
    assert (await ask(bench, ALICE, "app:get", id=other))["n"] == 1


async def test_an_operation_without_a_rule_is_denied(bench: Bench, ids: dict[str, list[str]]) -> None:
    id = ids["messages of bob"][0]
    for call, args in (
        ("patch", [id, {"n": 1}]),
        ("insert", ["locked", {"x": 1}]),
    ):
        with pytest.raises(AccessDenied, match="the table has rules, but none for"):
            await tell(bench, BOB, "app:write", call=call, args=args)


async def test_async_rules_are_driven_to_their_end(bench: Bench, ids: dict[str, list[str]]) -> None:
    """Also one that a plain lambda returns."""
    message = {"room": "room of bob", "text": "t", "n": 1}
    id = await tell(bench, BOB, "app:write", call="insert", args=["messages", message])
    with pytest.raises(AccessDenied):
        await tell(bench, ALICE, "app:write", call="insert", args=["messages", message])
    await tell(bench, BOB, "app:write", call="delete", args=[id])

    assert await ask(bench, BOB, "app:get", id=id) is None


async def test_a_document_may_leave_its_writers_sight(bench: Bench, ids: dict[str, list[str]]) -> None:
    id = ids["notes of bob"][1]
    args = {"call": "patch", "args": [id, {"owner": "alice"}], "then": id}
    assert await tell(bench, BOB, "app:write", **args) is None

    assert (await ask(bench, ALICE, "app:get", id=id))["owner"] == "alice"


async def test_own_writes_are_seen_by_rules_and_through_them(bench: Bench, ids: dict[str, list[str]]) -> None:
    def join(ctx: Any) -> list[int]:
        before = ctx.db.query("messages").count()
        ctx.db.insert("members", {"user": "bob", "room": "room of alice"})
        return [before, ctx.db.query("messages").count()]

    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    bench.host.executor.submit_handler(join, Call("run", b"{}", BOB, internal=True), done.set_result)

    assert value_of(await done) == [4, 10]


# Rules that fail.


async def test_a_rule_that_fails_denies_and_only_the_servers_log_says_why(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def insert(ctx: Any) -> list[str]:
        return [ctx.db.unsafe.insert("odd", {"kind": kind}) for kind in kinds]

    kinds = ("raises", "chain", "calls", "shown", "raises", "generator", "forgets")
    ids = await bench.run(insert)
    caplog.set_level(logging.INFO, "reactor")

    outcome = success(await bench.submit("query", "app:read", {"table": "odd", "how": "collect"}))

    assert [doc["kind"] for doc in value_of(outcome)] == ["shown"]
    assert outcome.log_lines == (), "what a rule prints may be about hidden documents"
    assert await ask(bench, ANONYMOUS, "app:get", id=ids[0]) is None
    text = caplog.text
    assert "a row rule logged [LOG] judging raises" in text
    assert text.count("The read rule of table 'odd' failed, which denies: KeyError.") == 1, "once, and where"
    assert "schema.py" in text
    assert "A row rule returned a BlockingQuery" in text
    assert "A row rule can't call other functions" in text
    assert "1 call(s) were made but never awaited: db.get() at" in text


async def test_the_applications_own_error_passes(bench: Bench) -> None:
    await bench.run(lambda ctx: ctx.db.unsafe.insert("odd", {"kind": "says"}))

    with pytest.raises(ReactorError) as login:
        await ask(bench, ANONYMOUS, "app:read", table="odd", how="collect")

    assert login.value.data == {"code": "LOGIN"}


# Past the rules.


async def test_unsafe_goes_past_the_rules_and_says_so(
    bench: Bench, ids: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reactor")

    outcome = success(await bench.submit("query", "app:past", {"table": "notes"}, identity=BOB))

    assert value_of(outcome) == [10, 4]
    assert outcome.log_lines == ()
    assert [record.getMessage() for record in caplog.records] == ["app:past goes past the row rules of table 'notes'"]
    assert await ask(bench, BOB, "app:past", table="open") == [0, 0]
    assert await ask(bench, BOB, "app:past_page", table="notes", opts=OPTS[0]) == 10
    assert len(caplog.records) == 2, "open has no rules"


# Live queries, results and conflicts.


async def test_a_changed_rule_input_reruns_the_subscription(bench: Bench, ids: dict[str, list[str]]) -> None:
    """Hidden documents that come and go do not, where the rule is read through an index."""
    watcher = bench.watch("app:read", identity=EVE, table="messages", how="count")
    await bench.settle()
    assert watcher.values == [0]

    await bench.run(lambda ctx: ctx.db.insert("users", {"name": "eve"}))
    await bench.run(lambda ctx: ctx.db.insert("members", {"user": "eve", "room": "room of bob"}))
    await bench.settle()
    assert watcher.values == [4]

    def leave(ctx: Any) -> None:
        ctx.db.delete(ctx.db.query("members").with_index("by_user_room", user="eve").first()["_id"])

    await bench.run(leave)
    await bench.settle()
    assert watcher.values == [0]


async def test_what_a_rule_began_to_read_is_a_read(bench: Bench, ids: dict[str, list[str]]) -> None:
    """It returned in the middle of a query; so did the one who read past the rules."""

    def insert(ctx: Any) -> None:
        ctx.db.unsafe.insert("browsed", {"room": "room of alice"})

    await bench.run(insert)
    watcher = bench.watch("app:read", table="browsed", how="count")
    past = bench.watch("app:past_first")
    await bench.settle()
    assert (watcher.value, past.value) == (1, "secret of bob")

    def change(ctx: Any) -> None:
        first = ctx.db.query("members").first()
        assert first["room"] == "room of alice"
        ctx.db.patch(first["_id"], {"room": "another"})
        ctx.db.unsafe.patch(ids["notes of bob"][0], {"text": "changed"})

    await bench.run(change)
    await bench.settle()
    assert (watcher.value, past.value) == (0, "changed")


async def test_what_others_write_does_not_rerun_a_query_that_reads_through_an_index(
    bench: Bench, ids: dict[str, list[str]]
) -> None:
    watcher = bench.watch("app:read", identity=BOB, table="notes", how="count")
    await bench.settle()
    runs = bench.host.live.stats.reruns

    await bench.run(lambda ctx: ctx.db.unsafe.insert("notes", {"owner": "alice", "text": "x", "n": 1}))
    await bench.settle()
    assert bench.host.live.stats.reruns == runs
    await bench.run(lambda ctx: ctx.db.unsafe.insert("notes", {"owner": "bob", "text": "x", "n": 1}))
    await bench.settle()

    assert watcher.values == [5]


@pytest.mark.parametrize("table", ["notes", "messages"])
async def test_results_are_never_shared_across_identities(bench: Bench, ids: dict[str, list[str]], table: str) -> None:
    """One question, asked live and once by several callers, in every order."""
    question = {"table": table, "how": "count"}
    watchers = [bench.watch("app:read", identity=identity, **question) for identity in (ALICE, BOB, EVE, ANONYMOUS)]
    await bench.settle()

    asked = [await ask(bench, identity, "app:read", **question) for identity in (ANONYMOUS, BOB, EVE, ALICE, BOB)]
    assert asked == [0, 4, 0, 6, 4]
    assert [watcher.value for watcher in watchers] == [6, 4, 0, 0]
    await bench.run(lambda ctx: ctx.db.insert("users", {"name": "other"}))
    await bench.settle()
    assert [watcher.value for watcher in watchers] == [6, 4, 0, 0]


async def test_a_cursor_is_no_way_into_what_another_caller_reads(bench: Bench, ids: dict[str, list[str]]) -> None:
    """Where the rule is read through an index; else it is a place in the same order, and shows nothing."""
    for table in ("notes", "messages"):
        page = await ask(bench, ALICE, "app:read", table=table, how="paginate", opts=OPTS[1])
        opts = {"numItems": 100, "cursor": page["continueCursor"]}
        outcome = await bench.submit(
            "query", "app:read", {"table": table, "how": "paginate", "opts": opts}, identity=BOB
        )
        if table == "notes":
            assert isinstance(failure(outcome).error, InvalidCursor)
        else:
            assert [doc["n"] for doc in value_of(outcome)["page"]] == [3, 6, 9]


async def test_without_a_loader_rules_see_the_callers_claims(tmp_path: Path) -> None:
    """Looking at them is looking at the identity: no result is shared."""
    files = {
        "schema.py": """
            from reactor import define_rules, define_schema, define_table, v
            schema = define_schema({"notes": define_table({"owner": v.string()}).index("by_owner", ["owner"])})
            rules = define_rules({"notes": {"read": lambda ctx, doc: ctx.user and doc["owner"] == ctx.user["name"]}})
        """,
        "functions/app.py": """
            from reactor import query
            @query
            async def owners(ctx):
                return [note["owner"] async for note in ctx.db.query("notes")]
        """,
    }
    async with open_bench(tmp_path, files) as bench:

        def fill(ctx: Any) -> None:
            for name in ("alice", "bob", "bob"):
                ctx.db.unsafe.insert("notes", {"owner": name})

        await bench.run(fill)
        asked = [await ask(bench, identity, "app:owners") for identity in (ALICE, BOB, ANONYMOUS, ALICE)]

    assert asked == [["alice"], ["bob", "bob"], [], ["alice"]]


async def test_a_page_remembered_from_another_identity_is_read_anew(bench: Bench, ids: dict[str, list[str]]) -> None:
    """A client that logs in brings the journals of before."""

    async def page(identity: Identity, journal: str | None) -> QueryRun:
        done: asyncio.Future[QueryRun] = asyncio.get_running_loop().create_future()
        call = Call("app:read", wire({"table": "notes", "how": "paginate", "opts": OPTS[1]}), identity, journal=journal)
        bench.host.queue.request(lambda: bench.host.executor.run_query(call, None, done.set_result))
        return await done

    first = await page(ALICE, None)
    assert first.journal is not None
    second = await page(BOB, first.journal)

    assert [doc["n"] for doc in value_of(second.outcome)["page"]] == [0, 3]
    again = await page(ALICE, first.journal)
    assert (value_of(again.outcome), again.journal) == (value_of(first.outcome), first.journal)


async def test_a_conflict_names_no_document(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The document that was changed may be one that the caller must not know of."""
    limits = Limits(max_commit_attempts=1, exclusive_run_ms=0, exclusive_commit_ms=0, scan_check_entries=1)
    async with open_bench(tmp_path, FILES, limits=limits) as bench:
        ids = await bench.run(fill)
        hidden = ids["messages of bob"][-1]
        bench.clock.tick = 1.0  # every operation gives way
        copying = bench.submit("mutation", "app:slow_copy", {"table": "messages"}, identity=ALICE)
        other = bench.start(lambda ctx: ctx.db.unsafe.patch(hidden, {"text": "changed"}))
        value_of(await other)

        lost = refusal(await copying).error

    assert 'the "messages" table changed' in str(lost)
    assert 'A call to "run:handler" changed a document.' in str(lost)
    assert hidden not in str(lost)
    assert hidden in caplog.text, "the operator is told"


# Reload.


async def test_changed_rules_rerun_the_queries_of_their_tables(bench: Bench, ids: dict[str, list[str]]) -> None:
    notes = bench.watch("app:read", identity=BOB, table="notes", how="count")
    unlocked = bench.watch("app:read", identity=BOB, table="open", how="count")
    await bench.settle()
    assert notes.value == 4

    everything = SCHEMA.replace('doc["owner"] == ctx.user["name"],', '(doc["owner"] == ctx.user["name"] or True),')
    assert everything != SCHEMA
    await bench.push({"schema.py": everything})
    await bench.settle()
    assert notes.value == 10

    await bench.push({"schema.py": SCHEMA.split("rules = define_rules")[0]})
    await bench.settle()
    assert (notes.value, unlocked.value) == (10, 0)
    await bench.push({"schema.py": SCHEMA})
    await bench.settle()
    assert notes.value == 4


async def test_a_failed_call_outcome_is_a_failure(bench: Bench, ids: dict[str, list[str]]) -> None:
    """What a client is told of a denied write has neither content nor ids."""
    note = {"owner": "alice", "text": "forged", "n": 0}
    outcome = failure(await bench.submit("mutation", "app:write", {"call": "insert", "args": ["notes", note]}))

    assert 'Uncaught AccessDenied: The rules of table "notes" do not allow this insert' in outcome.message
    assert "forged" not in outcome.message


# The user.


@pytest.mark.parametrize(
    ("loader", "error", "logged"),
    [
        ("return {}['name']", None, "ctx.user could not be loaded: KeyError"),
        ("return ctx.user", None, "can't use ctx.user"),
        ("return ctx.db.missing", None, "ctx.user could not be loaded: AttributeError"),
        ("raise ReactorError('LOGIN')", ReactorError, ""),
    ],
)
async def test_a_user_that_can_not_be_loaded_denies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, loader: str, error: type[Exception] | None, logged: str
) -> None:
    files = {
        "schema.py": f"""
            from reactor import ReactorError, define_rules, define_schema, define_table, v
            def load(ctx):
                print("loading")
                {loader}
            schema = define_schema({{"notes": define_table({{"owner": v.string()}})}})
            rules = define_rules({{"notes": {{"read": lambda ctx, doc: ctx.user or not ctx.user}}}}, user=load)
        """,
        "functions/app.py": """
            from reactor import query
            @query
            def count(ctx):
                return ctx.db.query("notes").count()
        """,
    }
    caplog.set_level(logging.INFO, "reactor")
    async with open_bench(tmp_path, files) as bench:

        def fill(ctx: Any) -> None:
            for _ in range(3):
                ctx.db.unsafe.insert("notes", {"owner": "x"})

        await bench.run(fill)
        if error is not None:
            with pytest.raises(error):
                await bench.query("app:count")
        else:
            assert await bench.query("app:count") == 0

    assert logged in caplog.text
    assert caplog.text.count("loading") == 1


async def test_the_ctx_of_a_rule_ends_with_the_rule(tmp_path: Path) -> None:
    files = {
        "schema.py": """
            from reactor import define_rules, define_schema, define_table, v
            kept = []
            def keep(ctx, doc):
                kept.append(ctx)
                return True
            schema = define_schema({"notes": define_table({"owner": v.string()})})
            rules = define_rules({"notes": {"read": keep}})
        """,
        "functions/app.py": """
            from reactor import query
            from schema import kept
            @query
            def uses(ctx):
                ctx.db.query("notes").collect()
                return kept[0].db.query("notes").collect()
        """,
    }
    async with open_bench(tmp_path, files) as bench:
        await bench.run(lambda ctx: ctx.db.unsafe.insert("notes", {"owner": "x"}))
        with pytest.raises(RuntimeError, match="can't be used any more"):
            await bench.query("app:uses")


async def test_a_sampled_run_is_repeated_with_the_same_rules(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the repeat says nothing a second time."""
    caplog.set_level(logging.INFO, "reactor")
    async with open_bench(tmp_path, FILES, limits=Limits(determinism_sample=1), development=True) as bench:
        await bench.run(fill)
        caplog.clear()
        await tell(bench, BOB, "app:slow_copy", table="messages")
        await ask(bench, BOB, "app:past", table="notes")
        for _ in range(1000):
            if bench.host.sampler is None or not bench.host.sampler.waiting:
                break
            await asyncio.sleep(0)

    assert [record.getMessage() for record in caplog.records] == ["app:past goes past the row rules of table 'notes'"]


async def test_rules_see_the_environment_and_the_time(tmp_path: Path) -> None:
    files = {
        "schema.py": """
            from reactor import define_rules, define_schema, define_table, v
            schema = define_schema({"notes": define_table({"until": v.number()})})

            def is_current(ctx, doc):
                return "CLOSED" not in ctx.env and doc["until"] > ctx.now()

            rules = define_rules({"notes": {"read": is_current}})
        """,
        "functions/app.py": """
            from reactor import query
            @query
            def count(ctx):
                return ctx.db.query("notes").count()
        """,
    }
    async with open_bench(tmp_path, files) as bench:
        now = bench.clock.wall / 1e6

        def fill(ctx: Any) -> None:
            for until in (now - 1, now + 1):
                ctx.db.unsafe.insert("notes", {"until": until})

        await bench.run(fill)
        assert await bench.query("app:count") == 1
