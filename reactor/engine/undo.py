"""Undoing commits that did not reach the log: a commit of its own that puts back what stood there before them.

Owns what such a commit writes. Promises that every document the lost commits wrote is in it, as the log has it, so that
a follower and a restart read the same story whether or not they ever saw the lost ones (`design.md` §4, 5). Used by the
database.
"""

from collections.abc import Iterable
from typing import Final

from reactor.engine.catalog import COMPONENTS, DEPLOYMENT, FUNCTION_HANDLES, MODULES, TABLES, id_key
from reactor.engine.history import LATEST, Latest
from reactor.engine.transaction import PendingWrite, Transaction
from reactor.storage.interface import Record
from reactor.values.stored import decode_object

# Tables and deployed code exist outside the documents too, and stay: these rows are written again, not put back.
_STAYING: Final = frozenset((TABLES, MODULES, DEPLOYMENT, FUNCTION_HANDLES, COMPONENTS))


def stage_undo(transaction: Transaction, lost: Iterable[Record], end: int) -> None:
    """Stage, on the latest state, what stood at `end` wherever `lost` wrote.

    The bounds of a transaction do not hold here: what was lost may have been many.
    """
    for record in lost:
        for write in record.writes:
            table = transaction.catalog.by_tablet.get(write.table)
            if table is None or write.id in transaction.writes:
                continue
            key = id_key(write.id)
            standing = table.documents.get(key)
            # Not `read_at`: documents that were replaced as a whole since `end` stay replaced, since `_tables` stays.
            stood = LATEST if table.name in _STAYING else table.history.at(key, end)
            wanted = standing if isinstance(stood, Latest) else stood
            pending = PendingWrite(table, write.id, key, standing, decode_object(standing) if standing else None)
            pending.after = wanted
            pending.new = decode_object(wanted) if wanted else None
            transaction.writes[write.id] = pending
