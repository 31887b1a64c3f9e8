"""When a kept value expires: at the earlier of what it was stored with and what the reader asks for."""

import math


def has_expired(created: float, stored: float | None, ttl: float | None, now: float) -> bool:
    """Whether a value is too old for a reader. All in milliseconds.

    Args:
        created: when it was stored.
        stored: when it expires by itself, or None for never.
        ttl: how old it may be for this reader, or None for any age; 0 is older than anything.
    """
    if stored is not None and stored <= now:
        return True
    # Documents of one millisecond are told apart by fractions, which may lie in front of the clock.
    return ttl is not None and (ttl <= 0 or math.floor(created) + ttl <= now)
