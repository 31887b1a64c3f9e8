"""The deployment that tests get: in memory, on a virtual clock, with a project that was loaded once.

Promises that everything but time and the disk is the real thing, and that a fresh one costs milliseconds, since code
is not imported again. Used by the pytest plugin.
"""

from pathlib import Path

from reactor.runtime.loader import Project
from reactor.server.app import MEMORY, Deployment
from reactor.testing.clock import VirtualClock


class SharedProject(Project):
    """A loaded project that many deployments use at a time; the one who loaded it releases it."""

    def __init__(self, project: Project) -> None:
        self.__dict__.update(vars(project))

    def release(self) -> None:
        """Do nothing: a deployment that closes is not the last user."""


class MemoryDeployment(Deployment):
    """A `Deployment` for one test."""

    clock: VirtualClock

    def __init__(self, project: Project, folder: Path) -> None:
        super().__init__(folder, data=MEMORY, clock=VirtualClock())
        self._project = project

    async def open(self, *, load: bool = True) -> None:
        """Open with the project given; `reload` reads the folder, as always.

        Raises:
            InvalidArgument: it is open already.
        """
        await super().open(load=False)
        if load:
            await self.push(SharedProject(self._project))
