"""Queues of actions, mutations and queries, of which so many run at a time.

Work is a document from the enqueueing mutation on until it has ended; what it came to is told to its `on_complete`, in
the transaction that ends it. What changes hands between enqueueing, the loop and the jobs are small documents
(`pendingStart`, `running`), so that nobody's arguments are written again.

See `docs/components/workpool.md`.
"""

from reactor import define_component
from reactor.components import batch_worker
from reactor.components.workpool.client import NonRetryableError, RetryBehavior, Workpool, on_complete_args

component = define_component(__name__)
component.use(batch_worker)

__all__ = ["NonRetryableError", "RetryBehavior", "Workpool", "component", "on_complete_args"]
