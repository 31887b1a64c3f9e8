"""The code in the documentation that stands in a file of a project loads and deploys; pages with more have tests."""

import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from reactor.server.app import Deployment
from tests.servers import ROOT, Program, running

PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if re.search(r"```python \S", page.read_text("utf-8")))
STUB = "from reactor import internal_mutation\n\n\n@internal_mutation\nasync def {}(ctx, **args):\n    return None\n"
KEYS = '{"keys": []}'


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the files that a page shows: name and text, in order."""
    found = re.findall(r"^ *```python (\S+)\n(.*?)^ *```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [(name, dedent(text)) for name, text in found]


def projects(page: Path) -> list[dict[str, str]]:
    """Return the projects of a page, one of which begins wherever a file is shown again."""
    found: list[dict[str, str]] = [{}]
    for name, text in blocks(page):
        if name in found[-1]:
            found.append({})
        found[-1][name] = text
    return found


def write(folder: Path, files: dict[str, str]) -> None:
    """Write a project, and what its code names but the page leaves out."""
    for module, function in re.findall(r"\binternal\.(\w+)\.(\w+)", "\n".join(files.values())):
        files.setdefault(f"functions/{module}.py", STUB.format(function))
    for name, text in {"auth_keys.json": KEYS, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_readers_see_which_file_it_is(page: Path) -> None:
    for name, text in blocks(page):
        assert text.startswith(f"# {name}\n")


@pytest.mark.asyncio
@pytest.mark.parametrize("page", [page for page in PAGES if "component" not in page.stem], ids=lambda page: page.stem)
async def test_the_code_of_a_page_deploys(page: Path, tmp_path: Path) -> None:
    for number, files in enumerate(projects(page)):
        folder = tmp_path / str(number)
        write(folder, {name: text for name, text in files.items() if not name.startswith("tests/")})
        async with Deployment(folder, data=":memory:") as deployment:
            assert deployment.is_open


@pytest.mark.asyncio
async def test_the_component_of_the_pages_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounted twice, as docs/reference/components.md shows, with the limit of one in a variable of the application."""
    for page in ("howto/writing-a-component.md", "reference/components.md"):
        (files,) = projects(ROOT / "docs" / page)
        write(tmp_path, files)
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Deployment(tmp_path, data=":memory:") as deployment:
        await deployment.env.set("SIGNUP_LIMIT", "1")
        assert await deployment.mutation("accounts:sign_up", name="Ann") is True
        assert await deployment.mutation("accounts:sign_up", name="Ann") is False
        other = deployment.component("rate_limiter")
        for _ in range(10):
            await other.mutation("limits:take", key="Ann")
        uses = await deployment.component("signup").run(lambda ctx: ctx.db.query("uses").collect())
        assert len(uses) == 1  # type: ignore[arg-type]


def test_the_test_of_an_action_passes(tmp_path: Path) -> None:
    (files,) = projects(ROOT / "docs" / "reference" / "actions.md")
    write(tmp_path, files)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    program = Program([sys.executable, "-m", "pytest", "-q", "tests"], cwd=tmp_path, env={"PYTEST_ADDOPTS": ""})
    with running(program):
        assert program.finish() == 0, program.transcript()
