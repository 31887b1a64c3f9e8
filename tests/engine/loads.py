"""Storage whose loads are counted, and wait when a test asks for it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from reactor.storage.interface import Persistence, StoredDocument
from tests.storage.faults import FaultyPersistence


class LoadingPersistence(FaultyPersistence):
    """`loaded` counts the loads begun, by table number; `hold_loads` stops them before each chunk."""

    def __init__(self, inner: Persistence) -> None:
        super().__init__(inner)
        self.loaded: Counter[int] = Counter()
        self._loads_pass = asyncio.Event()
        self._loads_pass.set()
        self._load_waits = asyncio.Event()

    def hold_loads(self) -> None:
        """Make loads wait."""
        self._loads_pass.clear()

    def release_loads(self) -> None:
        """Let loads go on."""
        self._loads_pass.set()

    async def load_held(self) -> None:
        """Wait until a load waits."""
        await self._load_waits.wait()

    async def load(self, table: int) -> AsyncIterator[list[StoredDocument]]:
        self.loaded[table] += 1
        await self._pass()
        async for chunk in super().load(table):
            yield chunk
            await self._pass()

    async def _pass(self) -> None:
        if not self._loads_pass.is_set():
            self._load_waits.set()
            await self._loads_pass.wait()
            self._load_waits.clear()
