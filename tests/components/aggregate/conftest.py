"""The fixture `deployment`, serving a project that mounts the component."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment

FOLDER = Path(__file__).parent / "project"


@pytest.fixture(scope="session")
def aggregating() -> Iterator[Project]:
    project = ProjectLoader(FOLDER).load()
    yield project
    project.release()


@pytest.fixture(scope="session")
def make_deployment(aggregating: Project) -> Callable[[], MemoryDeployment]:
    return lambda: MemoryDeployment(aggregating, FOLDER)
