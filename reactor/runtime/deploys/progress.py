"""How whoever waits for a push hears how far it is.

Used by the push and by plans, around the steps that look at every document of a table.
"""

from collections.abc import Callable, Iterable, Iterator

from reactor.engine.catalog import Table

Tell = Callable[[str, int, int], None]  # what is being done, documents done, documents there are


def nobody(what: str, done: int, total: int) -> None:
    """Nobody wants to hear it."""


def told(steps: Iterable[int], tell: Tell, what: str, table: Table) -> Iterator[None]:
    """Go through `steps`, which yield how many documents of `table` are done, and pass that on."""
    if len(table):
        tell(what, 0, len(table))
    for count in steps:
        tell(what, count, len(table))
        yield
