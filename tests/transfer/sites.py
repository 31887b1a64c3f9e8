"""Deployments to move data between, and a fingerprint of all that one holds."""

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from reactor.engine.catalog import EXPORTS, IMPORTS
from reactor.limits import Limits
from reactor.server.app import Deployment

SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({
    "notes": define_table({"text": v.string(), "author": v.optional(v.id("users"))}).index("by_text", ["text"]),
    "things": define_table(v.any()),
    "users": define_table({"name": v.string()}).index("by_name", ["name"]),
})
"""
MOST_LOOKS = 10_000
FUNCTIONS = """
from reactor import mutation, query

@query
async def notes(ctx):
    return await ctx.db.query("notes").collect()

@query
async def by_text(ctx, text):
    return await ctx.db.query("notes").with_index("by_text", lambda q: q.eq("text", text)).collect()

@mutation
async def add(ctx, table, document):
    return await ctx.db.insert(table, document)

@mutation
async def remove(ctx, id):
    await ctx.db.delete(id)

@mutation
async def rename(ctx, id, text):
    await ctx.db.patch(id, {"text": text})
"""


def write_project(folder: Path, schema: str = SCHEMA) -> Path:
    (folder / "functions").mkdir(parents=True, exist_ok=True)
    (folder / "schema.py").write_text(schema)
    (folder / "functions" / "all.py").write_text(FUNCTIONS)
    return folder


class Site:
    """An open deployment, and an administrator's HTTP client for it."""

    def __init__(self, deployment: Deployment, client: httpx.AsyncClient) -> None:
        self.deployment, self.client = deployment, client

    @property
    def host(self) -> Any:
        return self.deployment._host

    @property
    def catalog(self) -> Any:
        return self.host.database.catalog

    async def state(self, import_id: str) -> dict[str, Any]:
        row = await self.query("_system/cli/queryImport", {"importId": import_id})
        state: dict[str, Any] = row["state"]
        return state

    async def query(self, path: str, args: dict[str, Any]) -> Any:
        answer = await self.client.post("/api/query", json={"path": path, "args": args, "format": "json"})
        assert answer.json()["status"] == "success", answer.text
        return answer.json()["value"]

    async def begin(
        self, content: bytes, format: str = "zip", mode: str = "requireEmpty", **more: str
    ) -> dict[str, Any]:
        """Upload, and return the import when it waits, or has failed."""
        token = (await self.client.post("/api/import/start_upload")).json()["uploadToken"]
        place = f"/api/import/upload_part?uploadToken={token}&partNumber="
        half = len(content) // 2
        parts = [
            (await self.client.post(f"{place}{number}", content=part)).json()
            for number, part in enumerate((content[:half], content[half:]), 1)
        ]
        body = {"import": {"format": format, "mode": mode, **more}, "uploadToken": token, "partTokens": parts}
        answer = await self.client.post("/api/import/finish_upload", json=body)
        if answer.status_code != 200:
            return {"state": "refused", **answer.json()}
        import_id = answer.json()["importId"]
        return {"id": import_id, **await self.after(import_id, "uploaded")}

    async def after(self, import_id: str, *passing: str) -> dict[str, Any]:
        """Return the first state of an import that is none of these."""
        for _ in range(MOST_LOOKS):
            state = await self.state(import_id)
            if state["state"] not in passing:
                return state
            await asyncio.sleep(0.005)
        raise AssertionError(f"still {state}")

    async def bring(
        self, content: bytes, format: str = "zip", mode: str = "requireEmpty", **more: str
    ) -> dict[str, Any]:
        """Import to the end, and return the last state."""
        state = await self.begin(content, format, mode, **more)
        if state["state"] != "waiting_for_confirmation":
            return state
        assert (await self.client.post("/api/perform_import", json={"importId": state["id"]})).status_code == 200
        return await self.after(state["id"], "in_progress")

    async def take(self, include_storage: bool = True) -> bytes:
        """Export, and return the archive."""
        asked = await self.client.post(f"/api/export/request/zip?includeStorage={str(include_storage).lower()}")
        assert asked.status_code == 200, asked.text
        for _ in range(MOST_LOOKS):
            row = await self.query("_system/cli/exports:getLatest", {})
            if row["state"] in ("completed", "failed"):
                break
            await asyncio.sleep(0.005)
        assert row["state"] == "completed", row
        answer = await self.client.get(f"/api/export/zip/{row['start_ts']}")
        assert answer.status_code == 200, answer.text
        return answer.content

    def everything(self) -> dict[str, Any]:
        """Return all tables with their documents and index keys, those that record transfers aside."""
        found: dict[str, Any] = {}
        for table in self.catalog.by_number.values():
            if table.name in (EXPORTS, IMPORTS):
                continue
            keys = {} if table.unloaded else {f: i.keys.chunk(b"", None, 1 << 30) for f, i in table.indexes.items()}
            documents = table.unloaded.writes if table.unloaded else dict(table.documents)
            found[table.name] = (table.number, documents, keys)
        return found

    async def fingerprint(self) -> str:
        """Return a hash over all tables, indexes, system tables and files, in memory and at rest."""
        digest = hashlib.sha256(repr(sorted(self.everything().items())).encode())
        database = self.host.database
        await database.tablets.settled()
        stored: set[int] = set(await database.persistence.tables())
        digest.update(repr(sorted(stored - set(database.catalog.by_tablet) - {1})).encode())
        blobs = self.host.files.blobs
        keys = sorted(blob.key for part in blobs.list() for blob in part)
        digest.update(repr(keys).encode())
        digest.update(repr(sorted(self.host.files.arriving)).encode())
        return digest.hexdigest()


@asynccontextmanager
async def site(folder: Path, data: str | Path = ":memory:", limits: Limits | None = None) -> AsyncIterator[Site]:
    async with Deployment(folder, data=data, limits=limits) as deployment:
        headers = {"Authorization": f"Convex {deployment.admin_key}"}
        transport = httpx.ASGITransport(app=deployment.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://site", headers=headers) as client:
            yield Site(deployment, client)


def archive(entries: dict[str, bytes | str | list[Any]]) -> bytes:
    """Return a zip; a list is lines of JSON."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            if isinstance(content, list):
                content = "".join(json.dumps(line) + "\n" for line in content)
            made.writestr(name, content)
    return stream.getvalue()


def lines(*documents: Any) -> bytes:
    return "".join(json.dumps(document) + "\n" for document in documents).encode()
