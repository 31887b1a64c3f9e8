"""What applications see of the documents of system tables.

Owns the translation of a stored document to the documented one: private fields are left out. Used by
`runtime/documents`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from reactor.engine.catalog import SCHEDULED_FUNCTIONS, STORED_FILES, Table
from reactor.runtime.files.documents import public_file
from reactor.runtime.jobs.documents import public_job

Publish = Callable[[dict[str, Any]], dict[str, Any]]


def published(table: Table) -> Publish:
    """Return what makes the documented form of a fresh stored document of `table`."""
    return _PUBLISHED.get(table.local_name, _whole)


def _whole(document: dict[str, Any]) -> dict[str, Any]:
    return document


_PUBLISHED: Final[Mapping[str, Publish]] = {SCHEDULED_FUNCTIONS: public_job, STORED_FILES: public_file}
