"""The fifteen limits, and which of them a provider has.

Owns what the environment variables RATE_LIMIT_* change, and the rule for their values: one that is wrong refuses the
project when it is loaded, and every request when it was set on the deployment later. Used by `limiter`, `admission` and
`functions/ai/limits`.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Final

from functions.model.settings import invalid_setting, number
from reactor.components.rate_limiter import HOUR, MINUTE, Config, FixedWindow, TokenBucket, wire_of

GLOBAL: Final = "globalAIRequests"
USER: Final = "userAIRequests"
IP: Final = "ipAIRequests"
SUSPICIOUS: Final = "suspiciousBehavior"
FAILED_AUTH: Final = "failedAuth"

LIMITS: Final[Mapping[str, Config]] = {
    GLOBAL: FixedWindow(10_000, HOUR),
    "openaiRequests": TokenBucket(500, MINUTE, 500),
    "openrouterRequests": TokenBucket(600, MINUTE, 600),
    "groqRequests": TokenBucket(300, MINUTE, 300),
    "perplexityRequests": TokenBucket(100, MINUTE, 100),
    "ollamaRequests": FixedWindow(1000, MINUTE),
    "lmstudioRequests": FixedWindow(1000, MINUTE),
    "selfHostedEmbeddings": FixedWindow(2000, MINUTE),
    USER: TokenBucket(100, HOUR, 100),
    IP: FixedWindow(1000, HOUR),
    SUSPICIOUS: FixedWindow(5, MINUTE),
    FAILED_AUTH: TokenBucket(10, HOUR, 10),
    "braveSearchRequests": FixedWindow(100, MINUTE),
    "serperRequests": FixedWindow(100, MINUTE),
    "duckduckgoRequests": FixedWindow(100, MINUTE),
}

PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openaiRequests",
    "openrouter": "openrouterRequests",
    "groq": "groqRequests",
    "perplexity": "perplexityRequests",
    "ollama": "ollamaRequests",
    "lmstudio": "lmstudioRequests",
    "embeddings": "selfHostedEmbeddings",
    "self-hosted": "selfHostedEmbeddings",
    "brave": "braveSearchRequests",
    "serper": "serperRequests",
    "duckduckgo": "duckduckgoRequests",
}
"""What may be asked for, and nothing else: no name of a limit follows from what a caller sends."""

GLOBAL_REQUESTS: Final = "RATE_LIMIT_GLOBAL_REQUESTS"
WINDOW_HOURS: Final = "RATE_LIMIT_WINDOW_HOURS"
SHARDS: Final = "RATE_LIMIT_SHARDS"
SHARED_BY_ALL: Final = frozenset({GLOBAL, *PROVIDERS.values()})  # the limits that RATE_LIMIT_SHARDS spreads
LEAST_PER_SHARD: Final = 5  # tokens: with fewer, a shard is empty while others are not
MAX_GLOBAL_REQUESTS: Final = 1e9
MIN_WINDOW_HOURS: Final = 0.001
MAX_WINDOW_HOURS: Final = 8760.0


def configured(variables: Mapping[str, str]) -> Mapping[str, Config]:
    """Return the limits with what the environment variables change.

    Raises:
        ReactorError: code `INVALID_SETTING`, and the name of a variable whose value can't be used.
    """
    requests = number(variables, GLOBAL_REQUESTS, LIMITS[GLOBAL].rate, 1, MAX_GLOBAL_REQUESTS)
    hours = number(variables, WINDOW_HOURS, LIMITS[GLOBAL].period / HOUR, MIN_WINDOW_HOURS, MAX_WINDOW_HOURS)
    shards = number(variables, SHARDS, 1, 1, MAX_GLOBAL_REQUESTS, whole=True)
    limits = {**LIMITS, GLOBAL: FixedWindow(requests, hours * HOUR)}
    if shards > 1:
        for name in SHARED_BY_ALL:
            if limits[name].most < LEAST_PER_SHARD * shards:
                raise invalid_setting(
                    SHARDS,
                    variables[SHARDS],
                    f"a number of at most {int(limits[name].most // LEAST_PER_SHARD)}, since {name} allows "
                    f"{limits[name].most:g} requests and each shard needs {LEAST_PER_SHARD}",
                )
            limits[name] = dataclasses.replace(limits[name], shards=int(shards))
    return limits


def wire_limits(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the limits as JSON.

    Raises:
        ReactorError: as `configured` does.
    """
    return {name: wire_of(config) for name, config in configured(variables).items()}


configured(os.environ)  # what `[tool.reactor] env` hands on: a server with a wrong value does not start
