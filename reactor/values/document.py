"""What makes an object a document.

Owns the rules a stored document adds to those of a value: its own limits, and the reserved `_` fields. Used by the
write phase of transactions, by import, and by the schema walk.
"""

from reactor.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_NESTING
from reactor.values.display import display
from reactor.values.size import ValueInvalid, too_large
from reactor.values.types import Value

SYSTEM_FIELDS = frozenset({"_id", "_creationTime"})


def check_document(document: dict[str, Value], nesting: int) -> None:
    """Check the nesting and the top-level field names of a normalised document.

    Raises:
        ValueInvalid: (`InvalidDocumentError`) it is nested too deeply, or has a `_` field other than the system's.
    """
    if nesting > MAX_DOCUMENT_NESTING:
        _refuse(
            document,
            f"Document is too nested (nested {nesting} levels deep > maximum nesting {MAX_DOCUMENT_NESTING})",
        )
    for name in document:
        if name.startswith("_") and name not in SYSTEM_FIELDS:
            _refuse(
                document,
                f"Field '{name}' starts with an underscore, which is only allowed for system fields like '_id'",
            )


def check_document_size(size: int) -> None:
    """Check the size in bytes of a document with its system fields.

    Raises:
        ValueInvalid: (`ValueTooLargeError`) it is over 1 MiB.
    """
    if size > MAX_DOCUMENT_BYTES:
        too_large(size, MAX_DOCUMENT_BYTES)


def _refuse(document: dict[str, Value], reason: str) -> None:
    raise ValueInvalid("InvalidDocumentError", f"Document(value: {display(document)}) isn't a valid document: {reason}")
