"""The pytest plugin: the fixture `deployment`, the real engine in memory with the project of the tests.

pytest imports this module wherever reactor is installed, so it imports nothing of reactor until the fixture is used.
Promises a fresh deployment for each test and one load of the project per run. Coroutine tests that use the fixture,
directly or through another, run under pytest-asyncio without a marker; plain tests call `deployment.blocking()`. A
project that overrides the fixture `prepared_deployment` gets deployments that start with its data.
"""

import inspect
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

if TYPE_CHECKING:
    from reactor.runtime.project import Project
    from reactor.testing.deployment import MemoryDeployment, Snapshot

_OTHER_LOOPS: Final = ("asyncio", "anyio", "trio")  # markers of plugins that run coroutine tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini options: where the project is, and how often a run is repeated."""
    parser.addini(
        "reactor_project", "folder of the project that the fixture `deployment` serves, from the rootdir", default="."
    )
    parser.addini(
        "reactor_component",
        "package of a component: the fixture `deployment` serves an application that mounts it and has nothing else",
        default="",
    )
    parser.addini(
        "reactor_determinism_sample",
        "one run of a query or mutation in so many is repeated by the fixture `deployment`, and compared (0: none)",
        default="0",
    )


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Mark coroutine tests that use the fixture, before pytest-asyncio looks for its marker."""
    made = yield
    for item in made if isinstance(made, list) else [made]:
        if (
            isinstance(item, pytest.Function)
            and "deployment" in item.fixturenames
            and inspect.iscoroutinefunction(inspect.unwrap(item.obj))
            and not any(item.get_closest_marker(name) for name in _OTHER_LOOPS)
        ):
            item.add_marker("asyncio")
    return made


@pytest.fixture(scope="session")
def _reactor_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = str(request.config.getini("reactor_component"))
    if not package:
        return _project_folder(request.config)
    from reactor.testing.components import write_app

    return write_app(tmp_path_factory.mktemp("component"), package)


@pytest.fixture(scope="session")
def _reactor_project(_reactor_folder: Path) -> "Iterator[Project]":
    from reactor.runtime.loader import ProjectLoader

    project = ProjectLoader(_reactor_folder).load()
    yield project
    project.release()


@pytest.fixture
def deployment(request: pytest.FixtureRequest) -> "MemoryDeployment":
    """A fresh deployment of the project: open in coroutine tests, to be opened with `blocking()` in plain ones."""
    function = getattr(request.node, "obj", None)
    if function is None or not inspect.iscoroutinefunction(inspect.unwrap(function)):
        return cast("MemoryDeployment", request.getfixturevalue("_reactor_closed_deployment"))
    from reactor.testing.loops import open_fixture

    marker = request.node.get_closest_marker("asyncio")
    scope = (marker and marker.kwargs.get("loop_scope")) or request.config.getini("asyncio_default_test_loop_scope")
    return cast("MemoryDeployment", request.getfixturevalue(open_fixture(scope)))


@pytest.fixture(scope="session")
def make_deployment(
    _reactor_project: "Project", _reactor_folder: Path, request: pytest.FixtureRequest
) -> "Callable[[], MemoryDeployment]":
    """Makes fresh deployments, not open yet, for fixtures and tests that need more than one."""
    from reactor.testing.deployment import MemoryDeployment

    sample = _determinism_sample(request.config)
    return lambda: MemoryDeployment(_reactor_project, _reactor_folder, determinism_sample=sample)


@pytest.fixture(scope="session")
def prepared_deployment() -> "Snapshot | None":
    """What `deployment` starts from: nothing, unless a project's own fixture of this name returns a snapshot."""
    return None


@pytest.fixture
def _reactor_closed_deployment(
    make_deployment: "Callable[[], MemoryDeployment]", prepared_deployment: "Snapshot | None"
) -> "MemoryDeployment":
    return make_deployment() if prepared_deployment is None else prepared_deployment.fork()


def _project_folder(config: pytest.Config) -> Path:
    folder = config.rootpath / str(config.getini("reactor_project"))
    if not folder.is_dir():
        raise pytest.UsageError(f"reactor_project = {folder} is not a folder")
    return folder


def _determinism_sample(config: pytest.Config) -> int:
    text = str(config.getini("reactor_determinism_sample"))
    if not text.isdecimal():
        raise pytest.UsageError(f"reactor_determinism_sample = {text} is not a number of runs")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures of coroutine tests where pytest-asyncio is there to run them."""
    if config.pluginmanager.has_plugin("asyncio"):
        from reactor.testing import loops

        config.pluginmanager.register(loops, "reactor-loops")
