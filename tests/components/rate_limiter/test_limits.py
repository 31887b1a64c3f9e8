"""Limits over documents: what a request takes, what it leaves, and what it answers."""

from typing import Any

import pytest

from reactor import components
from reactor.components.rate_limiter import FixedWindow, RateLimiter, Status, TokenBucket, is_rate_limit_error
from reactor.errors import ReactorError
from reactor.testing.deployment import MemoryDeployment

MINUTE = 60_000
KINDS = [TokenBucket, FixedWindow]
LIMITER = RateLimiter(components.rate_limiter)


async def do(deployment: MemoryDeployment, method: str, *args: Any, **options: Any) -> Any:
    """Call a method of `LIMITER` in a mutation of its own, and return the Python object that it gives."""
    answers = []

    async def call(ctx: Any) -> None:
        answers.append(await getattr(LIMITER, method)(ctx, *args, **options))

    await deployment.run(call)
    return answers[-1]


async def rows(deployment: MemoryDeployment) -> list[Any]:
    """Return the component's documents, without system fields."""
    found: Any = await deployment.component("rate_limiter").run(lambda ctx: ctx.db.query("rateLimits").collect())
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in found]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_first_request_makes_a_document_and_the_second_waits_a_period(
    deployment: MemoryDeployment, kind: Any
) -> None:
    config = kind(1, MINUTE, **({} if kind is TokenBucket else {"start": deployment.clock.now_ms}))
    assert await do(deployment, "limit", "a", config=config) == Status(True)
    [row] = await rows(deployment)
    assert row == {"name": "a", "shard": 0, "value": 0, "ts": deployment.clock.now_ms}

    assert await do(deployment, "limit", "a", config=config) == Status(False, MINUTE)
    assert await rows(deployment) == [row]


@pytest.mark.parametrize("kind", KINDS)
async def test_throwing_has_exactly_the_data_of_the_original(deployment: MemoryDeployment, kind: Any) -> None:
    config = kind(1, MINUTE, **({} if kind is TokenBucket else {"start": deployment.clock.now_ms}))
    await do(deployment, "limit", "a", config=config, throws=True)
    with pytest.raises(ReactorError) as failure:
        await do(deployment, "limit", "a", config=config, throws=True)
    assert failure.value.data == {"kind": "RateLimited", "name": "a", "retryAfter": MINUTE}
    assert is_rate_limit_error(failure.value)
