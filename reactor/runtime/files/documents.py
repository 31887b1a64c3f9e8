"""Stored files as documents: what stands in `_storage`.

Owns the fields of such a document. Used by `ctx.storage`, by stored files, and by the endpoints for uploads and
downloads.

    uuid         private: by which its URL names the file
    blob         private: the key of its content in the blob store
    sha256       of the content, in base64
    size         in bytes
    contentType  as it was stored with; absent for none
"""

import re
from base64 import b64encode
from typing import Any, Final

import msgspec

from reactor.limits import MAX_CONTENT_TYPE_LENGTH
from reactor.storage.interface import Written
from reactor.values.stored import decode_object
from reactor.values.types import Value

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CONTENT_TYPE: Final = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[\x20-\x7e]*)?")


class FileRow(msgspec.Struct, frozen=True):
    """One document of `_storage`, with what applications do not see of it."""

    id: str
    uuid: str
    key: str
    sha256: str  # base64
    size: int
    content_type: str | None

    @classmethod
    def of(cls, data: bytes) -> "FileRow":
        """Return the row whose stored form is `data`."""
        return cls.from_document(decode_object(data))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "FileRow":
        """Return the row that `document` is."""
        return cls(
            document["_id"],
            document["uuid"],
            document["blob"],
            document["sha256"],
            int(document["size"]),
            document.get("contentType"),
        )


def public_file(document: dict[str, Any]) -> dict[str, Any]:
    """Return what applications see of a file's document, which becomes that."""
    del document["uuid"], document["blob"]
    return document


class Incoming(msgspec.Struct, frozen=True):
    """Content that is durable and has no document yet."""

    uuid: str
    key: str
    written: Written
    content_type: str | None

    @property
    def fields(self) -> dict[str, Value]:
        """The fields of its document."""
        fields: dict[str, Value] = {
            "uuid": self.uuid,
            "blob": self.key,
            "sha256": b64encode(self.written.sha256).decode(),
            "size": float(self.written.size),
        }
        if self.content_type is not None:
            fields["contentType"] = self.content_type
        return fields


def is_content_type(text: object) -> bool:
    """Whether `text` can stand in a `Content-Type` header: such as `text/plain; charset=utf-8`."""
    return isinstance(text, str) and len(text) <= MAX_CONTENT_TYPE_LENGTH and _CONTENT_TYPE.fullmatch(text) is not None
