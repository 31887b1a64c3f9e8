"""What an identity may not call, decided before the runtime sees the call.

Used by the sync session and the HTTP API. Whether a function is public is the registry's matter, not this module's.
"""

from typing import Final

import msgspec

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.errors import Error

NO_PERMISSION: Final = "You do not have permission to perform this operation."  # the official CLI looks for this text
READ_ONLY: Final = f"{NO_PERMISSION} The admin key is read-only."
NEEDS_ADMIN: Final = f"{NO_PERMISSION} This endpoint needs an admin key."
TOKEN_EXPIRED: Final = "Convex token identity expired"


class Rights(msgspec.Struct, frozen=True):
    """On whose behalf calls are made. `denied` says why nothing is allowed, after a bad admin key."""

    identity: Identity = ANONYMOUS
    denied: str | None = None

    def refusal(self, path: str, component: str, *, writes: bool) -> str | None:
        """Return why `path` in `component` may not be called, or None if nothing here forbids it."""
        if self.denied is not None:
            return self.denied
        identity = self.identity
        if identity.kind != "admin" and (path.startswith("_system/") or component):
            return NO_PERMISSION
        if writes and identity.read_only:
            return READ_ONLY
        return None

    def check_component(self, component: str) -> None:
        """Refuse a call below the root component that no admin makes; who tried a bad key is answered instead.

        Raises:
            Error: which ends the connection, as Convex does.
        """
        if self.identity.kind != "admin" and self.denied is None:
            raise Error(f"Component {component!r} can only be named with an admin key.")
