"""What may be asked of keys: their limits, and how long they last.

Used by `functions/api_keys` and `functions/embeddings/keys`.
"""

from typing import Final

from functions.model.spans import DAY_MS
from reactor import ReactorError

MAX_DAYS: Final = 3650.0
MAX_REQUESTS: Final = 1e9
MAX_PERIOD_SECONDS: Final = 31_536_000.0


def days_ms(argument: str, days: float, least: float = 1 / 1440) -> float:
    """Return a number of days in milliseconds.

    Raises:
        ReactorError: code `INVALID_NUMBER`: it is too small, too large or no number.
    """
    if not least <= days <= MAX_DAYS:
        message = f"{argument} is {days:g} days; it can be from {least:g} to {MAX_DAYS:g}"
        raise ReactorError({"code": "INVALID_NUMBER", "argument": argument, "message": message})
    return days * DAY_MS


def require_limit(limit: dict[str, float], period: str) -> None:
    """Refuse numbers that no limit can have; `period` is the name of its time, in seconds.

    Raises:
        ReactorError: code `INVALID_NUMBER`.
    """
    bounds = {"requests": (0.0, MAX_REQUESTS), period: (0.001, MAX_PERIOD_SECONDS)}
    for name, (least, most) in bounds.items():
        if not least <= limit[name] <= most:
            message = f"rateLimit.{name} is {limit[name]:g}; it can be from {least:g} to {most:g}"
            raise ReactorError({"code": "INVALID_NUMBER", "argument": f"rateLimit.{name}", "message": message})
