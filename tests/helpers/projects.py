"""Deployments in memory for tests of helpers: a schema, functions that use a helper, and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.runtime.projects import write


@asynccontextmanager
async def opened(folder: Path, files: dict[str, str]) -> AsyncIterator[MemoryDeployment]:
    """Open a deployment of a project, and forget it afterwards."""
    project = ProjectLoader(write(folder, files)).load()
    try:
        async with MemoryDeployment(project, folder) as deployment:
            yield deployment
    finally:
        project.release()
