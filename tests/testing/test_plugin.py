"""The fixture `deployment`, as the tests of an app see it."""

import re
from pathlib import Path

import pytest

from tests.servers import REACTOR, ROOT

SCHEMA = """
from reactor import define_schema, define_table, v
schema = define_schema({"notes": define_table({"text": v.string()})})
"""
NOTES = """
from reactor import mutation, query, internal_mutation
LOADS = []

@mutation
async def add(ctx, text: str) -> str:
    return await ctx.db.insert("notes", {"text": text})

@internal_mutation
async def add_inside(ctx, text: str):
    await ctx.db.insert("notes", {"text": text})

@query
async def texts(ctx):
    return [note["text"] async for note in ctx.db.query("notes")]

@query
async def now(ctx):
    return ctx.now()

@query
async def who(ctx):
    identity = await ctx.auth.get_user_identity()
    return identity and identity["name"]
"""
USES = """
import pytest, pytest_asyncio

async def test_a(deployment):
    await deployment.mutation("notes:add", {"text": "a"})
    assert await deployment.query("notes:texts") == ["a"]

async def test_b_is_fresh(deployment):
    assert await deployment.query("notes:texts") == []

async def test_internal_functions_can_be_called(deployment):
    await deployment.mutation("notes:add_inside", {"text": "x"})

async def test_subscribe(deployment):
    async with deployment.subscribe("notes:texts") as live:
        assert await live.next() == []
        await deployment.mutation("notes:add", {"text": "b"})
        assert await live.next() == ["b"]

async def test_run(deployment):
    note = await deployment.run(lambda ctx: ctx.db.insert("notes", {"text": "direct"}))
    assert isinstance(note, str)
    assert await deployment.query("notes:texts") == ["direct"]

async def test_identity(deployment):
    assert await deployment.query("notes:who") is None
    assert await deployment.with_identity({"name": "Alice"}).query("notes:who") == "Alice"

async def test_clock(deployment):
    before = await deployment.query("notes:now")
    deployment.clock.advance(minutes=5)
    assert await deployment.query("notes:now") == before + 300_000

def test_plain(deployment):
    with deployment.blocking() as blocking:
        blocking.mutation("notes:add", {"text": "c"})
        assert blocking.query("notes:texts") == ["c"]

def test_plain_and_unopened(deployment):
    assert not deployment.is_open

@pytest.fixture
def prepared(deployment):
    return deployment

async def test_through_a_fixture(prepared):
    assert await prepared.query("notes:texts") == []

@pytest_asyncio.fixture
async def filled(deployment):
    await deployment.mutation("notes:add", {"text": "filled"})
    return deployment

async def test_through_an_async_fixture(filled):
    assert await filled.query("notes:texts") == ["filled"]

@pytest.mark.asyncio(loop_scope="module")
async def test_on_a_loop_of_the_module(deployment):
    assert await deployment.query("notes:texts") == []

@pytest.mark.parametrize("text", ["x", "y"])
async def test_parametrized(deployment, text):
    await deployment.mutation("notes:add", {"text": text})

class TestInAClass:
    async def test_method(self, deployment):
        assert await deployment.query("notes:texts") == []
"""

PREPARED = """
import pytest

@pytest.fixture(scope="session")
def prepared_deployment(make_deployment):
    with make_deployment().blocking() as blocking:
        blocking.mutation("notes:add", {"text": "prepared"})
        blocking.clock.advance(days=1)
        return blocking.snapshot()

@pytest.mark.parametrize("text", ["x", "y"])
async def test_each_starts_with_the_prepared_data(deployment, text):
    assert await deployment.query("notes:texts") == ["prepared"]
    await deployment.mutation("notes:add", {"text": text})
    assert await deployment.query("notes:texts") == ["prepared", text]
    fork = deployment.fork()
    async with fork:
        assert await fork.query("notes:texts") == ["prepared", text]

def test_plain(deployment, make_deployment):
    with deployment.blocking() as blocking, make_deployment().blocking() as fresh:
        assert blocking.query("notes:texts") == ["prepared"]
        assert fresh.query("notes:texts") == []
        assert blocking.query("notes:now") == fresh.query("notes:now") + 86_400_000
"""

PLAIN = """
def test_plain(deployment):
    with deployment.blocking() as blocking:
        assert blocking.query("notes:texts") == []
"""


def make_project(folder: Path, functions: str = NOTES) -> None:
    (folder / "functions").mkdir(parents=True)
    (folder / "schema.py").write_text(SCHEMA)
    (folder / "functions" / "notes.py").write_text(functions)


def run_tests(pytester: pytest.Pytester, tests: str, *, ini: str = "") -> pytest.RunResult:
    pytester.makeini(
        f"[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n{ini}"
    )
    pytester.makepyfile(test_uses=tests)
    return pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", "--strict-markers")


def test_the_fixture_does_what_the_guide_says(pytester: pytest.Pytester) -> None:
    make_project(pytester.path)
    run_tests(pytester, USES).assert_outcomes(passed=15)


def test_the_project_is_loaded_once(pytester: pytest.Pytester) -> None:
    make_project(pytester.path, NOTES + "\nwith open('loads', 'a') as file: file.write('x')\n")
    run_tests(pytester, USES).assert_outcomes(passed=15)
    assert (pytester.path / "loads").read_text() == "x"


def test_a_prepared_database_is_made_once_and_forked_for_each_test(pytester: pytest.Pytester) -> None:
    make_project(pytester.path)
    run_tests(pytester, PREPARED).assert_outcomes(passed=3)


def test_the_project_may_be_elsewhere(pytester: pytest.Pytester) -> None:
    make_project(pytester.path / "backend")
    run_tests(pytester, USES, ini="reactor_project = backend").assert_outcomes(passed=15)


COUNTED = """
@query
async def counted(ctx):
    LOADS.append("again")
    return len(LOADS)
"""
REPEATED = """
import asyncio

async def test_it_is_named(deployment, caplog):
    assert await deployment.query("notes:counted") == 1.0
    for _ in range(1000):
        await asyncio.sleep(0)
    assert ("notes:counted is not deterministic" in caplog.text) is {wanted}
"""


@pytest.mark.parametrize(("ini", "wanted"), [("", False), ("reactor_determinism_sample = 1", True)])
def test_runs_are_repeated_where_that_is_asked_for(pytester: pytest.Pytester, ini: str, wanted: bool) -> None:
    make_project(pytester.path, NOTES + COUNTED)
    run_tests(pytester, REPEATED.format(wanted=wanted), ini=ini).assert_outcomes(passed=1)


def test_a_sample_that_is_no_number_is_named(pytester: pytest.Pytester) -> None:
    make_project(pytester.path)
    result = run_tests(pytester, "def test(deployment): pass", ini="reactor_determinism_sample = often")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*reactor_determinism_sample*often*"])


def test_a_project_folder_that_is_missing_is_named(pytester: pytest.Pytester) -> None:
    result = run_tests(pytester, "def test(deployment): pass", ini="reactor_project = nowhere")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*reactor_project*nowhere*"])


def test_a_broken_project_is_shown_at_its_line(pytester: pytest.Pytester) -> None:
    make_project(pytester.path, "from reactor import quary\n")
    result = run_tests(pytester, "async def test(deployment): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*functions/notes.py:1:*quary*"])


def test_other_coroutine_tests_are_left_alone(pytester: pytest.Pytester) -> None:
    """Strict mode is the user's choice: only tests that use the fixture are ours to mark."""
    make_project(pytester.path)
    tests = """
import inspect

async def test_unmarked(request): pass

def test_nothing_was_marked(request):
    items = {item.name: item for item in request.session.items}
    assert items["test_unmarked"].get_closest_marker("asyncio") is None
"""
    result = run_tests(pytester, tests)
    assert result.parseoutcomes()["passed"] == 1


def test_without_pytest_asyncio_plain_tests_work(pytester: pytest.Pytester) -> None:
    make_project(pytester.path)
    pytester.makepyfile(PLAIN)
    pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:randomly").assert_outcomes(passed=1)


def test_the_examples_of_the_guide_run(pytester: pytest.Pytester) -> None:
    """Each code block of the guide is a test file of the project that `reactor init` makes, or the file it names."""
    assert pytester.run(*REACTOR, "init").ret == 0
    guide = (ROOT / "docs/howto/testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python *(\S*)\n(.*?)```", guide, re.DOTALL)
    tests = 1  # of the template
    for number, (name, block) in enumerate(blocks):
        (pytester.path / (name or f"tests/test_guide{number}.py")).write_text(block, encoding="utf-8")
        tests += 0 if name else len(re.findall(r"^(?:async )?def test_", block, re.MULTILINE))
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=tests)


def test_the_test_of_a_new_project_passes(pytester: pytest.Pytester) -> None:
    """What `reactor init` leaves runs as it is, without any configuration."""
    assert pytester.run(*REACTOR, "init").ret == 0
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)


LIMITER = {
    "__init__.py": "from reactor import define_component\ncomponent = define_component(__name__)\n",
    "schema.py": SCHEMA,
    "functions/notes.py": NOTES,
}
USES_COMPONENT = """
import pytest
from reactor import components

@pytest.fixture
def limiter(deployment):
    return deployment.component("limiter")

async def test_its_functions(limiter):
    await limiter.mutation("notes:add_inside", {"text": "a"})
    assert await limiter.query("notes:texts") == ["a"]
    async with limiter.subscribe("notes:texts") as live:
        assert await live.next() == ["a"]

async def test_it_as_its_users_see_it(deployment, limiter):
    await deployment.mutation(components.limiter.notes.add, text="b")
    assert await deployment.run(lambda ctx: ctx.run_query(components.limiter.notes.texts)) == ["b"]

async def test_its_data(deployment, limiter):
    note = await limiter.run(lambda ctx: ctx.db.insert("notes", {"text": "c"}))
    assert await limiter.run(lambda ctx: ctx.db.get(note))
    assert await deployment.run(lambda ctx: ctx.db.get(note)) is None

async def test_identity_is_given_to_who_calls_it_directly(deployment, limiter):
    alice = limiter.with_identity({"name": "Alice"})
    assert await alice.query("notes:who") == "Alice"
    assert await deployment.with_identity({"name": "Alice"}).run(
        lambda ctx: ctx.run_query(components.limiter.notes.who)) is None

async def test_a_wrong_path_is_named(deployment):
    with pytest.raises(Exception, match="Component path 'limitr' not found. Did you mean 'limiter'?"):
        await deployment.component("limitr").query("notes:texts")

def test_plain(deployment):
    with deployment.blocking() as blocking:
        limiter = blocking.component("limiter")
        limiter.mutation("notes:add", {"text": "d"})
        assert limiter.query("notes:texts") == ["d"]
"""


def test_a_component_is_tested_by_itself(pytester: pytest.Pytester) -> None:
    for name, text in LIMITER.items():
        file = pytester.path / "limiter" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    run_tests(pytester, USES_COMPONENT, ini="reactor_component = limiter\npythonpath = .").assert_outcomes(passed=6)


def test_the_component_of_the_guide_passes_its_test(pytester: pytest.Pytester) -> None:
    guide = (ROOT / "docs/howto/writing-a-component.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python *(\S*)\n(.*?)```", guide, re.DOTALL)
    files = {name: block for name, block in blocks if name}
    for name, text in files.items():
        file = pytester.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tests,) = (block for _, block in blocks if "async def test_" in block)
    run_tests(pytester, tests, ini="reactor_component = rate_limiter\npythonpath = .").assert_outcomes(passed=1)


def test_a_component_that_can_not_be_imported_is_named(pytester: pytest.Pytester) -> None:
    result = run_tests(pytester, "async def test(deployment): pass", ini="reactor_component = nothing")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*functions/app.py:2:*No module named 'nothing'*"])
