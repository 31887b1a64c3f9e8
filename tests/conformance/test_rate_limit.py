"""The rate limiter behind the published client code of the original: its hook, and its arithmetic."""

import json
import random
from pathlib import Path
from typing import Any

from reactor.components.rate_limiter import FixedWindow, TokenBucket, calculate_rate_limit, config_of, wire_of
from reactor.components.rate_limiter.arithmetic import State
from tests.servers import ROOT, copy_project, javascript, output, running, start_dev

PROJECT = ROOT / "tests" / "components" / "rate_limiter" / "project"
T = 1_700_000_000_000


def drawn(random: random.Random) -> dict[str, Any]:
    """Return one computation, with numbers that don't come out even."""
    kind = random.choice([TokenBucket, FixedWindow])
    rate, period = random.uniform(0.1, 1000), random.choice([1000.0, 60_000.0, random.uniform(1, 1e7)])
    config = wire_of(kind(rate, period, random.choice([None, 0, random.uniform(0.1, 2000)])))
    if kind is FixedWindow:
        config["start"] = random.choice([0, T + random.uniform(-1e6, 1e6)])
    existing = {"value": random.uniform(-50, 50), "ts": T + random.uniform(-1e6, 1e6)}
    unused = kind is FixedWindow and random.random() < 0.3
    return {
        "existing": None if unused else existing,
        "config": config,
        "now": T + random.uniform(-1e6, 1e6),
        "count": random.choice([0, 1, random.uniform(0, 20)]),
    }


def computed(vector: dict[str, Any]) -> dict[str, Any]:
    existing = vector["existing"]
    state = None if existing is None else State(existing["value"], existing["ts"])
    balance = calculate_rate_limit(state, config_of(vector["config"]), vector["now"], vector["count"])
    fields = {
        "value": balance.value,
        "ts": balance.ts,
        "retryAfter": balance.retry_after,
        "windowStart": balance.window_start,
    }
    return {name: value for name, value in fields.items() if value is not None}


def test_the_published_hook_shows_what_the_server_counts(tmp_path: Path) -> None:
    source = random.Random(7)
    vectors = [drawn(source) for _ in range(500)]
    file = tmp_path / "vectors.json"
    file.write_text(json.dumps(vectors))
    server = start_dev(copy_project(PROJECT, tmp_path / "app"))
    with running(server):
        steps = output(javascript("js_rate_limit", server.url, str(file)))

    theirs = [result for step, result in steps if step == "vector"]
    assert theirs == list(map(computed, vectors)), "to the last bit"
    config = {"kind": "token bucket", "rate": 10, "period": 600_000, "capacity": 10, "shards": 1}
    assert [step for step in steps if step[0] != "vector"] == [
        ["full", {"ok": True, "retryAt": None, "value": 10}],
        ["taken", [True, None]],
        ["two left", {"ok": True, "three": False}],
        ["taken", [True, None]],
        ["none left", {"ok": False, "wait": True, "config": config}],
        ["taken", [True, None]],
        ["again", True],
        ["window", 10],
        ["sharded", 40],
        ["key", 10],
    ]
