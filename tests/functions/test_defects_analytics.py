"""The defects of the seed's analytics, by the rows of the specification's table: what is required instead."""

import math
from typing import Any

import pytest

from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment

MINUTE = 60_000.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
REQUEST: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt",
    "fingerprint": "f",
    "ip": "127.0.0.1",
    "success": True,
    "latencyMs": 100,
}
EVENT = {"fingerprint": "f", "ip": "192.0.2.1", "userAgent": "curl", "detectionType": "suspicious_pattern"}
EMPTY = {"totalRequests": 0, "successRate": None, "averageLatency": None, "totalTokens": 0, "totalCost": 0}


async def log(caller: Caller, **changes: Any) -> None:
    await caller.mutation("ai/analytics:logAIRequest", {**REQUEST, **changes})


async def fill(deployment: MemoryDeployment, requests: list[dict[str, Any]]) -> Any:
    return await deployment.mutation("ai/analytics:log_ai_requests", {"requests": requests})


async def stats(caller: Caller, start: float = 0.0, end: float | None = None, **changes: Any) -> Any:
    span = {"start": start} if end is None else {"start": start, "end": end}
    return await caller.query("ai/analytics:getProviderStats", {"provider": "openai", "timeRange": span, **changes})


async def detect(caller: Caller, **changes: Any) -> Any:
    return await caller.mutation("ai/analytics:detectBotPatterns", {**EVENT, **changes})


async def stored(deployment: MemoryDeployment, table: str) -> list[dict[str, Any]]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def test_defect_01_nothing_to_average_gives_null(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    await log(admin)
    now = deployment.clock.now_ms
    for start, end in ((0.0, now), (now + 1, None), (now, now)):
        assert await stats(admin, start, end) == EMPTY
    assert await stats(admin, provider="nobody") == EMPTY


async def test_defect_02_a_range_costs_no_more_with_more_requests(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    now = deployment.clock.now_ms
    for page in range(10):
        await fill(deployment, [{**REQUEST, "timestamp": now + page * 100 + index} for index in range(100)])
    with deployment.record_usage() as runs:
        assert (await stats(admin, now + 7, now + 993))["totalRequests"] == 986
    (run,) = runs
    assert run.documents_read < 30


async def test_defect_03_adjacent_ranges_count_each_request_once(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    middle = deployment.clock.now_ms
    await log(admin)
    assert (await stats(admin, middle - 1, middle))["totalRequests"] == 0
    assert (await stats(admin, middle, middle + 1))["totalRequests"] == 1
    assert await stats(admin, middle + 1, middle) == EMPTY  # it ends before it starts
    with pytest.raises(ReactorError, match="finite"):
        await stats(admin, math.nan)


async def test_defect_04_an_open_range_and_a_window_stay_live(deployment: MemoryDeployment) -> None:
    """Callers with windows of one minute share one live query, since a window begins with a whole minute."""
    admin = deployment.as_admin()
    deployment.clock.advance(seconds=31)
    window = {"provider": "openai", "window": "1h"}
    async with (
        admin.subscribe("ai/analytics:getProviderStats", window) as moving,
        admin.subscribe("ai/analytics:getProviderStats", {"provider": "openai", "timeRange": {"start": 0}}) as fixed,
    ):
        assert await moving.next() == await fixed.next() == EMPTY
        await log(admin)
        assert (await moving.next())["totalRequests"] == 1  # type: ignore[index]
        assert (await fixed.next())["totalRequests"] == 1  # type: ignore[index]
        await deployment.advance(hours=1, minutes=1)
        await fill(deployment, [REQUEST, REQUEST])
        assert (await moving.next())["totalRequests"] == 2  # type: ignore[index]  # the first is too old now
        assert (await fixed.next())["totalRequests"] == 3  # type: ignore[index]


@pytest.mark.parametrize("args", [{}, {"window": "1h", "timeRange": {"start": 0}}])
async def test_defect_04_a_range_is_given_once(deployment: MemoryDeployment, args: dict[str, Any]) -> None:
    with pytest.raises(ReactorError) as refused:
        await deployment.as_admin().query("ai/analytics:getProviderStats", {"provider": "openai", **args})
    assert refused.value.data["code"] == "INVALID_RANGE"


async def test_defect_05_sums_of_money_do_not_drift(deployment: MemoryDeployment) -> None:
    """Ten times 0.1 is 0.9999999999999999 in floats, and after taking the ten out again something is left."""
    admin = deployment.as_admin()
    await fill(deployment, [{**REQUEST, "cost": 0.1, "latencyMs": 0.1} for _ in range(10)])
    assert (await stats(admin))["totalCost"] == 1
    assert (await stats(admin))["averageLatency"] == 0.1
    for request in (await stored(deployment, "aiRequestLogs"))[:9]:
        await deployment.run(lambda ctx, id=request["_id"]: ctx.db.delete(id))
    assert (await stats(admin))["totalCost"] == 0.1


async def test_defect_06_nobody_logs_without_being_let_in(deployment: MemoryDeployment) -> None:
    for caller in (deployment, deployment.with_identity({"name": "Ann"})):
        with pytest.raises(ReactorError) as refused:
            await log(caller)
        assert refused.value.data["code"] in ("UNAUTHORIZED", "FORBIDDEN")
    assert await stored(deployment, "aiRequestLogs") == []
    await log(deployment.with_identity({"name": "Ann", "scope": "analytics:write"}))
    await deployment.env.set("AI_PUBLIC_LOGGING", "true")
    await log(deployment)
    assert len(await stored(deployment, "aiRequestLogs")) == 2


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("latencyMs", -1, "INVALID_NUMBER"),
        ("latencyMs", math.inf, "INVALID_NUMBER"),
        ("latencyMs", 86_400_001, "INVALID_NUMBER"),
        ("tokensUsed", math.nan, "INVALID_NUMBER"),
        ("tokensUsed", 1.5, "INVALID_NUMBER"),
        ("tokensUsed", 1e9 + 1, "INVALID_NUMBER"),
        ("cost", -0.01, "INVALID_NUMBER"),
        ("cost", 1e300, "INVALID_NUMBER"),
        ("provider", "p" * 65, "INVALID_TEXT"),
        ("provider", "", "INVALID_TEXT"),
        ("model", "m" * 129, "INVALID_TEXT"),
        ("userId", "u" * 257, "INVALID_TEXT"),
        ("fingerprint", "f" * 129, "INVALID_TEXT"),
        ("ip", "1" * 65, "INVALID_TEXT"),
        ("requestId", "r" * 129, "INVALID_TEXT"),
    ],
)
async def test_defect_06_numbers_and_texts_have_bounds(
    deployment: MemoryDeployment, field: str, value: Any, code: str
) -> None:
    with pytest.raises(ReactorError) as refused:
        await log(deployment.as_admin(), **{field: value})
    assert refused.value.data["code"] == code
    assert refused.value.data["argument"] == field
    assert await stored(deployment, "aiRequestLogs") == []


async def test_defect_06_a_long_error_is_cut(deployment: MemoryDeployment) -> None:
    await log(deployment.as_admin(), error="e" * 5000, success=False)
    (request,) = await stored(deployment, "aiRequestLogs")
    assert request["error"] == "e" * 1000


async def test_defect_07_a_user_is_a_string_everywhere(deployment: MemoryDeployment) -> None:
    await log(deployment.as_admin(), userId="https://issuer.example|ann")
    (request,) = await stored(deployment, "aiRequestLogs")
    assert request["userId"] == "https://issuer.example|ann"


@pytest.mark.parametrize(
    ("index", "equal"), [("by_user", {"userId": "ann"}), ("by_ip", {"ip": "::1"}), ("by_model", {"model": "small"})]
)
async def test_defect_08_requests_are_found_by_user_address_and_model(
    deployment: MemoryDeployment, index: str, equal: dict[str, Any]
) -> None:
    admin = deployment.as_admin()
    await log(admin)
    await log(admin, **equal)
    found: Any = await deployment.query(lambda ctx: ctx.db.query("aiRequestLogs").with_index(index, **equal).collect())
    assert len(found) == 1


async def test_defect_08_a_request_is_logged_once(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    await log(admin, requestId="r1", cost=0.5)
    await log(admin, requestId="r1", cost=99)
    await log(admin, requestId="r2", cost=0.25)
    assert await fill(deployment, [{**REQUEST, "requestId": name} for name in ("r2", "r3", "r3")]) == 1
    assert len(await stored(deployment, "aiRequestLogs")) == 3
    assert (await stats(admin))["totalCost"] == 0.75
    assert (await stats(admin))["totalRequests"] == 3


async def test_defect_08_a_request_that_two_log_at_a_time_is_logged_once(deployment: MemoryDeployment) -> None:
    call = "ai/analytics:logAIRequest", {**REQUEST, "requestId": "r1"}
    async with deployment.hold(*call, at=1, by=deployment.as_admin()) as held:
        await deployment.as_admin().mutation(*call)
        await held.finish()
    assert len(await stored(deployment, "aiRequestLogs")) == 1


async def test_defect_09_requests_count_when_they_were_made(deployment: MemoryDeployment) -> None:
    """What is filled in later is created later than what came after it."""
    admin = deployment.as_admin()
    now = deployment.clock.now_ms
    await log(admin)
    await fill(deployment, [{**REQUEST, "timestamp": now - DAY}])
    assert (await stats(admin, now - DAY, now - DAY + 1))["totalRequests"] == 1
    page: Any = await admin.query("monitoring:recentRequests", {"paginationOpts": {"numItems": 5, "cursor": None}})
    assert [request["timestamp"] for request in page["page"]] == [now, now - DAY]


async def test_defect_10_who_goes_on_stays_blocked(deployment: MemoryDeployment) -> None:
    """Every event counts, those that were blocked too; after an hour of silence all is forgotten."""
    admin = deployment.as_admin()
    actions = [(await detect(admin))["action"] for _ in range(12)]
    assert actions == ["allowed"] * 6 + ["challenged"] * 5 + ["blocked"]
    for _ in range(12):
        deployment.clock.advance(minutes=5)
        assert (await detect(admin))["action"] == "blocked"
    deployment.clock.advance(hours=1, milliseconds=1)
    assert (await detect(admin)) == {"action": "allowed", "previousAttempts": 0}


async def test_defect_10_distinct_minutes_forgive_a_burst(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    for _ in range(20):
        await detect(admin)
    assert (await detect(admin, distinctMinutes=True)) == {"action": "allowed", "previousAttempts": 1}
    for _ in range(10):
        deployment.clock.advance(minutes=1)
        last = await detect(admin, distinctMinutes=True)
    assert last == {"action": "challenged", "previousAttempts": 10}
    deployment.clock.advance(minutes=1)
    assert (await detect(admin, distinctMinutes=True)) == {"action": "blocked", "previousAttempts": 11}


async def test_defect_11_a_bot_that_changes_its_headers_is_known_by_its_address(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    for number in range(11):
        await detect(admin, fingerprint=f"f{number}")
    assert (await detect(admin, fingerprint="new")) == {"action": "blocked", "previousAttempts": 11}
    assert (await detect(admin, fingerprint="new", ip="192.0.2.2"))["action"] == "allowed"


async def test_defect_11_a_fingerprint_alone_never_blocks_who_has_a_key(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    for number in range(11):
        await detect(admin, ip=f"192.0.2.{number}")
    assert (await detect(admin, ip="198.51.100.1"))["action"] == "blocked"
    assert (await detect(admin, ip="198.51.100.2", authenticated=True))["action"] == "challenged"
    for _ in range(11):
        await detect(admin, ip="198.51.100.3")
    assert (await detect(admin, ip="198.51.100.3", authenticated=True))["action"] == "blocked"


@pytest.mark.parametrize("nobody", ["", "unknown"])
async def test_defect_11_clients_of_no_known_address_are_not_one(deployment: MemoryDeployment, nobody: str) -> None:
    admin = deployment.as_admin()
    for number in range(12):
        assert (await detect(admin, fingerprint=f"f{number}", ip=nobody))["action"] == "allowed"


async def test_defect_12_a_hot_client_costs_no_more_than_others(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    for _ in range(40):
        await detect(admin)
    with deployment.record_usage() as runs:
        assert (await detect(admin)) == {"action": "blocked", "previousAttempts": 12}
    (run,) = runs
    assert run.documents_read == 24  # twelve by its fingerprint, twelve by its address


async def test_defect_13_the_event_itself_does_not_count(deployment: MemoryDeployment) -> None:
    """So the twelfth is the first to be blocked, while the eleventh failed login is the first to be reported."""
    admin = deployment.as_admin()
    verdicts = [await detect(admin) for _ in range(12)]
    assert [(verdict["previousAttempts"], verdict["action"]) for verdict in verdicts[5:7]] == [
        (5, "allowed"),
        (6, "challenged"),
    ]
    assert [(verdict["previousAttempts"], verdict["action"]) for verdict in verdicts[10:]] == [
        (10, "challenged"),
        (11, "blocked"),
    ]
    events = await stored(deployment, "botDetectionEvents")
    assert [event["metadata"] for event in events] == [{"previousAttempts": number} for number in range(12)]


async def events_of(caller: Caller, **args: Any) -> Any:
    return await caller.query("ai/analytics:getBotEvents", args)


async def test_defect_14_bot_events_are_listed(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    start = deployment.clock.now_ms
    for number in range(30):
        deployment.clock.advance(seconds=1)
        kind = "rate_limit" if number % 10 == 0 else "bot_useragent"
        await detect(admin, fingerprint=f"f{number % 2}", ip=f"192.0.2.{number % 3}", detectionType=kind)
    times = [event["timestamp"] for event in await events_of(admin, limit=100, since=start)]
    assert times == sorted(times, reverse=True)
    assert len(times) == 30
    assert len(await events_of(admin)) == 30
    assert len(await events_of(admin, limit=7)) == 7
    assert [event["timestamp"] for event in await events_of(admin, since=times[1])] == times[:2]
    assert len(await events_of(admin, fingerprint="f0")) == 15
    assert len(await events_of(admin, ip="192.0.2.0")) == 10
    assert len(await events_of(admin, fingerprint="f1", ip="192.0.2.1")) == 5
    # The three are among thirty: what is not wanted does not count toward the limit.
    assert len(await events_of(admin, limit=3, detectionType="rate_limit")) == 3
    assert {event["action"] for event in await events_of(admin, action="blocked")} == {"blocked"}
    deployment.clock.advance(hours=2)
    assert await events_of(admin) == []
    assert len(await events_of(admin, since=start)) == 30


@pytest.mark.parametrize("args", [{"limit": 0}, {"limit": 1001}, {"since": math.nan}])
async def test_defect_14_a_list_has_bounds(deployment: MemoryDeployment, args: dict[str, Any]) -> None:
    with pytest.raises(ReactorError) as refused:
        await events_of(deployment.as_admin(), **args)
    assert refused.value.data["code"] == "INVALID_NUMBER"


async def test_defect_40_logs_are_removed_after_their_time(deployment: MemoryDeployment) -> None:
    admin = deployment.as_admin()
    now = deployment.clock.now_ms
    old = [{**REQUEST, "timestamp": now - 31 * DAY + index, "cost": 0.1} for index in range(450)]
    await fill(deployment, old)
    await fill(deployment, [{**REQUEST, "timestamp": now - 29 * DAY, "cost": 0.1}])
    await detect(admin)
    with deployment.record_usage() as runs:
        assert await deployment.run_cron("retention of aiRequestLogs") == 200
        await deployment.finish_in_progress_scheduled_functions()
    assert len([run for run in runs if run.path.endswith(":sweep")]) == 3  # in pages
    assert (await stats(admin))["totalRequests"] == 1
    assert (await stats(admin))["totalCost"] == 0.1
    assert len(await stored(deployment, "aiRequestLogs")) == 1
    assert len(await stored(deployment, "aiRequestMinutes")) == 1
    assert len(await stored(deployment, "botDetectionEvents")) == 1


async def test_defect_40_crons_remove_what_is_old(deployment: MemoryDeployment) -> None:
    """Events stay longer than logs, and settings of the deployment decide."""
    admin = deployment.as_admin()
    await log(admin)
    await detect(admin)
    await deployment.advance(days=31)
    assert await stored(deployment, "aiRequestLogs") == []
    assert len(await stored(deployment, "botDetectionEvents")) == 1
    await deployment.env.set("AI_EVENT_RETENTION_DAYS", "30")
    await deployment.advance(days=1)
    assert await stored(deployment, "botDetectionEvents") == []


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AI_LOG_RETENTION_DAYS", "a month"),
        ("AI_LOG_RETENTION_DAYS", "-1"),
        ("AI_LOG_RETENTION_DAYS", "nan"),
        ("AI_RETENTION_PAGE", "99"),
        ("AI_RETENTION_PAGE", "501"),
    ],
)
async def test_defect_40_a_wrong_setting_is_named(deployment: MemoryDeployment, variable: str, text: str) -> None:
    """And nothing is deleted: neither too much nor in pages that are too large."""
    await fill(deployment, [{**REQUEST, "timestamp": deployment.clock.now_ms - 31 * DAY}])
    await deployment.env.set(variable, text)
    with pytest.raises(ReactorError, match=variable):
        await deployment.mutation("retention:sweep", {"table": "aiRequestLogs"})
    assert len(await stored(deployment, "aiRequestLogs")) == 1


async def test_defect_40_an_interrupted_sweep_is_taken_up_again(deployment: MemoryDeployment) -> None:
    now = deployment.clock.now_ms
    await fill(deployment, [{**REQUEST, "timestamp": now - 31 * DAY} for _ in range(250)])
    await deployment.mutation("retention:sweep", {"table": "aiRequestLogs"})
    jobs: Any = await deployment.query(lambda ctx: ctx.db.system.query("_scheduled_functions").collect())
    for job in jobs:
        await deployment.run(lambda ctx, id=job["_id"]: ctx.scheduler.cancel(id))
    await deployment.run_cron("retention of aiRequestLogs")
    await deployment.finish_in_progress_scheduled_functions()
    assert await stored(deployment, "aiRequestLogs") == []


async def test_defect_41_what_is_said_to_be_logarithmic_is(deployment: MemoryDeployment) -> None:
    """Reading and writing cost some documents for each level of a tree, while a scan would read the requests."""
    admin = deployment.as_admin()
    now = deployment.clock.now_ms
    for _ in range(10):
        await fill(deployment, [{**REQUEST, "timestamp": now + index * 1000} for index in range(100)])
    with deployment.record_usage() as runs:
        assert (await stats(admin, now + 15_500, now + 79_500))["totalRequests"] == 640
        await log(admin)
        await admin.mutation("ai/analytics:correctAIRequest", {"id": (await newest(deployment))["_id"], "cost": 1})
        await deployment.run(delete_newest)
    assert all(run.documents_read < 45 for run in runs), runs


async def newest(deployment: MemoryDeployment) -> dict[str, Any]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query("aiRequestLogs").order("desc").first())
    return dict(found)


async def delete_newest(ctx: Any) -> None:
    await ctx.db.delete((await ctx.db.query("aiRequestLogs").order("desc").first())["_id"])
