"""The fixture `deployment`, serving a project with a retrier."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment

FOLDER = Path(__file__).parent / "project"


@pytest.fixture(scope="session")
def retrier_project() -> Iterator[Project]:
    project = ProjectLoader(FOLDER).load()
    yield project
    project.release()


@pytest.fixture(scope="session")
def make_deployment(retrier_project: Project) -> Callable[[], MemoryDeployment]:
    return lambda: MemoryDeployment(retrier_project, FOLDER)
