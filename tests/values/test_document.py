"""What makes an object a document."""

from typing import Any

import pytest

from reactor.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_NESTING
from reactor.values.document import check_document, check_document_size
from reactor.values.size import ValueInvalid


@pytest.mark.parametrize("document", [{}, {"a": 1.0}, {"_id": "x", "_creationTime": 1.0}, {"a": {"_x": 1.0}}])
def test_documents(document: dict[str, Any]) -> None:
    check_document(document, MAX_DOCUMENT_NESTING)


def test_reserved_fields_are_refused() -> None:
    with pytest.raises(ValueInvalid) as failure:
        check_document({"_x": 1.0}, 1)

    assert failure.value.rule == "InvalidDocumentError"
    assert str(failure.value) == (
        "Document(value: {_x: 1.0}) isn't a valid document: Field '_x' starts with an underscore, which is only "
        "allowed for system fields like '_id'"
    )


def test_deep_documents_are_refused() -> None:
    with pytest.raises(ValueInvalid) as failure:
        check_document({"a": [1.0]}, 17)

    assert failure.value.rule == "InvalidDocumentError"
    assert str(failure.value) == (
        "Document(value: {a: [1.0]}) isn't a valid document: "
        "Document is too nested (nested 17 levels deep > maximum nesting 16)"
    )


def test_large_documents_are_refused() -> None:
    check_document_size(MAX_DOCUMENT_BYTES)

    with pytest.raises(ValueInvalid, match=r"^Value is too large \(1\.00 MiB > maximum size 1 MiB\)$"):
        check_document_size(MAX_DOCUMENT_BYTES + 1)
