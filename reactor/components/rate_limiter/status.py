"""What a limit answers: `Status`, and the error of those who would rather have one raised."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from reactor import ReactorError, v

RATE_LIMITED: Final = "RateLimited"
STATUS: Final = v.object({"ok": v.boolean(), "retryAfter": v.optional(v.number())})  # as JSON
STATUSES: Final = v.object(
    {"ok": v.boolean(), "retryAfter": v.optional(v.number()), "statuses": v.array(STATUS)}
)  # as JSON


@dataclass(frozen=True)
class Status:
    """Whether a request is within its limit. `retry_after` is in milliseconds.

    When it is not, that is how long to wait before asking again. When it is, the tokens are the caller's, and
    `retry_after`, which only a reservation has, is how long to wait before using them, without asking again.
    """

    ok: bool
    retry_after: float | None = None


@dataclass(frozen=True)
class Statuses:
    """Whether several requests are all within their limits, and of each by itself, in the order of the requests.

    When they are not, nothing was taken, and `retry_after` is that of the refused request that takes longest.
    """

    ok: bool
    retry_after: float | None
    statuses: tuple[Status, ...]


def status_of(wire: Mapping[str, Any]) -> Status:
    """Return the status that JSON stands for."""
    return Status(wire["ok"], wire.get("retryAfter"))


def statuses_of(wire: Mapping[str, Any]) -> Statuses:
    """Return the statuses that JSON stands for."""
    return Statuses(wire["ok"], wire.get("retryAfter"), tuple(map(status_of, wire["statuses"])))


def wire_status(ok: bool, retry_after: float | None) -> dict[str, Any]:
    """Return a status as JSON."""
    return {"ok": ok} if retry_after is None else {"ok": ok, "retryAfter": retry_after}


def rate_limited(name: str, retry_after: float) -> ReactorError:
    """Return the error that says that the limit `name` is reached."""
    return ReactorError({"kind": RATE_LIMITED, "name": name, "retryAfter": retry_after})


def jitter(retry_after: float, spread: float) -> float:
    """Return `retry_after` and up to `spread` milliseconds more, so that not all who wait come back at once."""
    return retry_after + random.random() * spread


def is_rate_limit_error(error: object) -> bool:
    """Return whether an error says that a limit is reached: its data is `{kind: "RateLimited", name, retryAfter}`."""
    if not isinstance(error, ReactorError):
        return False
    return isinstance(error.data, Mapping) and error.data.get("kind") == RATE_LIMITED
