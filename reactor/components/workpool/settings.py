"""The numbers of a pool, and the arithmetic of its times."""

from typing import Any, Final

from reactor.components.scheduled import DAY_MS

MINUTE_MS: Final = 60_000.0
YEAR_MS: Final = 365 * DAY_MS

DEFAULT_PARALLELISM: Final = 10
MAX_PARALLELISM: Final = 200
HIGH_PARALLELISM: Final = 100  # above this a warning says that others may have to wait
BATCH: Final = 64  # jobs started in one step
DUE_BATCH: Final = 256  # of what has become due, in one step
CANCEL_BATCH: Final = 64
RECOVERY_BATCH: Final = 32
RECOVERY_MS: Final = 5 * MINUTE_MS  # how long a job runs before it is asked for
RECOVERY_AGAIN_MS: Final = MINUTE_MS

INLINE_BYTES: Final = 8_000  # arguments and context from here on lie in documents of their own
PAYLOAD_BYTES: Final = 1_000_000
CALL_BYTES: Final = 8_000_000  # of arguments in one call of the component


def checked_parallelism(value: float) -> int:
    """Return how many jobs may run at a time.

    Raises:
        ValueError: it is no whole number from 0 to 200.
    """
    if value != int(value) or not 0 <= value <= MAX_PARALLELISM:
        raise ValueError(f"maxParallelism is a whole number from 0 (paused) to {MAX_PARALLELISM}, not {value:g}.")
    return int(value)


def bounded_time(time: float, now: float) -> float:
    """Return when to start work that was asked for at `time`: mistakes of units must not be the scheduler's."""
    if time < now - YEAR_MS:
        return now
    if time > now + 4 * YEAR_MS:
        return now + YEAR_MS
    return time


def size_of(value: Any) -> int:
    """Return how many bytes a value takes in a document, as limits count them."""
    if isinstance(value, dict):
        return 2 + sum(len(name.encode()) + 1 + size_of(field) for name, field in value.items())
    if isinstance(value, list | tuple):
        return 2 + sum(map(size_of, value))
    if isinstance(value, str):
        return 2 + len(value.encode())
    if isinstance(value, bytes | bytearray | memoryview):
        return 2 + len(value)
    return 1 if value is None or isinstance(value, bool) else 9
