"""Loops that drain queues, one for each name.

A queue is a table of whoever mounts this component, and its worker a mutation there, which takes a batch off the queue
and says what comes next. `ping`, called in the transaction that adds to the queue, wakes the loop. So what is added is
looked at, or was never added.

It is a component and no library, so that those who use it have no tables and no functions of it among their own. What
keeps it short is that scheduled mutations run exactly once here, also over a crash: between two transactions a loop is
nothing but one scheduled function, and pinging, stopping and waking it early are changes of documents. Used by
rate_limiter, aggregate, workpool and presence.

See `docs/components/batch-worker.md`.
"""

from reactor import define_component
from reactor.components.batch_worker.client import BatchWorker, idle, work

component = define_component(__name__)

__all__ = ["BatchWorker", "component", "idle", "work"]
