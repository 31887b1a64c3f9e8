"""The documentation covers what there is: every limit, error code, command and option, and its examples are real."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from docs.generate import error_classes, errors_page, limits_page, official_page
from reactor.cli.main import app
from reactor.limits import knobs
from tests.servers import ROOT

REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")]
    if path.name != "CHANGELOG.md"
)


def headings(page: str) -> set[str]:
    text = (REFERENCE / page).read_text(encoding="utf-8")
    return set(re.findall(r"^## (.+)$", text, re.MULTILINE))


def commands() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found |= {name: command} if below is None else {f"{name} {inner}": below[inner] for inner in below}
    return found


GENERATED = [("limits.md", limits_page()), ("errors.md", errors_page()), ("official-cli.md", official_page())]


@pytest.mark.parametrize(("page", "wanted"), GENERATED)
def test_generated_pages_are_current(page: str, wanted: str) -> None:
    assert (REFERENCE / page).read_text(encoding="utf-8") == wanted, "run `make docs`"


def test_every_limit_has_a_heading() -> None:
    assert headings("limits.md") == {knob.env for knob in knobs().values()}


def test_every_error_code_has_a_heading_and_belongs_to_one_class() -> None:
    codes = [kind.code for kind in error_classes()]
    assert headings("errors.md") == set(codes)
    assert len(codes) == len(set(codes))


def test_every_command_has_a_heading() -> None:
    assert headings("cli.md") == {f"reactor {name}" for name in commands()}


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_is_described(name: str) -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    section = text.split(f"## reactor {name}\n")[1].split("\n## ")[0]
    described = set(re.findall(r"`(--[a-z-]+)", section))
    options = {opt for param in commands()[name].params for opt in param.opts if opt.startswith("--")}
    assert described - {"--url"} <= options
    assert options <= described | {"--help"}


def test_the_conformance_tests_exist() -> None:
    """A file without a folder is in `tests/conformance`; a state machine is named by the class that pytest finds."""
    text = (ROOT / "docs" / "design" / "12-conformance.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py)::(\w+)`", text))
    for file, name in sorted(named):
        path = ROOT / file if "/" in file else ROOT / "tests" / "conformance" / file
        source = path.read_text(encoding="utf-8")
        assert re.search(rf"^(?:async def|def) {name}\(|^{name} = \w+\.TestCase$", source, re.MULTILINE), (file, name)
    assert len(named) == len(set(re.findall(r"`[^`]*::[^`]*`", text))), "each name is in the form above"


def test_every_conformance_rule_of_this_version_has_a_test() -> None:
    text = (ROOT / "docs" / "design" / "12-conformance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| (.*) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == [*range(1, 21), 22, *range(24, 34)]
    assert all("::" in tests for _, tests in rows)


def test_the_index_names_every_page() -> None:
    """And `docs/design` has one page for each number."""
    folder = ROOT / "docs"
    linked = re.findall(r"\]\(([a-z][^)]*\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    pages = {str(page.relative_to(folder)) for page in folder.rglob("*.md")}
    assert sorted(linked) == sorted(pages - {"README.md"})
    numbers = [int(page.name[:2]) for page in sorted((folder / "design").iterdir())]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_part_of_the_function_platform_has_a_test_and_a_page() -> None:
    text = (ROOT / "docs" / "design" / "12-conformance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+)\. [^|]+ \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == [*range(1, 11)]
    assert all("::" in tests and ".md" in pages for _, tests, pages in rows)


def test_every_defect_of_the_seed_has_a_test() -> None:
    """Of the 43 that the fact sheet about components counts, by their numbers in the names of tests."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "functions").rglob("test_*.py")]
    numbers = [re.findall(r"^(?:async )?def test_defect_(\d\d)_", source, re.MULTILINE) for source in sources]
    assert {int(number) for found in numbers for number in found} == set(range(1, 44))


def test_every_component_has_a_page_with_an_example_and_a_row() -> None:
    text = (ROOT / "docs" / "design" / "12-conformance.md").read_text(encoding="utf-8")
    components = {path.parent.name for path in (ROOT / "reactor" / "components").glob("*/schema.py")}
    pages = {path.stem.replace("-", "_"): path for path in (ROOT / "docs" / "components").glob("*.md")}
    assert set(pages) == components
    for name in components:
        assert f"`tests/components/{name}/" in text, name
        assert f"components.{name}" in pages[name].read_text(encoding="utf-8"), name


def test_every_area_of_convex_test_is_asserted() -> None:
    """Each file of the folder is in the table."""
    text = (ROOT / "docs" / "design" / "12-conformance.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`tests/behaviours/(\w+\.py)::(\w+)`", text))
    files = {file for file, _ in named}
    assert files == {path.name for path in (ROOT / "tests" / "behaviours").glob("test_*.py")}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (ROOT / page.parent / target).exists(), f"{page} links to {target}"


def test_the_functions_in_the_readme_are_those_of_the_template() -> None:
    """Read first, and copied: it must be code that runs."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    template = (ROOT / "reactor/cli/template/functions/messages.py").read_text(encoding="utf-8")
    block = next(code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "list_messages" in code)
    for line in block.splitlines():
        if line and not line.startswith("from "):
            assert line in template.splitlines(), line
