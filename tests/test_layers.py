"""Imports only point down, come from the defining module, and packages hold nothing of their own.

What is written with the public API only, `components` and `helpers`, imports what its users could: it shows that the
public API is enough, and it can be copied into a project.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    "errors limits ports",
    "values",
    "schema protocol",
    "storage client",
    "engine",
    "auth",
    "runtime",
    "server transfer codegen",
    "testing cli components helpers",
]  # import from your own line or an earlier one
RANK = {name: rank for rank, line in enumerate(LAYERS) for name in line.split()}
EVERY = sorted(path.relative_to(ROOT) for path in (ROOT / "reactor").rglob("*.py") if "template" not in path.parts)
PUBLIC_ONLY = {"components", "helpers"}  # packages written like a user's code
TOP = {Path("reactor", package, "__init__.py") for package in PUBLIC_ONLY}  # which only say what is in them
FILES = [file for file in EVERY if file.parts[1] not in PUBLIC_ONLY or file in TOP]
USERS = [file for file in EVERY if file not in FILES]


def packages_imported(tree: ast.AST) -> set[str]:
    """First-level reactor packages named by any import statement, however deeply nested."""
    names = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    names += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    return {name.split(".")[1] for name in names if name.startswith("reactor.")}


def parse(file: Path) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), str(file))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_only_point_down(file: Path) -> None:
    package = file.parts[1].removesuffix(".py")
    if package != "__init__":
        upward = {p for p in packages_imported(parse(file)) if RANK[p] > RANK[package]}
        assert not upward, f"reaches up to {sorted(upward)}"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_inside_the_package_names_come_from_their_module(file: Path) -> None:
    """`from reactor import x` would load everything from everywhere, and relative imports hide the layer."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            assert node.module != "reactor", f"imports from the facade at line {node.lineno}"


@pytest.mark.parametrize("file", USERS, ids=str)
def test_what_uses_the_public_api_uses_nothing_else(file: Path) -> None:
    assert packages_imported(parse(file)) <= PUBLIC_ONLY, "import names from `reactor`, as a user would"


PACKAGES = [file for file in FILES if file.name == "__init__.py" and len(file.parts) > 2]


@pytest.mark.parametrize("file", [file for file in PACKAGES if file.parts[1] != "client"], ids=str)
def test_packages_hold_only_a_docstring(file: Path) -> None:
    body = parse(file).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr), "a package's __init__ re-exports nothing"


@pytest.mark.parametrize("file", EVERY, ids=str)
def test_every_module_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(parse(file)), "module docstring: owns, promises, used by"


def test_the_client_needs_no_server() -> None:
    """`reactor.client` imports values and protocol only, so that it can be used without the engine."""
    allowed = {"errors", "limits", "ports", "values", "protocol", "client"}
    for file in FILES:
        if file.parts[1] == "client":
            assert packages_imported(parse(file)) <= allowed, file
