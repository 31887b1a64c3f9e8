"""Scheduled functions, as components wait for them: whether one is still to end, and when to try again.

Used by the components that run something later. Times are in milliseconds.
"""

import random
from typing import Any, Final

from reactor import QueryCtx

DAY_MS: Final = 86_400_000.0
FURTHEST_MS: Final = 365 * DAY_MS  # the scheduler takes five years: whoever waits longer looks again meanwhile


async def find_under_way(ctx: QueryCtx, scheduled_id: str | None) -> dict[str, Any] | None:
    """Return a scheduled function that waits or runs; None for one that has ended, or that is forgotten by now."""
    scheduled = None if scheduled_id is None else await ctx.db.system.get(scheduled_id)
    return scheduled if is_under_way(scheduled) else None


def is_under_way(scheduled: dict[str, Any] | None) -> bool:
    """Tell whether a scheduled function, which is None when it is forgotten, waits or runs."""
    return scheduled is not None and scheduled["state"]["kind"] in ("pending", "inProgress")


def backoff_ms(initial_ms: float, base: float, failures: int) -> float:
    """Return how long to wait: `initial_ms * base ** failures`, more or less by up to half.

    By chance, so that not all who fail at a time come back at a time.
    """
    return float(initial_ms * base**failures * (0.5 + random.random()))
