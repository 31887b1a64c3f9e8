"""Counters that many mutations may change at a time: each is spread over several documents.

See `docs/components/sharded-counter.md`.
"""

from reactor import define_component
from reactor.components.sharded_counter.client import DEFAULT_SHARDS, NamedCounter, ShardedCounter

component = define_component(__name__)

__all__ = ["DEFAULT_SHARDS", "NamedCounter", "ShardedCounter", "component"]
