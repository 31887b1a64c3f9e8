"""The fixtures `deployment`, serving a project with a pool, and `pool`."""

from collections.abc import Callable, Iterator

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment
from tests.components.workpool.pools import FOLDER, Pool


@pytest.fixture(scope="session")
def pool_project() -> Iterator[Project]:
    project = ProjectLoader(FOLDER).load()
    yield project
    project.release()


@pytest.fixture(scope="session")
def make_deployment(pool_project: Project) -> Callable[[], MemoryDeployment]:
    return lambda: MemoryDeployment(pool_project, FOLDER)


@pytest.fixture
def pool(deployment: MemoryDeployment) -> Pool:
    return Pool(deployment)
