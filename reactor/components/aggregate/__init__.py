"""Counts, sums, ranks and pages over many documents, in a few reads: a tree that is kept beside a table.

See `docs/components/aggregate.md`.
"""

from reactor import define_component
from reactor.components.aggregate.bounds import Bound, Bounds
from reactor.components.aggregate.client import DirectAggregate, Item, Page, TableAggregate, Totals

component = define_component(__name__)

__all__ = ["Bound", "Bounds", "DirectAggregate", "Item", "Page", "TableAggregate", "Totals", "component"]
