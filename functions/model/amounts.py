"""The numbers of a request log, as they are accepted, stored and summed up.

Sums of floats drift and depend on their order; these are sums of whole numbers, of a unit so small that nobody is
billed in it, and stored amounts are multiples of it. So a total over any range equals the sum over its logs exactly,
whatever was added, corrected and removed before. Used by everything that reads or writes `aiRequestLogs`.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from reactor import ReactorError

MICRO: Final = 1_000_000


class Amount(NamedTuple):
    """One kind of number: how many units make up 1, and how much of it one request can have."""

    units: int
    maximum: float


# The maxima leave room for the sums of millions of requests below 2**53, where float64 has every whole number.
AMOUNTS: Final[Mapping[str, Amount]] = {
    "latencyMs": Amount(1000, 86_400_000.0),  # counted in microseconds; a day
    "tokensUsed": Amount(1, 1e9),
    "cost": Amount(MICRO, 1e6),
}


def stored_amount(field: str, value: float) -> float:
    """Return a number as it is stored: the nearest multiple of its unit.

    Raises:
        ReactorError: code `INVALID_NUMBER`; it is negative, not finite, too large, or a fraction of a token.
    """
    require_finite(field, value)
    units, maximum = AMOUNTS[field]
    if value < 0:
        raise _invalid(field, "must not be negative")
    if value > maximum:
        raise _invalid(field, f"is {value:g}, more than the {maximum:g} that one request can have")
    if field == "tokensUsed" and not value.is_integer():
        raise _invalid(field, f"is {value:g}: tokens are counted, in whole numbers")
    return round(value * units) / units


def units_of(field: str, value: float) -> int:
    """Return a stored number in its units."""
    return round(value * AMOUNTS[field].units)


def amount_of(field: str, units: float) -> float:
    """Return a sum of units as the number that it stands for."""
    return units / AMOUNTS[field].units


class Contribution(NamedTuple):
    """What one log, or many, add to totals; in units."""

    requests: int
    successes: int
    latency_micros: int
    tokens: int
    cost_micros: int


def contribution_of(log: Mapping[str, Any]) -> Contribution:
    """Return what one stored log adds to totals."""
    return Contribution(
        1,
        int(log["success"]),
        units_of("latencyMs", log["latencyMs"]),
        units_of("tokensUsed", log.get("tokensUsed", 0.0)),
        units_of("cost", log.get("cost", 0.0)),
    )


def summary_of(total: Contribution) -> dict[str, Any]:
    """Return totals as callers see them. The rate and the average over no requests are None, never NaN."""
    requests = total.requests
    return {
        "totalRequests": requests,
        "successRate": total.successes / requests if requests else None,
        "averageLatency": amount_of("latencyMs", total.latency_micros) / requests if requests else None,
        "totalTokens": amount_of("tokensUsed", total.tokens),
        "totalCost": amount_of("cost", total.cost_micros),
    }


def require_finite(name: str, value: float) -> None:
    """Refuse NaN and infinities, which would make every sum they enter meaningless.

    Raises:
        ReactorError: code `INVALID_NUMBER`.
    """
    if not math.isfinite(value):
        raise _invalid(name, "must be finite")


def _invalid(name: str, problem: str) -> ReactorError:
    return ReactorError({"code": "INVALID_NUMBER", "argument": name, "message": f"{name} {problem}"})
