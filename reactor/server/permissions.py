"""What an identity may not call, decided before the runtime sees the call.

Used by the sync session and the HTTP API. Whether a function is public is the registry's matter, not this module's.
"""

from typing import Final

from reactor.runtime.calls import Identity

NO_PROVIDER: Final = (
    "No auth provider found matching the given token (no providers configured). Check functions/auth_config.py."
)
NO_PERMISSION: Final = "You do not have permission to perform this operation."  # the official CLI looks for this text
NO_ACTIONS: Final = "Actions are not supported yet by this version of reactor. Use a query or a mutation."


def refusal(path: str, component: str, identity: Identity, *, writes: bool) -> str | None:
    """Return why `identity` may not call `path` in `component`, or None if nothing here forbids it."""
    if identity.kind != "admin" and (path.startswith("_system/") or component):
        return NO_PERMISSION
    if writes and identity.read_only:
        return f"{NO_PERMISSION} The admin key is read-only."
    if component:
        return f"Could not find component '{component}': this deployment has no components."
    return None
