"""The rooms of the application: what can be called is thin, and what it is made of knows nothing of it."""

import ast
from pathlib import Path

import pytest

from reactor.testing.deployment import MemoryDeployment

ROOT = Path(__file__).parents[2]
MODEL = sorted((ROOT / "functions/model").glob("*.py"))


@pytest.mark.parametrize("file", MODEL, ids=lambda file: file.stem)
def test_the_model_imports_nothing_of_what_can_be_called(file: Path) -> None:
    imported = [node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = [name for name in imported if name is not None and name.split(".")[0] == "functions"]
    assert [name for name in ours if not name.startswith("functions.model")] == []


async def test_the_model_has_no_functions(deployment: MemoryDeployment) -> None:
    assert [path for path in deployment.running().registry.functions if path.startswith("model/")] == []


@pytest.mark.parametrize("package", ["functions", "functions/model"])
def test_the_tour_names_every_module(package: str) -> None:
    """A module that no line of the tour names is one that nobody finds."""
    tour = (ROOT / package / "__init__.py").read_text()
    modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    assert {name for name in modules if f"`{name}`" not in tour} == set()
