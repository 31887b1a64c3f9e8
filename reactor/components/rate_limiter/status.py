"""What a limit answers: `Status`, and the error of those who would rather have one raised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reactor import ReactorError, v

RATE_LIMITED: Final = "RateLimited"
STATUS: Final = v.object({"ok": v.boolean(), "retryAfter": v.optional(v.number())})  # as JSON


@dataclass(frozen=True)
class Status:
    """Whether a request is within its limit. `retry_after` is in milliseconds.

    When it is not, that is how long to wait before asking again. When it is, the tokens are the caller's, and
    `retry_after`, which only a reservation has, is how long to wait before using them, without asking again.
    """

    ok: bool
    retry_after: float | None = None


def status_of(wire: Mapping[str, Any]) -> Status:
    """Return the status that JSON stands for."""
    return Status(wire["ok"], wire.get("retryAfter"))


def wire_status(ok: bool, retry_after: float | None) -> dict[str, Any]:
    """Return a status as JSON."""
    return {"ok": ok} if retry_after is None else {"ok": ok, "retryAfter": retry_after}


def rate_limited(name: str, retry_after: float) -> ReactorError:
    """Return the error that says that the limit `name` is reached."""
    return ReactorError({"kind": RATE_LIMITED, "name": name, "retryAfter": retry_after})


def is_rate_limit_error(error: object) -> bool:
    """Return whether an error says that a limit is reached: its data is `{kind: "RateLimited", name, retryAfter}`."""
    if not isinstance(error, ReactorError):
        return False
    return isinstance(error.data, Mapping) and error.data.get("kind") == RATE_LIMITED
