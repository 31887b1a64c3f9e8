"""Nothing is left for the garbage collector by what strangers and services ask of the application."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from reactor import Error
from reactor.testing.deployment import MemoryDeployment
from tests.garbage import kept_garbage

pytestmark = pytest.mark.asyncio

LOG = {"provider": "p", "model": "m", "fingerprint": "f", "ip": "192.0.2.1", "success": True, "latencyMs": 1}
EMBEDDED = {"apiKeyHash": "h", "batchSize": 1, "latencyMs": 1, "tokensUsed": 1, "success": True}
BOT = {"fingerprint": "f", "userAgent": "GPTBot", "ip": "192.0.2.1"}
Ask = Callable[[str], Awaitable[Any]]


def asked(deployment: MemoryDeployment) -> dict[str, Ask]:
    """What is asked; the text is another one each time."""
    admin = deployment.as_admin()
    check = "ai/limits:checkRequestLimits"
    return {
        "by a stranger": lambda text: refused(deployment.query("api_keys:list")),
        "with a wrong key": lambda text: refused(deployment.query("ai/limits:limits", {"apiKey": text})),
        "with arguments that are none": lambda text: refused(admin.mutation(check, {"provider": 7})),
        "a limit": lambda text: admin.mutation(check, {"provider": "openai", "userId": text}),
        "for a bot": lambda text: admin.mutation(check, {"provider": "openai", **BOT}),
        "about a key": lambda text: admin.mutation("api_keys:verify", {"key": text, "ip": "192.0.2.1"}),
        "to log": lambda text: admin.mutation("ai/analytics:logAIRequest", {**LOG, "requestId": text}),
        "to log again": lambda text: admin.mutation("ai/analytics:logAIRequest", {**LOG, "requestId": "again"}),
        "to log nonsense": lambda text: refused(admin.mutation("ai/analytics:logAIRequest", {**LOG, "cost": -1})),
        "to log embeddings": lambda text: admin.mutation(
            "embeddings/rateLimiting:logRequest", {**EMBEDDED, "requestId": text}
        ),
        "for totals": lambda text: admin.query("ai/analytics:getProviderStats", {"provider": text, "window": "1h"}),
        "for what is shown": lambda text: admin.query("monitoring:dashboard"),
        "for a page": lambda text: refused(
            admin.query("monitoring:recentRequests", {"paginationOpts": {"numItems": 1, "cursor": text}})
        ),
    }


async def refused(call: Awaitable[Any]) -> None:
    with suppress(Error):
        await call
        pytest.fail("nobody refused it")


async def test_nothing_is_left_of_a_call(deployment: MemoryDeployment) -> None:
    for name, ask in asked(deployment).items():
        for number in range(2):
            await ask(f"before {number}")
        with kept_garbage() as garbage:
            for number in range(3):
                await ask(f"{number}")
            assert not garbage(), name


async def test_nothing_is_left_of_a_wrong_key_over_http(deployment: MemoryDeployment) -> None:
    async def guess(number: int) -> None:
        await deployment.fetch("/ai/openai", method="POST", headers={"X-API-Key": f"rk_{number}"})

    for number in range(15):
        await guess(number)
    with kept_garbage() as garbage:
        for number in range(15, 18):
            await guess(number)
        assert not garbage()
