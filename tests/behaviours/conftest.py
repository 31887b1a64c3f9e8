"""The fixture `deployment`, serving the project of these tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment

FOLDER = Path(__file__).parents[1] / "fixtures" / "behaviours"


@pytest.fixture(scope="session")
def behaviours() -> Iterator[Project]:
    project = ProjectLoader(FOLDER).load()
    yield project
    project.release()


@pytest.fixture(scope="session")
def make_deployment(behaviours: Project) -> Callable[[], MemoryDeployment]:
    return lambda: MemoryDeployment(behaviours, FOLDER)
