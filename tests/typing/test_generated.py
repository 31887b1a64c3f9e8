"""Generated types as tests: each marked line fails to check, for the marked reasons, and no other line does.

Three checkers in their strict modes look at one project: mypy and pyright at functions, tests and clients in Python,
tsc at an official client. Both npm programs are installed beside the conformance tests.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from reactor.codegen import files
from reactor.runtime.loader import ProjectLoader
from tests.servers import CONFORMANCE, ROOT

HERE = Path(__file__).parent
MODULES = CONFORMANCE / "node_modules"
LIBRARY = ".library"
TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "lib": ["es2022", "dom"],
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": [],
    },
}
PYRIGHT = {
    "typeCheckingMode": "strict",
    "extraPaths": [LIBRARY],
    "reportUnusedExpression": False,
    "reportMissingTypeArgument": False,
}

Mistakes = set[tuple[str, int, str]]


def generate(folder: Path) -> None:
    """Write the generated files of the project in `folder`."""
    files.begin(folder)
    project = ProjectLoader(folder).load()
    try:
        files.write(files.generated_files(project, folder))
    finally:
        project.release()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    shutil.copytree(HERE / "app", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text('[tool.reactor]\ntypescript = "convex"\n')
    generate(folder)
    for name in ("uses_generated.py", "uses_generated.ts"):
        shutil.copy(HERE / name, folder)
    (folder / "node_modules").symlink_to(MODULES)
    (folder / LIBRARY).mkdir()
    (folder / LIBRARY / "reactor").symlink_to(ROOT / "reactor")  # and not the functions beside it
    return folder


def expected(name: str, checker: int = 0) -> Mistakes:
    """Return what is marked in a file; the reasons of several checkers stand apart by `|`."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    marks = ((number, line.partition("expect: ")[2]) for number, line in enumerate(lines, 1))
    return {
        (name, number, reason.strip())
        for number, mark in marks
        if mark
        for reason in mark.split("|")[checker].split(",")
    }


def run(folder: Path, *command: str | Path, **env: str) -> str:
    environ = {**os.environ, **env}
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=environ, capture_output=True, text=True, check=False
    ).stdout


def mypy(folder: Path, *names: str) -> str:
    flags = ("--strict", "--explicit-package-bases", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache"))
    return run(folder, sys.executable, "-m", "mypy", *flags, *names, MYPYPATH=str(folder / LIBRARY))


def pyright(folder: Path, *names: str) -> Mistakes:
    (folder / "pyrightconfig.json").write_text(json.dumps({**PYRIGHT, "include": names or ["."]}))
    program = MODULES / "pyright" / "index.js"
    assert program.is_file(), "run `make setup`, or `npm ci` in tests/conformance"
    output = json.loads(run(folder, "node", program, "--pythonpath", sys.executable, "--outputjson"))
    assert output["summary"]["filesAnalyzed"]
    return {
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1, found["rule"])
        for found in output["generalDiagnostics"]
        if found["severity"] == "error"
    }


def tsc(folder: Path, names: Iterable[str]) -> str:
    (folder / "tsconfig.json").write_text(json.dumps({**TSCONFIG, "files": list(names)}))
    program = MODULES / "typescript" / "bin" / "tsc"
    assert program.is_file(), "run `make setup`, or `npm ci` in tests/conformance"
    return run(folder, "node", program, "--project", ".", "--pretty", "false")


def test_mypy_finds_exactly_the_marked_mistakes(project: Path) -> None:
    output = mypy(project, ".")
    found = re.findall(r"^(?:.*/)?([\w.]+):(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE)
    assert {(name, int(line), code) for name, line, code in found} == expected("uses_generated.py"), output


def test_pyright_finds_exactly_the_marked_mistakes(node: str, project: Path) -> None:
    assert pyright(project) == expected("uses_generated.py", 1)


def test_tsc_finds_exactly_the_marked_mistakes(node: str, project: Path) -> None:
    output = tsc(project, ["uses_generated.ts"])
    found = re.findall(r"^([\w./]+)\((\d+),\d+\): error (TS\d+)", output, re.MULTILINE)
    assert {(name, int(line), code) for name, line, code in found} == expected("uses_generated.ts"), output


AWKWARD = {
    "schema.py": """
from reactor import define_schema, define_table, v

texts = v.optional(v.record(v.string(), v.array(v.array(v.string()))))
schema = define_schema({
    "foo_bar": define_table({"class": v.any(), "x": v.union(v.literal(1.5), v.literal("a'b\\"c"), v.literal(True))}),
    "fooBar": define_table({"nested": v.object({"import": v.array(v.object({"deep": texts}))})}),
    "list": define_table(v.object({})),
})
""",
    "functions/ai.py": """
from reactor import Int64, query, mutation, v

@query(args={"from": v.string(), "self": v.string(), "userId": v.string(), "user_id": v.any(),
             "ctx": v.literal(Int64(3)), "args": v.optional(v.id("_storage"))})
def list(ctx_, /, **others): ...

@query(name="import")
def imp(ctx): ...

@query
def builtins(ctx, str: str, list: int = 3) -> float: ...

@query(returns=v.union())
def _query(ctx): ...

@query
def __mangled(ctx): ...

@mutation(args=v.object({"a": v.union(v.object({"k": v.literal("x")}), v.object({"k": v.literal("y")}))}),
          returns=v.array(v.record(v.id("list"), v.bytes())))
def FooBarId(ctx, a): ...
""",
    "functions/ai/deep.py": """
from reactor import query

@query
def one(ctx): ...
""",
}


def test_awkward_names_make_types_that_check(node: str, tmp_path: Path) -> None:
    """Keywords, names of Python's own types and of other generated ones, tables that are spelled alike."""
    for name, text in AWKWARD.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pyproject.toml").write_text('[tool.reactor]\ntypescript = "convex"\n')
    generate(tmp_path)
    (tmp_path / LIBRARY).mkdir()
    (tmp_path / LIBRARY / "reactor").symlink_to(ROOT / "reactor")
    (tmp_path / "node_modules").symlink_to(MODULES)
    assert mypy(tmp_path, "_generated") == ""
    assert pyright(tmp_path, "_generated") == set()
    assert tsc(tmp_path, ["convex/api.d.ts", "convex/dataModel.d.ts"]) == ""


def test_the_types_of_the_application_check(node: str, tmp_path: Path) -> None:
    """They are not committed: every push of the application would change them, and this sees what is wrong in them."""
    for name in ("functions", "schema.py"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.reactor]\ntypescript = "convex"\n')
    generate(tmp_path)
    (tmp_path / LIBRARY).mkdir()
    (tmp_path / LIBRARY / "reactor").symlink_to(ROOT / "reactor")
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "seed.ts").write_text(
        'import { api } from "./convex/api.js";\n'
        'import type { Doc } from "./convex/dataModel.js";\n'
        "export const used = [api.ai.analytics.logAiRequest, api.ai.limits.checkRequestLimits];\n"
        'export type Log = Doc<"aiRequestLogs">;\n'
    )
    assert mypy(tmp_path, "_generated") == ""
    assert tsc(tmp_path, ["seed.ts"]) == ""
