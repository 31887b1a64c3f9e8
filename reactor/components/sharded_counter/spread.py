"""How a value is spread over shards."""

import math


def spread(total: float, shards: int) -> list[float]:
    """Return values that add up to `total`, no two of which differ by more than 1.

    A whole total gives whole values, so that their sum is exact.
    """
    each, rest = divmod(total, shards)
    whole = math.floor(rest)
    values = [each + (shard < whole) for shard in range(shards)]
    if whole < shards:  # what is left of a total that is not whole; rounding may leave nothing
        values[whole] += rest - whole
    return values
