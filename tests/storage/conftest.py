"""`persistence`: every backend, open and empty."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reactor.storage.interface import Persistence
from reactor.storage.memory import MemoryPersistence
from reactor.storage.sqlite import SqlitePersistence


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def persistence(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Persistence]:
    backend: Persistence = MemoryPersistence() if request.param == "memory" else SqlitePersistence(tmp_path)
    await backend.open()
    yield backend
    await backend.close()
