"""Tests of loading projects: what imports find, what errors say, and what a reload leaves behind."""

import gc
import linecache
import os
import sys
import traceback
import types
import weakref
from pathlib import Path

import pytest

import reactor.runtime.decorators
from reactor.errors import PushError
from reactor.runtime.determinism import PROJECT_PREFIX
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project, read_options
from tests.runtime.projects import loaded, write

PING = "from reactor import query\n@query\ndef ping(ctx): return 'pong'\n"
ROUTES = "from reactor import http_router\nhttp = http_router()\n"


def call(project: Project, path: str, /, **args: object) -> object:
    found = project.registry.lookup(path)
    assert found is not None, path
    return found.function(None, **args)


def private_modules() -> set[str]:
    return {name for name in sys.modules if name.startswith(PROJECT_PREFIX)}


def test_functions_are_found_in_every_module_and_folder(tmp_path: Path) -> None:
    files = {
        "functions/messages.py": PING,
        "functions/ai/analytics.py": PING,
        "functions/_helpers.py": PING,
        "functions/_lib/more.py": PING,
        "functions/notes.txt": "not Python",
    }
    with loaded(tmp_path, files) as project:
        assert set(project.registry.functions) == {"messages:ping", "ai/analytics:ping"}


@pytest.mark.parametrize("init", [True, False])
def test_every_form_of_import_finds_the_project(tmp_path: Path, init: bool) -> None:
    files = {
        "schema.py": "from reactor import define_schema\nschema = define_schema({})\nMARK = 'schema'\n",
        "functions/lib/keys.py": "def digest(): return 'digest'\n",
        "functions/lib/near.py": "from .keys import digest\nfrom . import keys\nfrom ..lib import keys as again\n",
        "shared/text.py": "WORD = 'shared'\n",
        "single.py": "WORD = 'single'\n",
        "functions/user.py": """
            import functions.lib.keys
            import functions.lib.keys as k
            import functions.lib.near
            import schema
            import shared.text, os.path
            from functions.lib import keys
            from functions.lib.keys import *
            from functions.lib.keys import digest as renamed
            from reactor import query
            from single import WORD
            from . import lib

            @query
            def check(ctx):
                assert functions.lib.keys is k is keys is lib.keys is functions.lib.near.again
                assert digest() == renamed() == "digest"
                return [schema.MARK, shared.text.WORD, WORD, os.path.sep]
        """,
    }
    if init:
        files |= {"functions/__init__.py": "", "functions/lib/__init__.py": "", "shared/__init__.py": ""}
    known = set(sys.modules)  # which has this repository's own functions where a test has imported them
    with loaded(tmp_path, files) as project:
        assert call(project, "user:check") == ["schema", "shared", "single", os.path.sep]
        assert not {"functions", "functions.lib", "single"} & (sys.modules.keys() - known)


def test_function_modules_shadow_nothing(tmp_path: Path) -> None:
    files = {
        "functions/http.py": PING + ROUTES,
        "functions/types.py": PING,
        "functions/json.py": PING,
        "functions/user.py": """
            import http.client, json, types
            from reactor import query

            @query
            def check(ctx):
                return [http.client.OK, json.dumps([]), types.ModuleType.__name__]
        """,
    }
    with loaded(tmp_path, files) as project:
        assert call(project, "user:check") == [200, "[]", "module"]
        assert call(project, "http:ping") == "pong"
        assert types.ModuleType is sys.modules["types"].ModuleType


def test_the_installed_reactor_and_standard_library_win_over_the_root(tmp_path: Path) -> None:
    files = {
        "reactor/__init__.py": "raise AssertionError",
        "logging.py": "raise AssertionError",
        "tests/__init__.py": "WHOSE = 'project'",
        "msgspec/data.txt": "a folder, not a package",
        "functions/user.py": """
            import logging, msgspec
            import tests
            from reactor import query
            import reactor.runtime.decorators as decorators
            assert msgspec.Struct and logging.getLogger

            @query
            def check(ctx):
                return [decorators, tests.WHOSE]
        """,
    }
    with loaded(tmp_path, files) as project:
        assert call(project, "user:check") == [reactor.runtime.decorators, "project"]


def test_circular_imports_work_as_in_plain_python(tmp_path: Path) -> None:
    files = {
        "functions/a.py": PING
        + "from functions import b\nimport functions.c as c\ndef name(): return 'a' + b.name()\n",
        "functions/b.py": PING + "import functions.a\ndef name(): return 'b' + c.__name__[-1]\nfrom . import c\n",
        "functions/c.py": PING + "import functions.b as b\nfrom functions import a\n",
    }
    with loaded(tmp_path, files) as project:
        assert project.modules["functions.a"].name() == "abc"


def test_a_circular_import_that_plain_python_refuses_names_the_users_modules(tmp_path: Path) -> None:
    write(
        tmp_path, {"functions/a.py": "from functions.b import x\ny = 1", "functions/b.py": "from functions.a import y"}
    )
    with pytest.raises(PushError) as failure:
        ProjectLoader(tmp_path).load()
    assert "partially initialized module 'functions.a'" in str(failure.value)
    assert PROJECT_PREFIX not in str(failure.value)
    assert failure.value.file == str(tmp_path / "functions" / "b.py")


def test_two_projects_in_one_process_see_only_themselves(tmp_path: Path) -> None:
    source = """
        from reactor import query
        from functions.lib import NAME

        @query
        def name(ctx):
            import functions.late
            return [NAME, functions.late.NAME]
    """
    one = {"functions/m.py": source, "functions/lib.py": "NAME = 1", "functions/late.py": "NAME = 11"}
    two = {"functions/m.py": source, "functions/lib.py": "NAME = 2", "functions/late.py": "NAME = 22"}
    with loaded(tmp_path / "one", one) as first, loaded(tmp_path / "two", two) as second:
        assert call(second, "m:name") == [2, 22]
        assert call(first, "m:name") == [1, 11]


def test_a_module_beside_a_folder_of_its_name_is_a_namespace_too(tmp_path: Path) -> None:
    files = {
        "functions/ai.py": PING + "from .lib import WORD\nfrom functions.ai import analytics\n",
        "functions/lib.py": "WORD = 'relative to functions'",
        "functions/ai/analytics.py": PING + "import functions.ai\n",
    }
    with loaded(tmp_path, files) as project:
        assert set(project.registry.functions) == {"ai:ping", "ai/analytics:ping"}
        assert project.modules["functions.ai"].WORD == "relative to functions"


def test_ordinary_python_works_in_user_modules(tmp_path: Path) -> None:
    files = {
        "functions/shapes.py": """
            from __future__ import annotations
            import dataclasses, enum, pickle, typing

            if __name__ == "__main__":
                raise AssertionError

            @dataclasses.dataclass
            class Point:
                x: int
                kind: typing.ClassVar[str] = "point"
                next: Point | None = None

            class Options(typing.TypedDict, total=False):
                point: Point

            class Named(typing.NamedTuple):
                name: str

            class Colour(enum.Enum):
                RED = 1

            def check():
                values = [Point(1, Point(2)), Named("n"), Colour.RED]
                assert pickle.loads(pickle.dumps(values)) == values
                assert typing.get_type_hints(Point)["next"] == Point | None
                assert typing.get_type_hints(Options) == {"point": Point}
                assert [field.name for field in dataclasses.fields(Point)] == ["x", "next"]
                assert eval("Point(3).x") == 3
                return True
        """,
    }
    with loaded(tmp_path, files) as project:
        assert project.modules["functions.shapes"].check()


def test_exports_are_what_a_namespace_defines_or_makes(tmp_path: Path) -> None:
    files = {
        "functions/users.py": """
            from reactor import query
            @query(name="list")
            def list_users(ctx): return 1
            alias = list_users
        """,
        "functions/_made.py": """
            from reactor import query
            def make(value):
                @query
                def handler(ctx):
                    return value
                return handler
            @query
            def shared(ctx): return "shared"
        """,
        "functions/factory.py": "from functions._made import make\nclass NotOne: pass\n",
        "functions/messages.py": """
            from functions.users import list_users
            from functions._made import shared
            from functions.factory import make
            first, second = make(1), make(2)
        """,
    }
    with loaded(tmp_path, files) as project:
        paths = {"users:list", "messages:first", "messages:second", "messages:shared"}
        assert set(project.registry.functions) == paths
        assert call(project, "messages:second") == 2
        assert {found.function.path for found in project.registry.functions.values()} == paths


def digests(root: Path) -> dict[str, str]:
    project = ProjectLoader(root).load()
    project.release()
    return project.digests


def test_an_edit_changes_the_digest_of_exactly_what_imports_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "schema.py": "from reactor import define_schema\nschema = define_schema({})\n",
            "functions/direct.py": "from functions._lib.keys import f",
            "functions/lazy.py": "def g():\n    from ._lib import keys\n    return keys",
            "functions/indirect.py": "import functions.direct",
            "functions/unrelated.py": "import functions.other\nfrom functions._lib import more",
            "functions/other.py": "import json",
            "functions/plugins/__init__.py": "import importlib\nfound = importlib.import_module(__name__ + '._one')",
            "functions/plugins/_one.py": "import functions._lib.keys",
            "functions/_lib/keys.py": "def f(): return 1",
            "functions/_lib/more.py": "",
        },
    )
    before = digests(tmp_path)
    write(tmp_path, {"functions/_lib/keys.py": "def f(): return 2"})
    after = digests(tmp_path)
    changed = {name for name in before if before[name] != after[name]}
    assert {"functions.direct", "functions.lazy", "functions.indirect", "functions._lib.keys"} <= changed
    assert not changed & {"schema", "functions.unrelated", "functions.other", "functions._lib.more"}


def test_an_edit_of_the_same_length_within_the_same_second_is_seen(tmp_path: Path) -> None:
    file = write(tmp_path, {"functions/m.py": PING}) / "functions" / "m.py"
    stamp = file.stat()
    first = ProjectLoader(tmp_path).load()
    file.write_text(PING.replace("pong", "gong"))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    second = ProjectLoader(tmp_path).load()
    assert (call(first, "m:ping"), call(second, "m:ping")) == ("pong", "gong")
    assert first.registry.functions["m:ping"].digest != second.registry.functions["m:ping"].digest
    assert not list(tmp_path.rglob("*.pyc"))
    first.release()
    second.release()


def test_a_late_import_gives_the_version_it_belongs_to(tmp_path: Path) -> None:
    files = {
        "functions/m.py": """
            from reactor import query

            @query
            def late(ctx):
                from functions._late import VALUE
                import functions._deeper as deeper
                return [VALUE, deeper.VALUE]
        """,
        "functions/_late.py": "from functions._deeper import VALUE",
        "functions/_deeper.py": "VALUE = 1",
    }
    first = ProjectLoader(write(tmp_path, files)).load()
    write(tmp_path, {"functions/_deeper.py": "VALUE = 2"})
    second = ProjectLoader(tmp_path).load()
    write(tmp_path, {"functions/_deeper.py": "VALUE = 3", "functions/_late.py": "syntax error"})
    assert call(second, "m:late") == [2, 2]
    assert call(first, "m:late") == [1, 1]
    first.release()
    assert call(second, "m:late") == [2, 2]
    second.release()


@pytest.mark.parametrize(
    ("files", "file", "line", "text"),
    [
        ({"functions/m.py": "x = 1\nif x\n"}, "functions/m.py", 2, "SyntaxError: expected ':'"),
        ({"functions/m.py": "x = 1\nreturn x\n"}, "functions/m.py", 2, "SyntaxError: 'return' outside function"),
        ({"functions/m.py": "x = 1\0"}, "functions/m.py", 1, "null bytes"),
        ({"functions/m.py": "import math\n\nmath.sqrt('x')"}, "functions/m.py", 3, "TypeError: must be real number"),
        ({"functions/m.py": "import functions._l", "functions/_l.py": "\n\n1 / 0"}, "functions/_l.py", 3, "ZeroDiv"),
        ({"functions/m.py": "import nowhere_at_all"}, "functions/m.py", 1, "No module named 'nowhere_at_all'"),
        ({"functions/m.py": "\nimport functions.gone"}, "functions/m.py", 2, "No module named 'functions.gone'"),
        ({"functions/m.py": "from functions import gone"}, "functions/m.py", 1, "cannot import name 'gone' from 'func"),
        ({"functions/m.py": "\nraise SystemExit(3)"}, "functions/m.py", 2, "SystemExit: 3"),
        ({"functions/m.py": "\nimport ast\nast.parse('(')"}, "functions/m.py", 3, "SyntaxError"),
        ({"schema.py": "x = 1"}, "schema.py", None, "must export `schema`"),
        ({"schema.py": "\nimport reactor\nschema = reactor.define_schema({'_x': 1})"}, "schema.py", 3, "SchemaInvalid"),
        ({"functions/my-module.py": ""}, "functions/my-module.py", None, "may only hold letters"),
        ({"functions/m.py": "", "functions/m/__init__.py": ""}, "functions/m.py", None, "hidden by m/__init__.py"),
        ({"pyproject.toml": "[tool.reactor]\nshema = 'x'"}, "pyproject.toml", None, "unknown field `shema`"),
        ({"pyproject.toml": "[tool.reactor"}, "pyproject.toml", None, "pyproject.toml"),
    ],
)  # fmt: skip
def test_a_failure_says_where_and_leaves_nothing_behind(
    tmp_path: Path, files: dict[str, str], file: str, line: int | None, text: str
) -> None:
    loader = ProjectLoader(write(tmp_path, {"functions/aaa.py": PING} | files))
    before = private_modules()
    with pytest.raises(PushError, match=r"(?s).") as failure:
        loader.load()
    assert text in str(failure.value)
    assert (failure.value.file, failure.value.line) == (str(tmp_path / file), line)
    assert str(failure.value).startswith(file)
    assert private_modules() == before
    if file.endswith(".py") and line is not None:
        assert tmp_path / file in loader.seen


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(PushError, match="is not a directory"):
        ProjectLoader(tmp_path / "nowhere").load()


def test_a_project_may_be_empty(tmp_path: Path) -> None:
    with loaded(tmp_path, {}) as project:
        assert project.registry.functions == {}
        assert project.schema.tables == {}
        assert not project.schema.strict_table_names


def test_options_name_the_places(tmp_path: Path) -> None:
    files = {
        "pyproject.toml": "[tool.reactor]\nschema = 'backend/tables.py'\nfunctions = 'backend/api'\nenv = ['RATE_*']\n",
        "backend/tables.py": "from reactor import define_schema\nschema = define_schema({})\n",
        "backend/api/http.py": PING
        + ROUTES
        + "from backend.tables import schema\nfrom ..tables import schema as again\n",
    }
    with loaded(tmp_path, files) as project:
        assert set(project.registry.functions) == {"http:ping"}
        assert project.options.env == ("RATE_*",)
        module = project.namespace("http")
        assert module is not None
        assert module.schema is project.schema
        assert project.namespace("crons") is None


def test_a_project_without_options_has_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "[project]\nname = 'x'"})
    assert read_options(tmp_path).functions == "functions"


def test_a_caught_import_error_speaks_of_the_users_names(tmp_path: Path) -> None:
    files = {
        "functions/m.py": """
            from reactor import query
            try:
                import functions.optional.part
            except ModuleNotFoundError as error:
                found = (str(error), error.name)
        """
    }
    with loaded(tmp_path, files) as project:
        assert project.modules["functions.m"].found == ("No module named 'functions.optional'", "functions.optional")


def test_tracebacks_show_the_users_source(tmp_path: Path) -> None:
    files = {"functions/m.py": "from reactor import query\n@query\ndef fail(ctx):\n    return 1 / ctx  # the line\n"}
    with loaded(tmp_path, files) as project:
        linecache.checkcache()
        with pytest.raises(ZeroDivisionError) as failure:
            project.registry.functions["m:fail"].function(0)
        last = traceback.extract_tb(failure.value.__traceback__)[-1]
        assert (last.filename, last.lineno, last.name) == (str(tmp_path / "functions/m.py"), 4, "fail")
        assert last.line == "return 1 / ctx  # the line"


RICH_MODULE = """
    import dataclasses, logging, typing
    from typing import Optional
    import msgspec
    from reactor import mutation, query, v
    from functions._lib import Base

    log = logging.getLogger(__name__)

    class Options(typing.TypedDict):
        name: str

    @dataclasses.dataclass
    class Point(Base):
        x: int
        next: Optional["Options"] = None

    Maybe = Optional[Point]

    class Shape(msgspec.Struct):
        points: list[Point]

    @query
    async def shapes(ctx, shape: Shape, options: Optional[Options] = None) -> list[Point]:
        from functions import _late
        log.info("here")
        return shape.points

    @mutation(args={"userId": v.string()})
    def save(ctx, user_id): ...
"""


def test_fifty_loads_leave_one_generation(tmp_path: Path) -> None:
    files = {"functions/_lib.py": "class Base: pass", "functions/_late.py": "", "functions/m.py": RICH_MODULE}
    loader = ProjectLoader(write(tmp_path, files))
    others = private_modules()  # of projects that other tests keep loaded
    watched: list[weakref.ref[object]] = []
    project = None
    for _ in range(50):
        if project is not None:
            project.release()
            project.release()
        project = loader.load()
        module = project.modules["functions.m"]
        found = project.registry.functions["m:shapes"]
        found.binder.bind({"shape": {"points": [{"x": 1.0}]}})
        watched += [weakref.ref(thing) for thing in (module, found.function, found.function.handler, module.Point)]
        del module, found
    gc.collect()
    assert sum(reference() is not None for reference in watched) == 4
    assert project is not None
    assert all(name.startswith(project.package) for name in private_modules() - others)
    project.release()
    assert private_modules() <= others
