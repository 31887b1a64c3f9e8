"""The fixture `deployment`, serving an application with migrations and ten users."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment

FOLDER = Path(__file__).parent / "app"


@pytest.fixture(scope="session")
def migrating() -> Iterator[Project]:
    project = ProjectLoader(FOLDER).load()
    yield project
    project.release()


@pytest.fixture(scope="session")
def make_deployment(migrating: Project) -> Callable[[], MemoryDeployment]:
    return lambda: MemoryDeployment(migrating, FOLDER)
