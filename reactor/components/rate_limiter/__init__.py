"""Rate limits: how often something may be done, counted in the transaction that does it.

See `docs/components/rate-limiter.md`.
"""

from reactor import define_component
from reactor.components import batch_worker
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
from reactor.components.rate_limiter.hooks import HookApi
from reactor.components.rate_limiter.readings import Check, Reading
from reactor.components.rate_limiter.responses import headers_of, response_for
from reactor.components.rate_limiter.status import Status, Statuses, is_rate_limit_error, jitter

component = define_component(__name__)
component.use(batch_worker)

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "WEEK",
    "Check",
    "Config",
    "FixedWindow",
    "HookApi",
    "RateLimiter",
    "Reading",
    "Status",
    "Statuses",
    "TokenBucket",
    "calculate_rate_limit",
    "component",
    "config_of",
    "headers_of",
    "is_rate_limit_error",
    "jitter",
    "response_for",
    "wire_of",
]
