"""Stored files in tests: stored, read and deleted by inline functions, and through their URLs."""

from base64 import b64encode
from hashlib import sha256
from typing import Any

import httpx
import pytest

from reactor.errors import DeterminismError, StoredFileNotFound
from reactor.testing.deployment import MemoryDeployment

CONTENT = b"some content"


async def test_a_file_is_stored_and_read(deployment: MemoryDeployment) -> None:
    async def read(ctx: Any) -> Any:
        file = await ctx.storage.get(id)
        return [file.size, file.content_type, await file.read()]

    id = await deployment.action(lambda ctx: ctx.storage.store(CONTENT, "text/plain"))
    assert await deployment.action(read) == [len(CONTENT), "text/plain", CONTENT]


async def test_its_document_describes_it(deployment: MemoryDeployment) -> None:
    id = await deployment.action(lambda ctx: ctx.storage.store(CONTENT, "text/plain"))
    document: Any = await deployment.query(lambda ctx: ctx.db.system.get(id))
    assert document.pop("_creationTime") >= deployment.clock.now_ms
    digest = b64encode(sha256(CONTENT).digest()).decode()
    assert document == {"_id": id, "size": len(CONTENT), "contentType": "text/plain", "sha256": digest}


async def test_a_deleted_file_is_gone(deployment: MemoryDeployment) -> None:
    id = await deployment.action(lambda ctx: ctx.storage.store(CONTENT))
    await deployment.run(lambda ctx: ctx.storage.delete(id))
    assert await deployment.action(lambda ctx: ctx.storage.get(id)) is None
    assert await deployment.query(lambda ctx: ctx.storage.get_url(id)) is None
    with pytest.raises(StoredFileNotFound):
        await deployment.action(lambda ctx: ctx.storage.delete(id))


async def test_urls_work(deployment: MemoryDeployment) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(deployment.asgi())) as browser:
        upload: Any = await deployment.run(lambda ctx: ctx.storage.generate_upload_url())
        answer = await browser.post(upload, content=CONTENT)
        id = answer.json()["storageId"]
        url: Any = await deployment.query(lambda ctx: ctx.storage.get_url(id))
        assert (await browser.get(url)).content == CONTENT


async def test_content_is_for_actions(deployment: MemoryDeployment) -> None:
    with pytest.raises(DeterminismError, match="consider using an action"):
        await deployment.run(lambda ctx: ctx.storage.store(CONTENT))


async def test_forks_have_the_files(deployment: MemoryDeployment) -> None:
    id = await deployment.action(lambda ctx: ctx.storage.store(CONTENT))
    async with deployment.fork() as fork:
        await deployment.run(lambda ctx: ctx.storage.delete(id))
        assert await fork.action(lambda ctx: ctx.storage.get_url(id)) is not None
