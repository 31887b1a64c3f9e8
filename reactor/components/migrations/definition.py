"""What one migration does to one batch of documents.

Owns the reading of a batch and the calls of the user's function, with the report of a dry run. A batch is read behind a
cursor, so that documents which come or go meanwhile make no other one be left out or changed twice. Used by
`Migrations.define`.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from reactor import MutationCtx, ReactorError

SHOWN_IN_DRY_RUN: Final = 10

_log: Final = logging.getLogger("migrations")  # its records become log lines of the function that runs
_log.setLevel(logging.INFO)

MigrateOne = Callable[[MutationCtx, dict[str, Any]], Any]
CustomRange = Callable[[Any], Any]


class Batches:
    """How the documents of one migration are read and changed."""

    def __init__(
        self, table: str, migrate_one: MigrateOne, custom_range: CustomRange | None, parallelize: bool
    ) -> None:
        self._table = table
        self._migrate_one = migrate_one
        self._custom_range = custom_range
        self._parallelize = parallelize

    async def run(self, ctx: MutationCtx, cursor: str | None, size: int, dry_run: bool) -> dict[str, Any]:
        """Change the next `size` documents, or fewer where they are large; return where the next batch begins.

        Raises:
            ReactorError: `{"kind": "DRY RUN", "result": …}`; always with `dry_run`, so that nothing stays.
            Exception: whatever the migration raised for a document.
        """
        # A migration is called by nobody, from whom row rules would hide what is to be changed.
        documents = ctx.db.unsafe.query(self._table)
        if self._custom_range is not None:
            documents = self._custom_range(documents)
        page = await documents.paginate(num_items=size, cursor=cursor)
        found = page["page"]
        if self._parallelize:
            await asyncio.gather(*(self._change(ctx, document) for document in found))
        else:
            for document in found:
                await self._change(ctx, document)
        result = {"continueCursor": page["continueCursor"], "isDone": page["isDone"], "processed": len(found)}
        if dry_run:
            await self._report(ctx, found)
            raise ReactorError({"kind": "DRY RUN", "result": result})
        return result

    async def _change(self, ctx: MutationCtx, document: dict[str, Any]) -> None:
        try:
            patch = self._migrate_one(ctx, dict(document))
            if inspect.isawaitable(patch):
                patch = await patch
            if patch is not None and not isinstance(patch, Mapping):
                raise TypeError(f"a migration returns the fields to change, as a dict, or None; not {patch!r}")
            if patch:
                await ctx.db.unsafe.patch(document["_id"], patch)
        except Exception:
            _log.error("Document failed: %s", document["_id"])
            raise

    async def _report(self, ctx: MutationCtx, before: list[dict[str, Any]]) -> None:
        shown = 0
        for document in before:
            after = await ctx.db.unsafe.get(document["_id"])
            if after != document and shown < SHOWN_IN_DRY_RUN:
                shown += 1
                _log.info("before: %s\nafter:  %s", document, "deleted" if after is None else after)
        _log.info("Dry run: %d documents read, nothing was written.", len(before))
