"""`query-json.json`: what official functions ask of their server, asked by the same calls of ours."""

import json
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reactor.runtime.pages import PageOptions
from reactor.runtime.queries import QueryChain
from reactor.runtime.readers import BlockingDatabaseWriter
from reactor.runtime.scans import Selection
from reactor.values.json import json_from_value
from reactor.values.stored import normalise
from reactor.values.types import Int64, undefined
from tests.runtime.hosts import NO_FUNCTIONS, open_bench
from tests.values.vectors import load

CASES: dict[str, Any] = {case["name"]: case for case in load("query-json")["cases"]}

NO_EQUIVALENT = {
    "search": "search indexes can be declared, but not used yet",
    "search order": "search indexes can be declared, but not used yet",
    "commitTs": "`$commitTs` is a placeholder of newer servers that documents here do not have",
}

CALLS: dict[str, Callable[[Any], Any]] = {
    "collect": lambda db: db.query("t").collect(),
    "order desc": lambda db: db.query("t").order("desc").collect(),
    "order twice": lambda db: db.query("t").order("desc").order("asc").collect(),
    "withIndex all ops": lambda db: (
        db.query("t")
        .with_index("by_a", lambda q: q.eq("a", 1).gt("b.c", Int64(2)).lte("b.c", "x"))
        .order("desc")
        .take(5)
    ),
    "withIndex undefined": lambda db: db.query("t").with_index("by_a", lambda q: q.eq("a", undefined)).first(),
    "withIndex no range": lambda db: db.query("t").with_index("by_a").collect(),
    "filter": lambda db: (
        db.query("t")
        .filter(
            lambda q: q.and_(
                q.eq(q.field("a.b"), 1),
                q.or_(q.lt(q.field("c"), None), q.not_(q.neq(q.field("d"), undefined))),
            )
        )
        .collect()
    ),
    "filter arithmetic": lambda db: (
        db.query("t")
        .filter(lambda q: q.gte(q.add(q.field("a"), q.mul(2, q.neg(q.field("b")))), q.mod(q.sub(5, 1), q.div(4, 2))))
        .collect()
    ),
    "filter literal true": lambda db: db.query("t").filter(lambda q: True).collect(),
    "first none": lambda db: db.query("t").first(),
    "unique none": lambda db: db.query("t").unique(),
    "unique one": lambda db: db.query("t").unique(),
    "unique two": lambda db: db.query("t").unique(),
    "unique two by index": lambda db: db.query("t").with_index("by_a").unique(),
    "take 0": lambda db: db.query("t").take(0),
    "take -1": lambda db: db.query("t").take(-1),
    "take 1.5": lambda db: db.query("t").take(1.5),
    "take()": lambda db: db.query("t").take(undefined),
    "paginate": lambda db: db.query("t").paginate({"numItems": 10, "cursor": None}),
    "paginate full": lambda db: db.query("t").paginate(
        {"numItems": 10, "cursor": "abc", "endCursor": "def", "maximumRowsRead": 3, "maximumBytesRead": 4}
    ),
    "paginate numItems -1": lambda db: db.query("t").paginate({"numItems": -1, "cursor": None}),
    "paginate numItems string": lambda db: db.query("t").paginate({"numItems": "3", "cursor": None}),
    "paginate no options": lambda db: db.query("t").paginate(),
    "reuse query": lambda db: twice(db.query("t").filter(lambda q: True)),
    "chain twice": lambda db: chained_twice(db.query("t")),
    "return query": lambda db: db.query("t").filter(lambda q: True),
    "get old": lambda db: db.get("ID"),
    "get table": lambda db: db.get("t", "ID"),
    "get undefined": lambda db: db.get(undefined),
    "get number": lambda db: db.get(5),
    "insert": lambda db: db.insert("t", {"a": 1}),
    "insert system": lambda db: db.insert("_t", {"a": 1}),
    "insert no value": lambda db: db.insert("t", undefined),
    "patch": lambda db: db.patch("ID", {"a": undefined, "b": {"c": undefined, "d": 1}, "e": 1}),
    "patch table": lambda db: db.patch("t", "ID", {"a": undefined}),
    "replace": lambda db: db.replace("ID", {"a": undefined, "b": 1}),
    "replace table": lambda db: db.replace("t", "ID", {"b": 1}),
    "delete": lambda db: db.delete("ID"),
    "delete table": lambda db: db.delete("t", "ID"),
    "normalizeId": lambda db: db.normalize_id("t", "x"),
    "normalizeId system table": lambda db: db.normalize_id("_storage", "x"),
    "system.normalizeId user table": lambda db: db.system.normalize_id("t", "x"),
    "system.query": lambda db: db.system.query("_storage").collect(),
    "system.query user table": lambda db: db.system.query("t").collect(),
    "query system table": lambda db: db.query("_storage").collect(),
    "system.get": lambda db: db.system.get("_storage", "ID"),
    "range builder reused": lambda db: db.query("t").with_index("by_a", used_twice).collect(),
    "count": lambda db: db.query("t").count(),
}


def twice(query: Any) -> Any:
    query.collect()
    return query.collect()


def chained_twice(query: Any) -> Any:
    query.filter(lambda q: True)
    return query.collect()


def used_twice(q: Any) -> Any:
    q.eq("a", 1)
    return q.eq("b", 2)


class Recorder:
    """Stands for `Documents`: notes what it is asked, in the words of the recorded calls, and answers as they did."""

    def __init__(self, answer: Any, found: int) -> None:
        self.calls: list[Any] = []
        self._answer = answer
        self._documents = [{"_creationTime": n, "_id": f"id{n}"} for n in range(1, found + 1)]

    def few(self, selection: Selection, limit: int) -> None:
        """Have all of them scanned."""

    def open_scan(self, selection: Selection) -> Any:
        def collect(limit: int | None) -> Generator[None, None, list[Any]]:
            query = selection.to_json()
            if limit is not None:
                query["operators"] = [*query["operators"], {"limit": limit}]
            self.calls.append(["1.0/queryStream", {"query": query}])
            return self._documents[:limit]
            yield

        return SimpleNamespace(collect=collect)

    def read_page(self, selection: Selection, options: PageOptions) -> Generator[None, None, Any]:
        form = {
            "query": selection.to_json(),
            "cursor": options.cursor,
            "endCursor": options.end_cursor,
            "pageSize": options.num_items,
            "maximumRowsRead": options.max_rows,
            "maximumBytesRead": options.max_bytes,
        }
        self.calls.append(["1.0/queryPage", form])
        return self._answer
        yield

    def not_unique(self, table: str, first: Any, second: Any) -> Exception:
        raise AssertionError("asserted with real documents")

    def count(self, selection: Selection) -> Generator[None, None, Any]:
        self.calls.append(["1.0/count", {"table": selection.table}])
        yield from ()
        return self._answer

    def get(self, table: str | None, document_id: str, system: bool = False) -> Any:
        self._note("1.0/get", table, {"id": document_id, "isSystem": system})
        return self._answer

    def system_get(self, table: str | None, document_id: str) -> Any:
        return self.get(table, document_id, True)

    def insert(self, table: str, value: Any) -> Any:
        self.calls.append(["1.0/insert", {"table": table, "value": wire(value)}])
        return self._answer

    def patch(self, table: str | None, document_id: str, fields: Any) -> None:
        fields = {name: {"$undefined": None} if value is undefined else wire(value) for name, value in fields.items()}
        self._note("1.0/shallowMerge", table, {"id": document_id, "value": fields})

    def replace(self, table: str | None, document_id: str, value: Any) -> None:
        self._note("1.0/replace", table, {"id": document_id, "value": wire(value)})

    def delete(self, table: str | None, document_id: str) -> None:
        self._note("1.0/remove", table, {"id": document_id})

    def normalize_id(self, table: str, text: str) -> Any:
        self.calls.append(["1.0/db/normalizeId", {"table": table, "idString": text}])
        return self._answer

    def _note(self, name: str, table: str | None, form: dict[str, Any]) -> None:
        self.calls.append([name, form if table is None else {**form, "table": table}])


def wire(value: Any) -> Any:
    return json_from_value(normalise(value).value)


def asked(case: dict[str, Any]) -> list[Any]:
    """Return the recorded calls without what only concerns their transport: versions, cleaning up, one by one."""
    calls = []
    for name, form in case["syscalls"]:
        if name in ("1.0/queryStreamNext", "1.0/queryCleanup"):
            continue
        form = {key: value for key, value in form.items() if key != "version"}
        if name in ("1.0/queryStream", "1.0/queryPage"):
            source = form["query"]["source"]
            source["order"] = source["order"] or "asc"  # the default, which is ours to fill in
        if name == "1.0/queryPage":
            form["maximumRowsRead"] = form["maximumRowsRead"] or 32_000
            form["maximumBytesRead"] = form.get("maximumBytesRead") or 16 * 1024 * 1024
        calls.append([name, form])
    return calls


def test_every_recorded_call_is_made_or_listed_with_a_reason() -> None:
    assert set(CALLS) | set(NO_EQUIVALENT) == set(CASES)
    assert not set(CALLS) & set(NO_EQUIVALENT)


def outcome(case: dict[str, Any], call: Callable[[Any], Any], recorder: Recorder) -> Any:
    execution: Any = SimpleNamespace(documents=recorder, is_alive=True, check_alive=lambda: None)
    result = call(BlockingDatabaseWriter(execution))
    assert not isinstance(result, QueryChain)
    return result


RECORDED = [name for name in CALLS if "error" not in CASES[name]["outcome"]]
REFUSED = [name for name in CALLS if "error" in CASES[name]["outcome"]]


@pytest.mark.parametrize("name", RECORDED)
def test_a_call_asks_what_was_recorded_and_gives_what_was_answered(name: str) -> None:
    case = json.loads(json.dumps(CASES[name]))
    found = max(0, sum(call[0] == "1.0/queryStreamNext" for call in case["syscalls"]) - 1)
    wanted = case["outcome"]["returned"]
    is_stream = any(call[0] == "1.0/queryStream" for call in case["syscalls"])
    if is_stream and isinstance(wanted, list):
        found = len(wanted)
    recorder = Recorder(None if is_stream else wanted, found)

    assert outcome(case, CALLS[name], recorder) == wanted
    assert recorder.calls == asked(case)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", REFUSED)
async def test_a_call_is_refused_in_the_recorded_words(tmp_path: Path, name: str) -> None:
    files = NO_FUNCTIONS | {
        "schema.py": "from reactor.runtime.decorators import query\n"
        "from reactor.schema.definition import define_schema, define_table\n"
        "from reactor.schema.validators import v\n"
        'schema = define_schema({"t": define_table(v.any()).index("by_a", ["a"])})\n'
    }
    async with open_bench(tmp_path, files) as bench:
        ids: list[str] = []

        def call(ctx: Any) -> Any:
            ids.extend(ctx.db.insert("t", {}) for _ in range(2 if "two" in name else 0))
            return CALLS[name](ctx.db)

        with pytest.raises(Exception) as caught:  # noqa: PT011  # the text is the whole point
            await bench.run(call)

    wanted = CASES[name]["outcome"]["error"]
    for number, document_id in enumerate(ids, 1):
        wanted = wanted.replace(f"id{number}", document_id)
    assert str(caught.value) == wanted
