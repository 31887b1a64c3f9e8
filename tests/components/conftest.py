"""The fixture `deployment` of a component's tests, serving the folder `project` beside them, which mounts it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.testing.deployment import MemoryDeployment


@pytest.fixture(scope="session")
def projects() -> Iterator[dict[Path, Project]]:
    """Projects by folder: each is loaded once."""
    found: dict[Path, Project] = {}
    yield found
    for project in found.values():
        project.release()


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    return request.path.parent / "project"


@pytest.fixture(scope="module")
def project(folder: Path, projects: dict[Path, Project]) -> Project:
    if folder not in projects:
        projects[folder] = ProjectLoader(folder).load()
    return projects[folder]


@pytest.fixture(scope="module")
def make_deployment(folder: Path, project: Project) -> Callable[[], MemoryDeployment]:
    return lambda: MemoryDeployment(project, folder)
