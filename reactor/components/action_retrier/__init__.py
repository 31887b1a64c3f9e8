"""Actions that are run until they succeed, so many times at most.

A run is a document from the call on until a week after its end. Each attempt is a scheduled action, which writes down
how it ended; a heartbeat beside it finds the one that could not, since its process died.

See `docs/components/action-retrier.md`.
"""

from reactor import define_component
from reactor.components.action_retrier.client import ActionRetrier, on_complete_args

component = define_component(__name__)

__all__ = ["ActionRetrier", "component", "on_complete_args"]
