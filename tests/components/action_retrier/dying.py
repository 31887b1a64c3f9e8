"""A deployment on disk, with a clock that stands still; as a program, one that starts a run and dies of it.

Arguments: the project, and the folder of the data.
"""

import asyncio
import sys
from pathlib import Path

from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project
from reactor.server.app import Deployment
from reactor.testing.deployment import MemoryDeployment


class DiskDeployment(MemoryDeployment):
    """A `MemoryDeployment` whose data stays."""

    _persistence = Deployment._persistence
    _blobs = Deployment._blobs

    def __init__(self, project: Project, folder: Path, data: Path) -> None:
        super().__init__(project, folder)
        self._data = data


async def main(folder: Path, data: Path) -> None:
    async with DiskDeployment(ProjectLoader(folder).load(), folder, data) as deployment:
        await deployment.mutation("jobs:run", action="die_once")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
