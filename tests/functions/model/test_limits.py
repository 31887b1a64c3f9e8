"""The fifteen limits, and what environment variables may make of them."""

from pathlib import Path
from typing import Any

import pytest

from reactor import ReactorError
from reactor.errors import PushError
from reactor.server.app import Deployment
from reactor.testing.deployment import MemoryDeployment
from tests.servers import copy_application

HOUR, MINUTE = 3_600_000, 60_000


async def limits(deployment: Any) -> Any:
    return await deployment.as_admin().query("ai/limits:limits")


async def test_the_fifteen_limits(deployment: MemoryDeployment) -> None:
    found = {
        name: (limit["kind"], limit["rate"], limit["period"], limit.get("capacity"))
        for name, limit in (await limits(deployment)).items()
    }
    window, bucket = "fixed window", "token bucket"
    assert found == {
        "globalAIRequests": (window, 10_000, HOUR, None),
        "openaiRequests": (bucket, 500, MINUTE, 500),
        "openrouterRequests": (bucket, 600, MINUTE, 600),
        "groqRequests": (bucket, 300, MINUTE, 300),
        "perplexityRequests": (bucket, 100, MINUTE, 100),
        "ollamaRequests": (window, 1000, MINUTE, None),
        "lmstudioRequests": (window, 1000, MINUTE, None),
        "selfHostedEmbeddings": (window, 2000, MINUTE, None),
        "userAIRequests": (bucket, 100, HOUR, 100),
        "ipAIRequests": (window, 1000, HOUR, None),
        "suspiciousBehavior": (window, 5, MINUTE, None),
        "failedAuth": (bucket, 10, HOUR, 10),
        "braveSearchRequests": (window, 100, MINUTE, None),
        "serperRequests": (window, 100, MINUTE, None),
        "duckduckgoRequests": (window, 100, MINUTE, None),
    }


async def test_variables_change_the_global_limit_and_the_shards(deployment: MemoryDeployment) -> None:
    changes: dict[str, str | None] = {
        "RATE_LIMIT_GLOBAL_REQUESTS": "250",
        "RATE_LIMIT_WINDOW_HOURS": "0.5",
        "RATE_LIMIT_SHARDS": "4",
    }
    await deployment.env.update(changes)
    changed = await limits(deployment)
    assert (changed["globalAIRequests"]["rate"], changed["globalAIRequests"]["period"]) == (250, HOUR / 2)
    single = {"userAIRequests", "ipAIRequests", "suspiciousBehavior", "failedAuth"}
    assert {name for name, limit in changed.items() if limit.get("shards", 1) == 1} == single
    assert {limit.get("shards", 1) for name, limit in changed.items() if name not in single} == {4}


WRONG = [
    ("RATE_LIMIT_GLOBAL_REQUESTS", ["", "0", "-5", "many", "1e3", "nan", "inf", " 7", "1_000", "0.5", "9" * 13]),
    ("RATE_LIMIT_WINDOW_HOURS", ["", "0", "-1", "one", "infinity", "100000", "0.0000001"]),
    ("RATE_LIMIT_SHARDS", ["", "0", "-1", "1.5", "two", "21", "9999999999"]),
]


@pytest.mark.parametrize(("name", "values"), WRONG, ids=[name for name, _ in WRONG])
async def test_a_wrong_value_refuses_requests_with_its_name(
    deployment: MemoryDeployment, name: str, values: list[str]
) -> None:
    """Set on the deployment while it runs: no request gets by on a default that nobody meant."""
    for value in values:
        await deployment.env.set(name, value)
        with pytest.raises(ReactorError) as refused:
            await deployment.as_admin().mutation("ai/limits:checkRequestLimits", {"provider": "openai"})
        assert isinstance(refused.value.data, dict)
        assert refused.value.data["code"] == "INVALID_SETTING"
        assert refused.value.data["variable"] == name
        assert name in str(refused.value.data["message"])


async def test_shards_need_enough_for_each(deployment: MemoryDeployment) -> None:
    await deployment.env.update({"RATE_LIMIT_SHARDS": "20"})
    assert (await limits(deployment))["perplexityRequests"]["shards"] == 20
    await deployment.env.set("RATE_LIMIT_GLOBAL_REQUESTS", "99")
    with pytest.raises(ReactorError, match=r"RATE_LIMIT_SHARDS.*at most 19.*globalAIRequests"):
        await limits(deployment)


@pytest.mark.asyncio
async def test_a_wrong_value_of_the_process_refuses_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = copy_application(tmp_path / "app")
    for name, _ in WRONG:
        monkeypatch.setenv(name, "lots")
        with pytest.raises(PushError, match=name):
            await Deployment(project, data=":memory:").open()
        monkeypatch.setenv(name, "2" if name == "RATE_LIMIT_SHARDS" else "12")
    async with Deployment(project, data=":memory:") as deployment:
        changed = await limits(deployment)
    assert changed["globalAIRequests"] == {"kind": "fixed window", "rate": 12, "period": 12 * HOUR, "shards": 2}
