"""The fixture `deployment`, serving an application that keeps the results of an action."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment

FOLDER = Path(__file__).parent / "app"


@pytest.fixture(scope="session")
def caching() -> Iterator[Project]:
    project = ProjectLoader(FOLDER).load()
    yield project
    project.release()


@pytest.fixture(scope="session")
def make_deployment(caching: Project) -> Callable[[], MemoryDeployment]:
    return lambda: MemoryDeployment(caching, FOLDER)
