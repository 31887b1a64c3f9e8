"""The deploys that were made, in the one row that also names the deployed version.

They are written by the commit that switches the version, so that what runs and what a restart runs are the same; the
archives they name lie beside the data (`server/deploys/store`). Used by the push, and by whoever lists or repeats them.
"""

from typing import Any

import msgspec

from reactor.engine.catalog import DEPLOYMENT
from reactor.engine.database import Database
from reactor.protocol.deploys import Deploy

FIELD = "deploys"


def kept_deploys(database: Database) -> list[Deploy]:
    """Return the deploys that are kept, newest last."""
    (row,) = database.system_documents(DEPLOYMENT)
    return _of(row)


def with_deploy(row: dict[str, Any], deploy: Deploy, count: int) -> dict[str, Any]:
    """Return the field of `row` that also has `deploy`, and no more than the last `count` in all."""
    return {FIELD: msgspec.json.encode([*_of(row), deploy][-count:]).decode()}


def _of(row: dict[str, Any]) -> list[Deploy]:
    text = row.get(FIELD)
    return msgspec.json.decode(text, type=list[Deploy]) if isinstance(text, str) else []
