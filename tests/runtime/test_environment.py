"""Environment variables: what a look at one depends on, what may be stored, and where they can be read."""

import asyncio
import os
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactor.errors import (
    EnvironmentVariableMissing,
    FunctionNotFound,
    InvalidArgument,
    LimitExceeded,
    PushError,
    UnknownTable,
)
from reactor.limits import (
    MAX_VARIABLE_NAME_LENGTH,
    MAX_VARIABLE_VALUE_BYTES,
    MAX_VARIABLES,
    MAX_VARIABLES_BYTES,
    Limits,
)
from reactor.runtime.environment.documents import BUILT_IN, _check_name, variable_id
from reactor.runtime.environment.mapping import env
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.system_functions import CHANGE_VARIABLES, GET_VARIABLE, LIST_VARIABLES
from reactor.testing.deployment import MemoryDeployment
from tests.runtime.hosts import Bench, open_bench, project_files, value_of
from tests.runtime.projects import write
from tests.servers import ROOT

READERS = """
import threading
from reactor import env
ran = []
reached, let_go = threading.Event(), threading.Event()

def helper(name):
    return env[name]

@query
async def by_env(ctx, name: str):
    ran.append("by_env")
    return env[name]

@query
async def by_ctx(ctx, name: str):
    ran.append("by_ctx")
    return ctx.env[name]

@query
def plainly(ctx, name: str):
    ran.append("plainly")
    return ctx.env.get(name)

@query
async def by_helper(ctx, name: str):
    ran.append("by_helper")
    return helper(name)

@query
async def from_task(ctx, name: str):
    ran.append("from_task")
    async def look():
        await ctx.db.query("items").first()
        return env[name]
    return (await asyncio.gather(look(), look()))[0]

@internal_query
async def inner(ctx, name: str):
    return env[name]

@query
async def nested(ctx, name: str):
    ran.append("nested")
    return await ctx.run_query(inner, name=name)

@query
async def asks(ctx, name: str):
    ran.append("asks")
    return name in env

@query
async def counts(ctx):
    ran.append("counts")
    return len(env)

@query
async def lists(ctx):
    ran.append("lists")
    return {name: value for name, value in ctx.env.items() if not name.startswith("CONVEX_")}

@query
async def reads_nothing(ctx):
    ran.append("reads_nothing")
    return None

@mutation
async def note(ctx, name: str):
    await ctx.db.query("items").first()
    value = env[name]
    await ctx.db.query("items").first()
    await ctx.db.insert("items", {"name": value})
    return value

@action
async def in_action(ctx, name: str):
    def from_thread():
        return env.get(name)
    async def from_task():
        return helper(name) if name in env else None
    own = [env.get(name), ctx.env.get(name)]
    other = [await asyncio.to_thread(from_thread), await asyncio.create_task(from_task())]
    return [*own, *other, *await ctx.run_action(in_plain_action, name=name), await ctx.run_query(plainly, name=name)]

@action
def in_plain_action(ctx, name: str):
    return [env.get(name), ctx.env.get(name)]

@action
async def across_a_change(ctx, name: str):
    before = env[name]
    reached.set()
    await asyncio.to_thread(let_go.wait)
    return [before, env[name], await ctx.run_query(by_env, name=name)]

@query
async def leak(ctx):
    return await ctx.db.query("_environment_variables").collect()

@query
async def leak_by_system(ctx):
    return await ctx.db.system.query("_environment_variables").collect()
"""
OF_ONE = ("by_env", "by_ctx", "plainly", "by_helper", "from_task", "nested", "asks")
OF_ALL = ("counts", "lists")


async def change(bench: Bench, **values: str | None) -> None:
    changes = [{"name": name, "value": value} for name, value in values.items()]
    value_of(await bench.submit("mutation", CHANGE_VARIABLES, {"changes": changes}, internal=True))


async def stored(bench: Bench) -> dict[str, str]:
    rows = value_of(await bench.submit("query", LIST_VARIABLES, {}, internal=True))
    return {row["name"]: row["value"] for row in rows}


def ran(bench: Bench) -> list[str]:
    """Return the readers that ran since the last call."""
    module = bench.projects[-1].namespace("readers")
    assert module is not None
    names, module.ran[:] = sorted(module.ran), []
    return names


@pytest.mark.asyncio
async def test_a_change_reruns_exactly_what_read_the_variable(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:
        await change(bench, A="a", B="b")
        watchers = {name: bench.watch(f"readers:{name}", name="A") for name in OF_ONE}
        watchers |= {name: bench.watch(f"readers:{name}") for name in (*OF_ALL, "reads_nothing")}
        await bench.settle()
        assert ran(bench) == sorted(watchers)

        await change(bench, B="other")
        await bench.settle()
        assert ran(bench) == sorted(OF_ALL)
        assert watchers["lists"].value == {"A": "a", "B": "other"}

        await change(bench, A="new")
        await bench.settle()
        assert ran(bench) == sorted([*OF_ONE, *OF_ALL])
        assert {watchers[name].value for name in OF_ONE if name != "asks"} == {"new"}

        await change(bench, A="new")
        await bench.settle()
        assert ran(bench) == [], "a variable that keeps its value is not written"

        await change(bench, A=None)
        await bench.settle()
        assert ran(bench) == sorted([*OF_ONE, *OF_ALL])
        assert watchers["asks"].value is False
        assert watchers["plainly"].value is None
        assert "reactor env set A=" in watchers["by_env"].value

        await change(bench, C="c")
        await bench.settle()
        assert ran(bench) == sorted(OF_ALL), "whoever looked for A in vain does not depend on C"

        await change(bench, A="back")
        await bench.settle()
        assert ran(bench) == sorted([*OF_ONE, *OF_ALL]), "a look in vain is a read too"
        assert watchers["nested"].value == "back"


@pytest.mark.asyncio
async def test_actions_see_the_variables_of_when_they_began(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:
        for value in ("old", "new", None):
            await change(bench, A=value)
            assert value_of(await bench.submit("action", "readers:in_action", {"name": "A"})) == [value] * 7
        module = bench.projects[-1].namespace("readers")
        assert module is not None
        await change(bench, A="old")
        action = bench.submit("action", "readers:across_a_change", {"name": "A"})
        await asyncio.to_thread(module.reached.wait)
        await change(bench, A="new")
        module.let_go.set()
        assert value_of(await action) == ["old", "old", "new"]


NAMES = st.sampled_from(["A", "B", "C"])


@settings(max_examples=10, deadline=None)
@given(steps=st.lists(st.dictionaries(NAMES, st.one_of(st.none(), st.sampled_from(["", "x", "ü"])), min_size=1)))
def test_the_variables_are_those_of_a_dict(steps: list[dict[str, str | None]], tmp_path_factory: Any) -> None:
    """In any order of changes: what functions see, what the list shows, and what a fork of the data starts with."""
    folder = write(tmp_path_factory.mktemp("app"), project_files(readers=READERS))
    project = ProjectLoader(folder).load()
    expected: dict[str, str] = {}
    try:
        with MemoryDeployment(project, folder).blocking() as deployment:
            for step in steps:
                deployment.env.update(step)
                expected = {name: value for name, value in {**expected, **step}.items() if value is not None}
                assert deployment.env.all() == deployment.query("readers:lists") == expected
                assert deployment.query("readers:counts") == len(expected) + len(BUILT_IN)
            snapshot = deployment.snapshot()
        with snapshot.fork().blocking() as fork:
            assert fork.env.all() == expected
    finally:
        project.release()


@pytest.mark.asyncio
async def test_a_mutation_that_read_a_variable_conflicts_with_its_change(tmp_path: Path) -> None:
    folder = write(tmp_path, project_files(readers=READERS))
    project = ProjectLoader(folder).load()
    async with MemoryDeployment(project, folder) as deployment:
        await deployment.env.update({"A": "old", "B": "b"})
        async with deployment.hold("readers:note", {"name": "A"}, at=2) as held:
            await deployment.env.set("B", "other")
            await deployment.env.set("A", "new")
            assert await held.finish() == "new"
        names = await deployment.run(lambda ctx: ctx.db.query("items").collect())
        assert [item["name"] for item in names] == ["new"], "the attempt that saw the old value left nothing"  # type: ignore
        async with deployment.hold("readers:note", {"name": "A"}, at=2) as held:
            await deployment.env.set("B", "third")
            assert await held.finish() == "new"
        assert deployment._host is not None
        assert deployment._host.executor.stats.conflicts == 1


@pytest.mark.asyncio
async def test_a_missing_variable_says_how_to_set_it(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:
        for path in ("readers:by_env", "readers:by_ctx"):
            with pytest.raises(EnvironmentVariableMissing) as missing:
                await bench.query(path, name="OPENAI_API_KEY")
            assert str(missing.value) == (
                "Environment variable 'OPENAI_API_KEY' is not set on this deployment. "
                "Set it with: reactor env set OPENAI_API_KEY=…"
            )
        assert await bench.query("readers:plainly", name="OPENAI_API_KEY") is None


@pytest.mark.parametrize("use", ["env['A']", "env.get('A')", "'A' in env", "len(env)", "dict(env)", "list(env)"])
def test_at_import_time_it_refuses_at_the_users_line(tmp_path: Path, use: str) -> None:
    files = project_files(readers=f"from reactor import env\n\nKEY = {use}\n")
    with pytest.raises(PushError, match="not at import time: move the read into the function") as refused:
        ProjectLoader(write(tmp_path, files)).load()
    line = files["functions/readers.py"].splitlines().index(f"KEY = {use}") + 1
    assert (refused.value.file, refused.value.line) == (str(tmp_path / "functions" / "readers.py"), line)


@pytest.mark.asyncio
async def test_a_ctx_that_has_ended_gives_no_variables(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:
        kept = []
        await bench.run(lambda ctx: kept.append(ctx))
        with pytest.raises(RuntimeError, match="has ended"):
            kept[0].env.get("A")


@pytest.mark.asyncio
async def test_a_reference_names_a_variable_without_reading_it(tmp_path: Path) -> None:
    reference = env.ref("A")
    assert repr(reference) == "env.ref('A')"
    assert reference == env.ref("A")
    assert len({reference, env.ref("A"), env.ref("B")}) == 2
    with pytest.raises(InvalidArgument, match="takes the name of a variable"):
        env.ref("")
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:
        await change(bench, A="a")
        assert await bench.run(lambda ctx: reference.resolve(ctx.env)) == "a"
        with pytest.raises(EnvironmentVariableMissing):
            await bench.run(lambda ctx: env.ref("B").resolve(ctx.env))


@pytest.mark.asyncio
async def test_values_are_shown_to_nobody_who_does_not_ask(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:
        await change(bench, A="hunter2")
        assert await bench.run(lambda ctx: f"{env!r} {ctx.env!r}") == (
            "<reactor.env> <environment variables of a deployment>"
        )
        for path in ("readers:leak", "readers:leak_by_system"):
            with pytest.raises((InvalidArgument, UnknownTable)) as refused:
                await bench.query(path)
            assert "hunter2" not in str(refused.value)
        for path in (LIST_VARIABLES, GET_VARIABLE, CHANGE_VARIABLES):
            outcome = await bench.submit("query", path, {}, internal=False)
            assert "Could not find public function" in str(outcome)


class TestWhatStandsIn:
    """Variables of the process, as `[tool.reactor] env` lists them, and those that are built in."""

    @pytest.fixture(autouse=True)
    def _process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RATE_LIMIT_USER", "10")
        monkeypatch.setenv("RATE_LIMIT_IP", "20")
        monkeypatch.setenv("OTHER_SECRET", "no")
        monkeypatch.setenv("CONVEX_CLOUD_URL", "http://wrong")

    @staticmethod
    def files(*patterns: str) -> dict[str, str]:
        return project_files(readers=READERS) | {"pyproject.toml": f"[tool.reactor]\nenv = {list(patterns)}\n"}

    @pytest.mark.asyncio
    async def test_process_variables_stand_in_for_what_is_not_set(self, tmp_path: Path) -> None:
        async with open_bench(tmp_path, self.files("RATE_LIMIT_*", "CONVEX_*")) as bench:
            assert await bench.query("readers:lists") == {"RATE_LIMIT_USER": "10", "RATE_LIMIT_IP": "20"}
            assert await bench.query("readers:plainly", name="OTHER_SECRET") is None
            await change(bench, RATE_LIMIT_USER="99")
            assert await bench.query("readers:by_env", name="RATE_LIMIT_USER") == "99"
            assert await stored(bench) == {"RATE_LIMIT_USER": "99"}
            await change(bench, RATE_LIMIT_USER=None)
            os.environ["RATE_LIMIT_USER"] = "11"
            assert await bench.query("readers:by_env", name="RATE_LIMIT_USER") == "10", "read once, when loaded"

    @pytest.mark.asyncio
    async def test_a_push_that_changes_them_reruns_what_looked_in_vain(self, tmp_path: Path) -> None:
        async with open_bench(tmp_path, self.files("RATE_LIMIT_USER")) as bench:
            await change(bench, A="a")
            user = bench.watch("readers:plainly", name="RATE_LIMIT_USER")
            ip = bench.watch("readers:plainly", name="RATE_LIMIT_IP")
            bench.watch("readers:by_env", name="A")
            bench.watch("readers:reads_nothing")
            await bench.settle()
            assert (user.value, ip.value) == ("10", None)

            await bench.push(self.files("RATE_LIMIT_USER"))
            await bench.settle()
            assert ran(bench) == [], "nothing has changed"

            await bench.push(self.files("RATE_LIMIT_*"))
            await bench.settle()
            assert ran(bench) == ["plainly", "plainly"]
            assert (user.value, ip.value) == ("10", "20")

            os.environ["RATE_LIMIT_IP"] = "21"
            await bench.push(self.files("RATE_LIMIT_*"))
            await bench.settle()
            assert ip.value == "21"
            assert await stored(bench) == {"A": "a"}, "nothing of the process is stored"

    @pytest.mark.asyncio
    async def test_two_are_built_in(self, tmp_path: Path) -> None:
        async with open_bench(tmp_path, self.files("*")) as bench:
            assert await bench.query("readers:by_env", name="CONVEX_CLOUD_URL") == "http://127.0.0.1:3210"
            assert await bench.query("readers:by_ctx", name="CONVEX_SITE_URL") == "http://127.0.0.1:3210/http"


LONGEST = "N" * MAX_VARIABLE_NAME_LENGTH
LARGEST = "ü" * (MAX_VARIABLE_VALUE_BYTES // 2)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"1A": "x"}, "EnvironmentVariableNameInvalid"),
        ({"_A": "x"}, "EnvironmentVariableNameInvalid"),
        ({"A-B": None}, "EnvironmentVariableNameInvalid"),
        ({"Ä": "x"}, "EnvironmentVariableNameInvalid"),
        ({"": "x"}, "EnvironmentVariableNameInvalid"),
        ({"A\n": "x"}, "EnvironmentVariableNameInvalid"),
        ({LONGEST + "N": "x"}, "EnvironmentVariableNameTooLong"),
        ({"A": LARGEST + "x"}, "EnvironmentVariableValueTooLarge"),
        ({"CONVEX_SITE_URL": "x"}, "EnvVarNameForbidden"),
        ({"CONVEX_CLOUD_URL": None}, "EnvVarNameForbidden"),
        ({f"A{number}": "x" for number in range(MAX_VARIABLES)}, "EnvVarLimitMet"),
        (
            {f"A{number}": LARGEST for number in range(MAX_VARIABLES_BYTES // len(LARGEST.encode()))},
            "EnvVarTotalSizeLimitMet",
        ),
    ],
)
@pytest.mark.asyncio
async def test_what_can_not_be_stored_is_refused_whole(
    tmp_path: Path, changes: dict[str, str | None], rule: str
) -> None:
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:
        await change(bench, OLD="old")
        with pytest.raises(LimitExceeded) as refused:
            await change(bench, GOOD="good", **changes)
        assert refused.value.rule == rule
        assert LARGEST[:20] not in str(refused.value)
        assert await stored(bench) == {"OLD": "old"}


@pytest.mark.asyncio
async def test_the_limits_themselves_are_allowed(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:
        await change(bench, **{LONGEST: LARGEST, "EMPTY": ""})
        await change(bench, **{f"A{number}": "x" for number in range(MAX_VARIABLES - 2)})
        assert len(await stored(bench)) == MAX_VARIABLES
        assert await bench.query("readers:counts") == MAX_VARIABLES + len(BUILT_IN)
        with pytest.raises(LimitExceeded):
            await change(bench, ONE_MORE="x")
        await change(bench, ONE_MORE="x", EMPTY=None)
        assert await bench.query("readers:plainly", name="ONE_MORE") == "x"


@pytest.mark.asyncio
async def test_looking_is_not_counted_as_reading_documents(tmp_path: Path) -> None:
    async with open_bench(tmp_path, project_files(readers=READERS)) as bench:

        def look(ctx: Any) -> tuple[int, int]:
            for number in range(5000):
                ctx.env.get(f"A{number}")
            transaction = ctx._execution.documents.transaction
            return transaction.documents_read, transaction.bytes_read

        assert await bench.run(lambda ctx: list(look(ctx))) == [0, 0]


@pytest.mark.asyncio
async def test_a_change_is_not_taken_for_a_function_that_differs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In development each run may be repeated; what a mutation of ours writes has a time of its own."""
    limits = Limits(determinism_sample=1)
    async with open_bench(tmp_path, project_files(readers=READERS), limits=limits, development=True) as bench:
        await change(bench, A="a")
        await change(bench, A="b", B="c")
        assert await bench.query("readers:lists") == {"A": "b", "B": "c"}
        assert await bench.mutation("readers:note", name="A") == "b"
        assert bench.host.sampler is not None
        while bench.host.sampler.waiting:
            await bench.settle()
    assert caplog.records == []


@pytest.mark.asyncio
async def test_functions_of_the_project_do_not_reach_ours(tmp_path: Path) -> None:
    text = """
@mutation
async def sneak(ctx, path: str):
    return await ctx.run_mutation(path, {"changes": []})

@action
async def sneak_in_action(ctx, path: str):
    return await ctx.run_query(path, {})
"""
    async with open_bench(tmp_path, project_files(app=text)) as bench:
        for kind, name, path in (
            ("mutation", "sneak", CHANGE_VARIABLES),
            ("action", "sneak_in_action", LIST_VARIABLES),
        ):
            with pytest.raises(FunctionNotFound):
                value_of(await bench.submit(kind, f"app:{name}", {"path": path}))


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    (functions,) = re.findall(r"```python functions/ai.py\n(.*?)```", page, re.DOTALL)
    (embedding,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    folder = write(tmp_path, {"functions/ai.py": functions})
    project = ProjectLoader(folder).load()
    async with MemoryDeployment(project, folder) as deployment:
        assert await deployment.query("ai:model") == "small"
        names: dict[str, Any] = {}
        exec(f"async def example(deployment):\n{textwrap.indent(embedding, '    ')}", names)
        await names["example"](deployment)
        await deployment.env.set("MODEL", "large")
        assert await deployment.query("ai:model") == "large"
        assert await deployment.env.get("MODEL") == "large"
        await deployment.env.unset("MODEL")
        assert await deployment.env.get("MODEL") is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_a_name_is_one_or_is_refused(name: str) -> None:
    """Whatever a client sends as a name: each that is taken is of the form that shells and dotenv files take."""
    try:
        _check_name(name)
    except LimitExceeded:
        return
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,255}", name)
    assert len(variable_id(name)) == len(variable_id("A"))
