"""Counts, sums, ranks and pages over many documents, in a few reads: a tree that is kept beside a table.

See `docs/components/aggregate.md`.
"""

from reactor import define_component
from reactor.components import batch_worker
from reactor.components.aggregate.bounds import Bound, Bounds
from reactor.components.aggregate.direct import DirectAggregate
from reactor.components.aggregate.results import DeadLetter, Item, Page, Totals
from reactor.components.aggregate.table import TableAggregate

component = define_component(__name__)
component.use(batch_worker)

__all__ = ["Bound", "Bounds", "DeadLetter", "DirectAggregate", "Item", "Page", "TableAggregate", "Totals", "component"]
