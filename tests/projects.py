"""Projects for one test, open in memory: of files that the test gives, or of those that a page shows."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.runtime.projects import write
from tests.servers import ROOT


@asynccontextmanager
async def opened(folder: Path, files: dict[str, str]) -> AsyncIterator[MemoryDeployment]:
    """Open a deployment of a project, and forget it afterwards."""
    project = ProjectLoader(write(folder, files)).load()
    try:
        async with MemoryDeployment(project, folder) as deployment:
            yield deployment
    finally:
        project.release()


@asynccontextmanager
async def opened_page(
    page: str, folder: Path, files: Mapping[str, str] | None = None
) -> AsyncIterator[MemoryDeployment]:
    """Open a deployment of the project that a page below docs/ shows, with `files` which it leaves out."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    shown = dict(re.findall(r"```python (\S+)\n(.*?)```", text, re.DOTALL))
    async with opened(folder, {**(files or {}), **shown}) as deployment:
        yield deployment
