"""Results of actions, kept by their arguments: what costs money or time is asked for once.

See `docs/components/action-cache.md`.
"""

from reactor import define_component
from reactor.components.action_cache.client import ActionCache, remove_all

component = define_component(__name__)

__all__ = ["ActionCache", "component", "remove_all"]
