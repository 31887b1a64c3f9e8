"""How latencies are spread, in a bounded number of counters: buckets that grow geometrically.

A latency is counted in the bucket of its size, and only the number of requests per bucket is kept. A percentile is
then known to within `RELATIVE_ERROR`, however many were counted, and what was counted can be taken out again exactly.

Used by the totals per minute of requests to AI providers, and by those of embeddings.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Final

RELATIVE_ERROR: Final = 0.05  # of a percentile above FINEST_MS
FINEST_MS: Final = 1.0  # whatever is faster counts as this
COARSEST_MS: Final = 86_400_000.0  # a day: no latency is longer

_GROWTH: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)


def _bounds() -> list[float]:
    bounds = [FINEST_MS]
    while bounds[-1] < COARSEST_MS:
        bounds.append(bounds[-1] * _GROWTH)
    return bounds


_BOUNDS: Final = _bounds()  # the longest latency of each bucket, in order
BUCKETS: Final = len(_BOUNDS)


def bucket_of(latency_ms: float) -> str:
    """Return the name of the bucket in which this latency, at most `COARSEST_MS`, is counted."""
    return str(bisect_left(_BOUNDS, latency_ms))


def latency_of(bucket: str) -> float:
    """Return the latency that stands for all of a bucket: none in it is further away than `RELATIVE_ERROR`."""
    position = int(bucket)
    return _BOUNDS[position - 1] * (1 + RELATIVE_ERROR) if position else FINEST_MS


def merged(histograms: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the counts of all together."""
    counts: dict[str, int] = {}
    for histogram in histograms:
        for bucket, count in histogram.items():
            counts[bucket] = counts.get(bucket, 0) + count
    return counts


def percentile(histogram: Mapping[str, int], share: float) -> float | None:
    """Return a latency which `share` (0 to 1) of all that were counted do not exceed; None when none was counted.

    It is the one at rank ceil(share * count), within `RELATIVE_ERROR`.
    """
    rank = max(1, ceil(share * sum(histogram.values())))
    for bucket in sorted(histogram, key=int):
        rank -= histogram[bucket]
        if rank <= 0:
            return latency_of(bucket)
    return None
