"""Upload tokens: the part of an upload URL that allows storing files for a while, without any other identity.

A token carries the instance, the component and the time it was issued at, sealed under a key derived from the instance
secret; nothing is stored, and it can be used again until it expires. Used by `ctx.storage` and the upload endpoint.
"""

from typing import Final

import msgspec

from reactor.engine.sealing import Sealer
from reactor.errors import InvalidUploadToken

VALID_SECONDS: Final = 3600


class _Grant(msgspec.Struct, array_like=True, frozen=True):
    instance: str
    component: str
    issued_ns: int


class UploadTokens:
    """The upload tokens of one instance."""

    def __init__(self, instance: str, secret: bytes) -> None:
        self._instance = instance
        self._sealer = Sealer(secret, b"reactor uploads")

    def issue(self, now_ns: int, component: str) -> str:
        """Return a token for uploads into `component`, the path of an instance of one; empty is the application."""
        return self._sealer.seal(msgspec.msgpack.encode(_Grant(self._instance, component, now_ns)))

    def check(self, token: str, now_ns: int) -> str:
        """Return the component that `token` allows uploads into.

        Raises:
            InvalidUploadToken: rule `StorageTokenInvalid`, `InvalidStorageToken` (of another instance) or
                `StorageTokenExpired`.
        """
        content = self._sealer.unseal(token)
        if content is None:
            raise InvalidUploadToken(
                "StorageTokenInvalid", "The token of this upload URL is invalid. Get a new URL and upload again."
            )
        grant = msgspec.msgpack.decode(content, type=_Grant)
        if grant.instance != self._instance:
            raise InvalidUploadToken("InvalidStorageToken", "This upload URL was made by another deployment.")
        if now_ns >= grant.issued_ns + VALID_SECONDS * 10**9:
            raise InvalidUploadToken("StorageTokenExpired", "Store File Authorization expired")
        return grant.component
