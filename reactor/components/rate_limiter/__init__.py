"""Rate limits: how often something may be done, counted in the transaction that does it.

A component. Applications mount it in `functions/app.py` (`app.use(rate_limiter)`), and ask it through `RateLimiter`.
"""

from reactor import define_component
from reactor.components.rate_limiter.arithmetic import calculate_rate_limit
from reactor.components.rate_limiter.client import RateLimiter
from reactor.components.rate_limiter.configs import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    WEEK,
    Config,
    FixedWindow,
    TokenBucket,
    config_of,
    wire_of,
)
from reactor.components.rate_limiter.readings import Reading
from reactor.components.rate_limiter.status import Status, is_rate_limit_error

component = define_component(__name__)

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "WEEK",
    "Config",
    "FixedWindow",
    "RateLimiter",
    "Reading",
    "Status",
    "TokenBucket",
    "calculate_rate_limit",
    "component",
    "config_of",
    "is_rate_limit_error",
    "wire_of",
]
