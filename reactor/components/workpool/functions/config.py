"""The settings of a pool."""

import logging

from reactor import MutationCtx, mutation, v
from reactor.components.workpool.settings import HIGH_PARALLELISM, checked_parallelism
from reactor.components.workpool.work import loop, set_parallelism

log = logging.getLogger(__name__)


@mutation(args={"maxParallelism": v.number()}, returns=v.null())
async def update(ctx: MutationCtx, max_parallelism: float) -> None:
    """Change how many jobs run at a time."""
    if await set_parallelism(ctx, checked(max_parallelism)):
        await loop.ping(ctx)


def checked(value: float) -> int:
    """Return a number of jobs, with a warning for one that is high.

    Raises:
        ValueError: there can't be so many.
    """
    checked = checked_parallelism(value)
    if checked > HIGH_PARALLELISM:
        log.warning("maxParallelism %d is high: other scheduled functions may have to wait", checked)
    return checked
