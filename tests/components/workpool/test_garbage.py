"""Nothing is left for the garbage collector by work that has ended, however it has."""

import pytest

from tests.components.workpool.pools import Pool
from tests.garbage import kept_garbage

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("job", ["effect", "broken", "act", "fail"])
async def test_nothing_is_left_of_work(pool: Pool, job: str) -> None:
    await pool.one(job)
    await pool.settle()
    with kept_garbage() as garbage:
        for _ in range(3):
            await pool.one(job)
            await pool.settle()
        assert not garbage()
