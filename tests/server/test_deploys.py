"""Deploys to an open server: plans, refusals, the switch, what restarts and rollbacks run, and what is left of it."""

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from reactor.errors import DeployRefused, InvalidArgument, StorageError
from reactor.limits import Limits
from reactor.protocol.deploys import DeployEvent, Plan
from reactor.server.app import Deployment
from reactor.server.credentials import Credentials
from reactor.server.deploys.archive import pack
from reactor.server.deploys.service import Deploys
from reactor.server.system import SystemClock, SystemRng
from tests.server.fakes import SECRET
from tests.sizes import size

pytestmark = pytest.mark.asyncio

HEAD = "from reactor import cron_jobs, define_schema, define_table, internal, internal_mutation, mutation, query, v\n"
FUNCTIONS = """
@query
async def texts(ctx) -> list[str]:
    return [note["text"] for note in await ctx.db.query("notes").collect()]

@mutation
async def add(ctx, text: str) -> str:
    return await ctx.db.insert("notes", {"text": text})
"""
NOTES = '"notes": define_table({"text": v.string()})'
GENERATIONS = size(15, 200)


def schema(*tables: str) -> str:
    return f"{HEAD}schema = define_schema({{{', '.join(tables)}}})\n"


def app(schema_text: str = schema(NOTES), **modules: str) -> dict[str, str]:
    found = {f"functions/{name}.py": HEAD + text for name, text in {"notes": FUNCTIONS, **modules}.items()}
    return {"schema.py": schema_text} | found


def packed(folder: Path, files: dict[str, str]) -> bytes:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return pack({name: folder / name for name in files})


def deploys_of(deployment: Deployment) -> Deploys:
    deploys = deployment.backend().deploys
    assert deploys is not None
    return deploys


class Bench:
    """An open deployment that takes deploys."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self._folder = folder

    @property
    def deploys(self) -> Deploys:
        return deploys_of(self.deployment)

    async def events(
        self, files: dict[str, str] | bytes, *, dry_run: bool = False, yes: bool = False
    ) -> list[DeployEvent]:
        data = files if isinstance(files, bytes) else packed(self._folder, files)
        run = self.deploys.begin(data, dry_run=dry_run, yes=yes)
        return [event async for event in run.events()]

    async def deploy(self, files: dict[str, str], *, yes: bool = False) -> int:
        last = (await self.events(files, yes=yes))[-1]
        assert last.deploy is not None, last
        return last.deploy.number

    async def refused(self, files: dict[str, str] | bytes, code: str, *, yes: bool = False) -> str:
        last = (await self.events(files, yes=yes))[-1]
        assert (last.kind, last.code) == ("failed", code)
        return last.message

    async def plan(self, files: dict[str, str]) -> Plan:
        events = await self.events(files, dry_run=True)
        return next(event.plan for event in events if event.plan is not None)

    async def roll_back(self, number: int | None = None) -> tuple[int, int]:
        events = [event async for event in self.deploys.roll_back(number, dry_run=False, yes=True).events()]
        deploy = events[-1].deploy
        assert deploy is not None, events[-1]
        return deploy.number, deploy.source

    async def fill(self, *texts: str) -> list[str]:
        return [str(await self.deployment.mutation("notes:add", text=text)) for text in texts]


@asynccontextmanager
async def bench_in(tmp_path: Path, data: str | Path = ":memory:", **limits: Any) -> AsyncIterator[Bench]:
    async with Deployment(None, data=data, instance_secret=SECRET, limits=Limits(**limits)) as deployment:
        yield Bench(deployment, tmp_path / "app")


# Plans.


async def test_the_first_deploy_and_one_of_the_same(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        with pytest.raises(Exception, match="No project has been pushed"):
            await bench.deployment.query("notes:texts")
        assert await bench.deploy(app()) == 1
        await bench.fill("a")
        assert await bench.deployment.query("notes:texts") == ["a"]
        plan = await bench.plan(app())
        assert plan.functions == plan.crons == plan.components == type(plan.functions)()
        assert plan.added_tables == plan.added_indexes == plan.removed_indexes == plan.checks == plan.losses == []


async def test_a_plan_says_what_changes_and_changes_nothing(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        crons = 'crons = cron_jobs()\ncrons.cron("{}", "0 0 1 1 *", "notes:add", {{"text": "x"}})\n'
        before = schema(NOTES, '"old": define_table({"n": v.number()}).index("by_n", ["n"])')
        await bench.deploy(app(before, gone=FUNCTIONS, crons=crons.format("old")))
        await bench.fill(*"abcdefgh")
        await bench.deployment.run(insert_old)
        host = bench.deployment._host
        assert host is not None
        applied = host.database.applied_ts
        tables = set(host.database.catalog.by_name)

        (tmp_path / "app" / "functions" / "gone.py").unlink()
        after = schema(
            '"notes": define_table({"text": v.number()}).index("by_text", ["text"])', '"more": define_table({})'
        )
        plan = await bench.plan(
            app(after, notes=FUNCTIONS.replace("list[str]", "list"), new=FUNCTIONS, crons=crons.format("new"))
        )

        assert plan.functions.added == ["new:add", "new:texts"]
        assert plan.functions.removed == ["gone:add", "gone:texts"]
        assert plan.functions.changed == ["notes:add", "notes:texts"]
        assert (plan.crons.added, plan.crons.removed) == (["new"], ["old"])
        assert plan.added_tables == ["more"]
        assert [(fill.table, fill.name, fill.documents) for fill in plan.added_indexes] == [("notes", "by_text", 8)]
        assert plan.removed_indexes == ["old.by_n"]
        assert [(gone.table, gone.documents) for gone in plan.detached_tables] == [("old", 1)]
        assert plan.losses == ["table old (1 documents)"]
        (check,) = plan.checks
        assert (check.table, check.documents, check.failing, len(check.samples)) == ("notes", 8, 8, 5)
        assert host.database.applied_ts == applied
        assert set(host.database.catalog.by_name) == tables
        assert bench.deploys.listing().running == 1
        assert await bench.deployment.query("gone:texts") == [*"abcdefgh"]


async def insert_old(ctx: Any) -> None:
    await ctx.db.insert("old", {"n": 1.0})


async def test_progress_is_told_in_tenths(tmp_path: Path) -> None:
    async with bench_in(tmp_path, scan_check_entries=7) as bench:
        await bench.deploy(app())
        await bench.fill(*map(str, range(50)))
        events = await bench.events(app(schema('"notes": define_table({"text": v.any()}).index("by_text", ["text"])')))
        filled = [(event.done, event.total) for event in events if event.step == "fill index notes.by_text"]
        assert filled == [(0, 50), (7, 50), (14, 50), (21, 50), (28, 50), (35, 50), (42, 50), (49, 50), (50, 50)]
        assert [event.kind for event in events if event.kind != "step"] == ["plan", "done"]


# Refusals.


async def test_a_schema_that_documents_violate_names_the_first_ones(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.deploy(app())
        ids = await bench.fill("ok", "bad", "ok", "bad")
        strict = schema('"notes": define_table({"text": v.literal("ok")})')
        message = await bench.refused(app(strict), "SchemaValidationFailed", yes=True)
        assert '2 of 4 documents in table "notes"' in message
        assert all(
            (id_ in message) == (text == "bad") for id_, text in zip(ids, ["ok", "bad", "ok", "bad"], strict=True)
        )
        assert "text" in message
        await bench.fill("still anything")
        assert bench.deploys.listing().running == 1


async def test_a_write_between_plan_and_switch_is_looked_at(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.deploy(app())
        strict = packed(tmp_path / "app", app(schema('"notes": define_table({"text": v.literal("ok")})')))
        last = None
        async for event in bench.deploys.begin(strict, dry_run=False, yes=False).events():
            if event.kind == "plan":
                await bench.fill("bad")
            last = event
        assert last is not None
        assert (last.kind, last.code) == ("failed", "PushError")
        assert "does not match the schema" in last.message
        await bench.fill("still anything")


async def test_documents_out_of_reach_need_a_yes(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.deploy(app(schema(NOTES, '"old": define_table({"n": v.number()})')))
        assert await bench.deploy(app()) == 2, "an empty table is no loss"
        assert await bench.deploy(app(schema(NOTES, '"old": define_table({"n": v.number()})'))) == 3
        await bench.deployment.run(insert_old)
        message = await bench.refused(app(), "DeployNeedsConfirmation")
        assert "old (1 documents)" in message
        assert await bench.deploy(app(), yes=True) == 4


async def test_documents_that_are_on_disk_are_counted(tmp_path: Path) -> None:
    with_old = app(schema(NOTES, '"old": define_table({"n": v.number()})', '"none": define_table({})'))
    async with bench_in(tmp_path, tmp_path / "data") as bench:
        await bench.deploy(with_old)
        for _ in range(3):
            await bench.deployment.run(insert_old)
    async with bench_in(tmp_path, tmp_path / "data", fold_records=1) as bench:
        plan = await bench.plan(app())
        assert [(gone.table, gone.documents) for gone in plan.detached_tables] == [("old", 3), ("none", 0)]
        assert plan.losses == ["table old (3 documents)"]
        host = bench.deployment._host
        assert host is not None
        assert host.database.catalog.by_name["old"].unloaded is not None
        await bench.deployment.run(insert_old)
        assert (await bench.plan(app())).losses == ["table old (4 documents)"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("import missing_package_x", "DependencyMissing", "install the package that provides `missing_package_x`"),
        ("raise ValueError('mine')", "PushError", r"functions/broken.py:2: ValueError: mine"),
        ("def f(:", "PushError", "functions/broken.py:2: SyntaxError"),
    ],
)
async def test_what_can_not_be_loaded(tmp_path: Path, text: str, code: str, said: str) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.deploy(app())
        message = await bench.refused(app(broken=text), code)
        assert said in message
        assert str(tmp_path) not in message
        assert await bench.deployment.query("notes:texts") == []


async def test_no_archive(tmp_path: Path) -> None:
    async with bench_in(tmp_path, deploy_bytes=2000) as bench:
        await bench.refused(b"hello", "InvalidArchive")
        await bench.refused(app(notes=FUNCTIONS + "#" * 2000), "DeployTooLarge")
        assert bench.deploys.listing().deploys == []


async def test_two_at_once(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        data = packed(tmp_path / "app", app())
        first = bench.deploys.begin(data, dry_run=False, yes=False)
        with pytest.raises(DeployRefused, match="Another deploy is under way") as refused:
            bench.deploys.begin(data, dry_run=False, yes=False)
        assert refused.value.rule == "DeployInProgress"
        with pytest.raises(DeployRefused, match="There is nothing before it"):
            bench.deploys.roll_back(None, dry_run=False, yes=False)
        assert [event async for event in first.events()][-1].kind == "done"
        assert await bench.deploy(app()) == 2


async def test_who_goes_away_stops_nothing(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        run = bench.deploys.begin(packed(tmp_path / "app", app()), dry_run=False, yes=False)
        async for _ in run.events():
            break
        assert [event async for event in run.events()][-1].kind == "done"
        assert await bench.deployment.query("notes:texts") == []


# The switch.


async def test_changed_queries_run_again_once_and_others_not_at_all(tmp_path: Path) -> None:
    async with bench_in(tmp_path) as bench:
        await bench.deploy(app(other=FUNCTIONS))
        await bench.fill("a")
        host = bench.deployment._host
        assert host is not None
        changed, same = bench.deployment.subscribe("notes:texts"), bench.deployment.subscribe("other:texts")
        async with changed, same:
            assert (await changed.next(), await same.next()) == (["a"], ["a"])
            reruns = host.live.stats.reruns
            await bench.deploy(app(notes=FUNCTIONS.replace('note["text"]', 'note["text"] * 2'), other=FUNCTIONS))
            assert await changed.next() == ["aa"]
            await bench.deploy(app(notes=FUNCTIONS.replace('note["text"]', 'note["text"] * 2'), other=FUNCTIONS))
            assert host.live.stats.reruns == reruns + 1
            await bench.fill("b")
            assert (await changed.next(), await same.next()) == (["aa", "bb"], ["a", "b"])


async def test_writes_during_deploys_are_not_lost(tmp_path: Path) -> None:
    """Each deploy fills an index, and queries by it give the same as without."""
    async with bench_in(tmp_path) as bench:
        await bench.deploy(app())
        sent: list[str] = []
        going_on = True

        async def write() -> None:
            while going_on:
                sent.append(f"n{len(sent)}")
                await bench.fill(sent[-1])

        writing = asyncio.create_task(write())
        for number in range(6):
            index = '.index("by_text", ["text"])' if number % 2 else ""
            query = FUNCTIONS.replace('"notes")', '"notes").with_index("by_text")') if number % 2 else FUNCTIONS
            await bench.deploy(app(schema(NOTES + index), notes=query))
            assert len(sent) > 0
        going_on = False
        await writing
        found = await bench.deployment.query("notes:texts")
        assert isinstance(found, list)
        assert sorted(found) == sorted(sent)


# Restarts and rollbacks.


def saying(text: str) -> dict[str, str]:
    return app(says=f"@query\nasync def it(ctx) -> str:\n    return {text!r}\n")


async def test_a_restart_runs_the_last_deploy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for text in ("one", "two"):
        async with bench_in(tmp_path, data) as bench:
            await bench.deploy(saying(text))
            await bench.refused({"schema.py": "x y"}, "PushError")
        for _ in range(2):
            async with bench_in(tmp_path, data) as bench:
                assert await bench.deployment.query("says:it") == text
    assert len(list((data / "deploys").iterdir())) == 2, "an archive of each, and nothing else"


async def test_rollbacks(tmp_path: Path) -> None:
    async with bench_in(tmp_path, tmp_path / "data", deploys_kept=4) as bench:
        with pytest.raises(DeployRefused, match="There is nothing before it"):
            bench.deploys.roll_back(None, dry_run=False, yes=False)
        for text in ("one", "two", "three"):
            await bench.deploy(saying(text))
        assert await bench.roll_back() == (4, 2)
        assert await bench.deployment.query("says:it") == "two"
        assert await bench.roll_back(3) == (5, 3)
        assert await bench.deployment.query("says:it") == "three"
        assert [deploy.number for deploy in bench.deploys.listing().deploys] == [2, 3, 4, 5]
        with pytest.raises(DeployRefused, match="Deploy 1 is not kept; kept are 2, 3, 4, 5") as refused:
            bench.deploys.roll_back(1, dry_run=False, yes=False)
        assert refused.value.rule == "NoSuchDeploy"
        assert len(list((tmp_path / "data" / "deploys").glob("*.zip"))) == 2, (
            "archives are kept once, and for those kept"
        )
    async with bench_in(tmp_path, tmp_path / "data") as bench:
        assert await bench.deployment.query("says:it") == "three"


async def test_a_damaged_archive_stops_the_start_and_is_named(tmp_path: Path) -> None:
    async with bench_in(tmp_path, tmp_path / "data") as bench:
        await bench.deploy(app())
    (archive,) = (tmp_path / "data" / "deploys").glob("*.zip")
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(StorageError, match=archive.name):
        async with bench_in(tmp_path, tmp_path / "data"):
            pass
    archive.unlink()
    with pytest.raises(StorageError, match=archive.name):
        async with bench_in(tmp_path, tmp_path / "data"):
            pass


async def test_a_package_that_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed is found without a restart; a start without it is refused, and changes nothing."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)
    files = app(says="import late_package\n@query\nasync def it(ctx) -> str:\n    return late_package.TEXT\n")
    async with bench_in(tmp_path, tmp_path / "data") as bench:
        await bench.refused(files, "DependencyMissing")
        (packages / "late_package.py").write_text("TEXT = 'here'")
        await bench.deploy(files)
        assert await bench.deployment.query("says:it") == "here"
    (packages / "late_package.py").unlink()
    monkeypatch.delitem(sys.modules, "late_package")
    with pytest.raises(DeployRefused, match="install the package that provides `late_package`"):
        async with bench_in(tmp_path, tmp_path / "data"):
            pass
    (packages / "late_package.py").write_text("TEXT = 'back'")
    async with bench_in(tmp_path, tmp_path / "data") as bench:
        assert await bench.deployment.query("says:it") == "back"


async def test_an_own_project_beside_deploys(tmp_path: Path) -> None:
    async with bench_in(tmp_path, tmp_path / "data") as bench:
        await bench.deploy(saying("deployed"))
    own = tmp_path / "own"
    packed(own, saying("own"))
    async with Deployment(own, data=tmp_path / "data") as deployment:
        assert await deployment.query("says:it") == "own"
    async with bench_in(tmp_path, tmp_path / "data") as bench:
        assert await bench.deployment.query("says:it") == "deployed"
        with pytest.raises(InvalidArgument, match="no project folder"):
            await bench.deployment.reload()


# What is left.


@pytest.mark.timeout(size(60, 600))
async def test_one_generation_is_alive_after_many_deploys(tmp_path: Path) -> None:
    """Each version has run, in a live query and a mutation; some deploys fail."""
    generations: list[weakref.ref[object]] = []
    async with bench_in(tmp_path, tmp_path / "data") as bench:
        await bench.deploy(app())
        host = bench.deployment._host
        assert host is not None
        async with bench.deployment.subscribe("notes:texts") as live:
            await live.next()
            for number in range(GENERATIONS):
                changed = FUNCTIONS.replace("[note", f"['{number}'] + [note")
                await bench.deploy(app(notes=changed))
                assert str(number) in str(await live.next())
                if number % 10 == 0:
                    await bench.fill("a")
                    assert str(number) in str(await live.next())
                    await bench.refused(app(notes="raise ValueError"), "PushError")
                modules = host.versions.latest().project.modules
                generations += [weakref.ref(modules[name]) for name in ("schema", "functions.notes")]
                del modules
        gc.collect()
        assert sum(reference() is not None for reference in generations) == 2
        folders = list((tmp_path / "data" / "deploys" / "unpacked").iterdir())
        assert len(folders) <= 2, "that of the running version, and one that was still held when it was looked at"
    assert list((tmp_path / "data" / "deploys").glob("unpacked")) == []


# Over HTTP.


def key(*, read_only: bool = False) -> str:
    return Credentials("reactor", SECRET).admin_key(SystemClock(), SystemRng(), read_only=read_only)


async def request(deployment: Deployment, method: str, path: str, key_: str, body: bytes = b"") -> httpx.Response:
    transport = httpx.ASGITransport(deployment.asgi())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"Authorization": f"Convex {key_}"} if key_ else {}
        return await client.request(method, path, content=body, headers=headers)


async def test_over_http(tmp_path: Path) -> None:
    async with bench_in(tmp_path, deploy_bytes=4000) as bench:
        data = packed(tmp_path / "app", app())
        answer = await request(bench.deployment, "POST", "/api/deploys", key(), data)
        assert answer.headers["content-type"] == "application/jsonl"
        lines = answer.text.splitlines()
        assert '"kind":"plan"' in answer.text
        assert lines[-1].startswith('{"kind":"done"')
        listed = (await request(bench.deployment, "GET", "/api/deploys", key(read_only=True))).json()
        assert [deploy["number"] for deploy in listed["deploys"]] == [1]
        assert (listed["running"], listed["busy"]) == (1, False)
        again = await request(bench.deployment, "POST", "/api/deploys/rollback?number=1&dryRun=true", key())
        assert again.text.splitlines()[-1] == '{"kind":"done"}'
        for path, body, status, code in [
            ("/api/deploys/rollback?number=7", b"", 409, "NoSuchDeploy"),
            ("/api/deploys/rollback?number=x", b"", 400, "BadDeployNumber"),
            ("/api/deploys", b"x" * 4001, 409, "DeployTooLarge"),
            ("/api/deploys?deploying=4001", None, 409, "DeployTooLarge"),
        ]:
            method = "GET" if body is None else "POST"
            refused = await request(bench.deployment, method, path, key(), body or b"")
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert (await request(bench.deployment, "GET", "/api/deploys?deploying=4000", key())).status_code == 200
        for method, path, is_reading in [
            ("GET", "/api/deploys", True),
            ("GET", "/api/deploys?deploying=1", False),
            ("POST", "/api/deploys", False),
            ("POST", "/api/deploys/rollback", False),
        ]:
            for bad in ("", "reactor|bad", *([] if is_reading else [key(read_only=True)])):
                refused = await request(bench.deployment, method, path, bad, data)
                assert (refused.status_code, refused.json()["code"]) == (403, "BadDeployKey")
        assert len(bench.deploys.listing().deploys) == 1


async def test_an_own_project_takes_no_deploys(tmp_path: Path) -> None:
    packed(tmp_path / "app", app())
    async with Deployment(tmp_path / "app", data=":memory:", instance_secret=SECRET) as deployment:
        for method, path in [("GET", "/api/deploys"), ("POST", "/api/deploys"), ("POST", "/api/deploys/rollback")]:
            refused = await request(deployment, method, path, key(), b"")
            assert (refused.status_code, refused.json()["code"]) == (409, "ProjectIsLocal")
            assert "without --project" in refused.json()["message"]


async def test_without_a_project_there_is_a_place_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.reactor]\ndata = "elsewhere"\n')
    async with Deployment(None):
        pass
    assert (tmp_path / ".reactor" / "db.sqlite3").exists()
