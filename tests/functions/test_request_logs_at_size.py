"""Request logs in numbers: totals over any range equal a scan of it, exactly, and cost a few documents.

The reduced size is 20,000 logs, the full one 1,000,000. Logs go in, are corrected and leave by the application's own
functions.
"""

import random
from bisect import bisect_left
from collections.abc import Callable
from decimal import Decimal
from itertools import accumulate
from typing import Any, NamedTuple

import pytest

from reactor.testing.deployment import MemoryDeployment
from tests.sizes import size

LOGS = size(20_000, 1_000_000)
SMALL = LOGS // 5
PAGE = 500
RANGES = size(40, 200)
CORRECTIONS = size(50, 1000)
PROVIDERS = ("openai", "openai", "openai", "groq", "groq", "ollama")  # some have more than others
MAX_DOCUMENTS = 200
SECOND = 1000.0
HOUR = 3600 * SECOND
DAY = 24 * HOUR
SPAN = size(2 * DAY, 20 * DAY)  # from the oldest to the newest
MORE_LEVELS = 4  # documents that a larger tree may add to a live query: one for each level that it has more
LAST = 100  # logs that are added one by one, while somebody watches


class Sums(NamedTuple):
    """Exact totals, of whole numbers."""

    requests: int
    successes: int
    micros: int
    tokens: int
    cost_micros: int


def whole(number: float, units: int) -> int:
    """Return a stored number in units, as its decimal text says it: it must be a multiple of one."""
    scaled = Decimal(repr(number)) * units
    assert scaled == int(scaled)
    return int(scaled)


def counted(log: dict[str, Any]) -> Sums:
    return Sums(
        1,
        log["success"],
        whole(log["latencyMs"], 1000),
        whole(log.get("tokensUsed", 0.0), 1),
        whole(log.get("cost", 0.0), 1_000_000),
    )


def plus(one: Sums, other: Sums) -> Sums:
    return Sums(*(a + b for a, b in zip(one, other, strict=True)))


class Scan:
    """What a scan of all logs has found, so that each range can be summed up in whole numbers."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[float, Sums]]] = {provider: [] for provider in PROVIDERS}
        self.times: dict[str, list[float]] = {}
        self._sums: dict[str, list[Sums]] = {}

    def note(self, log: dict[str, Any]) -> None:
        """Count a log."""
        self._found[log["provider"]].append((log["timestamp"], counted(log)))

    def finish(self) -> None:
        """Sum up what was counted, from the oldest on."""
        for provider, found in self._found.items():
            found.sort()
            self.times[provider] = [time for time, _ in found]
            self._sums[provider] = list(accumulate((one for _, one in found), plus, initial=Sums(0, 0, 0, 0, 0)))

    def totals(self, provider: str, start: float, end: float | None) -> dict[str, Any]:
        times, sums = self.times[provider], self._sums[provider]
        first = bisect_left(times, start)
        last = len(times) if end is None else max(first, bisect_left(times, end))
        total = Sums(*(b - a for a, b in zip(sums[first], sums[last], strict=True)))
        return {
            "totalRequests": total.requests,
            "successRate": total.successes / total.requests if total.requests else None,
            "averageLatency": total.micros / 1000 / total.requests if total.requests else None,
            "totalTokens": total.tokens,
            "totalCost": total.cost_micros / 1_000_000,
        }


async def scan(deployment: MemoryDeployment) -> Scan:
    found = Scan()
    cursor = None
    while True:
        page: Any = await deployment.query(
            lambda ctx, cursor=cursor: ctx.db.query("aiRequestLogs").paginate(num_items=5000, cursor=cursor)
        )
        for log in page["page"]:
            found.note(log)
        if page["isDone"]:
            found.finish()
            return found
        cursor = page["continueCursor"]


def request(chance: random.Random, number: int, timestamp: float) -> dict[str, Any]:
    return {
        "provider": chance.choice(PROVIDERS),
        "model": "gpt",
        "fingerprint": f"f{number % 100}",
        "ip": f"192.0.2.{number % 200}",
        "success": chance.random() < 0.9,
        "latencyMs": chance.expovariate(1 / 800),
        "tokensUsed": chance.randrange(5000),
        "cost": chance.random() / 10,
        "requestId": f"r{number}",
        "timestamp": timestamp,
    }


async def fill(deployment: MemoryDeployment, chance: random.Random, numbers: range, newest: float, step: float) -> None:
    """Log requests that end at `newest`; some at one time, and some later than what came after them."""
    for first in range(numbers.start, numbers.stop, PAGE):
        requests = []
        for number in range(first, min(first + PAGE, numbers.stop)):
            age = (numbers.stop - number) * step
            timestamp = newest - (age // 50 * 50 if chance.random() < 0.3 else age + chance.random() * HOUR)
            requests.append(request(chance, number, float(round(timestamp))))
        await deployment.mutation("ai/analytics:log_ai_requests", {"requests": requests})


async def check(deployment: MemoryDeployment, chance: random.Random) -> None:
    """Compare random ranges, and those that begin or end exactly where a log is, with a scan."""
    found = await scan(deployment)
    admin = deployment.as_admin()
    for number in range(RANGES):
        provider = chance.choice(PROVIDERS)
        times = found.times[provider]
        at, other = sorted((chance.randrange(len(times)), chance.randrange(len(times))))
        start, end = times[at], times[other]
        if number % 4 == 1:
            start, end = start + 1, end + 1
        elif number % 4 == 2:
            start, end = chance.uniform(times[0] - DAY, times[-1]), chance.uniform(times[0], times[-1] + DAY)
        elif number % 4 == 3:
            end = times[min(at + 3, len(times) - 1)]
        is_open = number % 10 == 0
        span = {"start": start} if is_open else {"start": start, "end": end}
        with deployment.record_usage() as runs:
            stats = await admin.query("ai/analytics:getProviderStats", {"provider": provider, "timeRange": span})
        assert stats == found.totals(provider, start, None if is_open else end), span
        assert runs[0].documents_read <= MAX_DOCUMENTS


async def cost_of_watching(deployment: MemoryDeployment, chance: random.Random, first: int) -> tuple[float, float]:
    """Return runs, and documents read, of a live query of the last hour for each new log of it."""
    admin = deployment.as_admin()
    args = {"provider": "openai", "window": "1h"}
    async with admin.subscribe("ai/analytics:getProviderStats", args) as live:
        before: Any = await live.next()
        with deployment.record_usage() as runs:
            for number in range(first, first + LAST):
                deployment.clock.advance(milliseconds=100)
                new = {**request(chance, number, 0), "provider": "openai"}
                del new["timestamp"]
                await admin.mutation("ai/analytics:logAIRequest", new)
                await live.settled()
        after: Any = await live.settled()
        assert after["totalRequests"] == before["totalRequests"] + LAST
    rerun = [run.documents_read for run in runs if run.path.endswith("getProviderStats")]
    return len(rerun) / LAST, sum(rerun) / LAST


@pytest.mark.timeout(size(300, 7200))
async def test_totals_equal_a_scan_and_cost_little(
    deployment: MemoryDeployment, make_deployment: Callable[[], MemoryDeployment]
) -> None:
    chance = random.Random(11)
    step = SPAN / LOGS
    async with make_deployment() as other:
        await fill(other, chance, range(SMALL), other.clock.now_ms, step)
        small = await cost_of_watching(other, chance, SMALL)
    await fill(deployment, chance, range(LOGS), deployment.clock.now_ms, step)
    large = await cost_of_watching(deployment, chance, LOGS)
    await check(deployment, chance)

    for number in chance.sample(range(LOGS), CORRECTIONS):
        corrected = {"latencyMs": chance.random() * 1000, "tokensUsed": chance.randrange(99), "cost": chance.random()}
        await deployment.as_admin().mutation("ai/analytics:correctAIRequest", {"requestId": f"r{number}", **corrected})
    await check(deployment, chance)

    await deployment.env.set("AI_LOG_RETENTION_DAYS", str(0.9 * SPAN / DAY))
    await deployment.run_cron("retention of aiRequestLogs")
    await deployment.finish_in_progress_scheduled_functions(max_iterations=LOGS // 100, timeout=None)
    await check(deployment, chance)

    assert small[0] == large[0] == 1  # one run for each new log
    assert abs(large[1] - small[1]) <= MORE_LEVELS, (small, large)
