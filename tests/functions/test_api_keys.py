"""Keys of the API: made, verified, rotated, revoked, listed. Nobody gets a hash, and a key is shown once."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.model.scopes import allows
from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment

HOUR, DAY = 3_600_000.0, 86_400_000.0
ARGS: dict[str, Any] = {"name": "n", "userId": "ann", "scopes": ["ai:*"]}
INVALID = {"ok": False, "reason": "invalid"}


async def create(admin: Caller, **changes: Any) -> Any:
    return await admin.mutation("apiKeys:create", {**ARGS, **changes})


async def verify(admin: Caller, key: str, **args: Any) -> Any:
    return await admin.mutation("apiKeys:verify", {"key": key, **args})


async def rows(deployment: MemoryDeployment, table: str) -> list[dict[str, Any]]:
    found: Any = await deployment.query(lambda ctx: ctx.db.query(table).collect())
    return list(found)


async def test_only_the_hash_is_stored(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin)
    assert len(made["key"]) >= 43  # 32 random bytes
    assert made["key"].startswith(made["prefix"])
    assert len(made["prefix"]) == 8
    (document,) = await rows(deployment, "apiKeys")
    assert document["key"] == hashlib.sha256(made["key"].encode()).hexdigest()
    assert made["key"] not in json.dumps([document, *await rows(deployment, "auditLog")])
    assert (await create(admin))["key"] != made["key"]


async def test_no_hash_is_ever_returned(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin, rateLimit={"requests": 5, "period": 60})
    turned: Any = await admin.mutation("apiKeys:rotate", {"id": made["id"]})
    stored = json.dumps(await rows(deployment, "apiKeys"))
    hashes = [hashlib.sha256(key.encode()).hexdigest() for key in (made["key"], turned["key"])]
    assert all(hash in stored for hash in hashes)
    answers = [
        made,
        turned,
        await verify(admin, turned["key"]),
        await admin.query("apiKeys:list"),
        await admin.query("apiKeys:usage", {"id": made["id"]}),
        await admin.query("audit:list"),
        await admin.query("alerts:list"),
    ]
    (listed,) = answers[3]
    assert listed["prefix"] == turned["prefix"]
    for hash in hashes:
        assert hash[:9] not in json.dumps(answers)
    assert made["key"] not in json.dumps(answers[1:])


async def test_a_key_is_verified(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin)
    known = {"ok": True, "id": made["id"], "userId": "ann", "scopes": ["ai:*"], "remaining": None, "resetAt": None}
    assert await verify(admin, made["key"]) == known
    assert await verify(admin, made["key"], scope="ai:openai") == known
    assert await verify(admin, made["key"], scope="keys:verify") == {"ok": False, "reason": "scope"}
    for wrong in ("", "rk_", made["key"] + "x", made["key"][:-1]):
        assert await verify(admin, wrong) == INVALID


async def test_a_limit_is_kept_and_shown(deployment: MemoryDeployment, admin: Caller) -> None:
    key = (await create(admin, rateLimit={"requests": 4, "period": 60}))["key"]
    now = deployment.clock.now_ms
    first = await verify(admin, key)
    assert (first["remaining"], first["resetAt"]) == (3, now + 15_000)  # a token comes back every 15 s
    for _ in range(3):
        assert (await verify(admin, key))["ok"]
    assert await verify(admin, key) == {"ok": False, "reason": "rate_limited", "retryAfter": 15_000}
    await deployment.advance(milliseconds=14_999)
    assert not (await verify(admin, key))["ok"]
    await deployment.advance(milliseconds=1)
    assert (await verify(admin, key))["ok"]


async def test_a_rotated_key_is_good_for_the_time_of_grace(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin, rateLimit={"requests": 100, "period": 3600})
    turned: Any = await admin.mutation("apiKeys:rotate", {"id": made["id"], "graceHours": 2})
    assert turned["id"] == made["id"]
    for key in (made["key"], turned["key"]):
        assert (await verify(admin, key))["id"] == made["id"]
    assert (await verify(admin, turned["key"]))["remaining"] == 97  # both secrets spend the tokens of one key
    await deployment.advance(hours=2, milliseconds=-1)
    assert (await verify(admin, made["key"]))["ok"]
    await deployment.advance(milliseconds=1)
    assert await verify(admin, made["key"]) == {"ok": False, "reason": "expired"}
    assert (await verify(admin, turned["key"]))["ok"]


async def test_two_rotations_leave_the_last_two_secrets(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin)
    second: Any = await admin.mutation("apiKeys:rotate", {"id": made["id"]})
    third: Any = await admin.mutation("apiKeys:rotate", {"id": made["id"]})
    answers = [(await verify(admin, key))["ok"] for key in (made["key"], second["key"], third["key"])]
    assert answers == [False, True, True]
    at_once: Any = await admin.mutation("apiKeys:rotate", {"id": made["id"], "graceHours": 0})
    assert [(await verify(admin, key))["ok"] for key in (third["key"], at_once["key"])] == [False, True]


async def test_grace_prolongs_nothing(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin, expiresInDays=1)
    await deployment.advance(hours=23)
    turned: Any = await admin.mutation("apiKeys:rotate", {"id": made["id"]})
    assert turned["expiresAt"] == deployment.clock.now_ms + 30 * DAY
    await deployment.advance(hours=1)
    assert (await verify(admin, made["key"]))["reason"] == "expired"
    assert (await verify(admin, turned["key"]))["ok"]


async def test_a_revoked_key_is_denied_in_the_same_transaction(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin)
    turned: Any = await admin.mutation("apiKeys:rotate", {"id": made["id"]})

    async def revoke_and_ask(ctx: Any) -> Any:
        before = await ctx.run_mutation("api_keys:verify", {"key": turned["key"]})
        assert before["ok"]
        await ctx.run_mutation("api_keys:revoke", {"id": made["id"]})
        return [await ctx.run_mutation("api_keys:verify", {"key": made_["key"]}) for made_ in (made, turned)]

    assert await admin.run(revoke_and_ask) == [INVALID, INVALID]
    with pytest.raises(ReactorError, match="KEY_REVOKED"):
        await admin.mutation("apiKeys:rotate", {"id": made["id"]})


async def test_failures_are_remembered(deployment: MemoryDeployment, admin: Caller) -> None:
    await verify(admin, "rk_wrong", ip="192.0.2.1", userAgent="curl")
    (failure,) = await rows(deployment, "embeddingAuthFailures")
    assert (failure["ip"], failure["userAgent"]) == ("192.0.2.1", "curl")
    assert failure["keyHash"] == hashlib.sha256(b"rk_wrong").hexdigest()
    made = await create(admin)
    await verify(admin, made["key"], scope="other:thing")
    assert len(await rows(deployment, "embeddingAuthFailures")) == 2


async def test_use_is_counted_by_the_day(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin, rateLimit={"requests": 3, "period": 86_400})
    for _ in range(4):
        await verify(admin, made["key"])
    await deployment.advance(days=2)
    await verify(admin, made["key"])
    usage: Any = await admin.query("apiKeys:usage", {"id": made["id"], "days": 3})
    assert [(day["requests"], day["refused"]) for day in usage] == [(4, 1), (0, 0), (1, 0)]
    today = deployment.clock.now_ms // DAY * DAY
    assert [day["day"] for day in usage] == [today - 2 * DAY, today - DAY, today]
    only_today: Any = await admin.query("apiKeys:usage", {"id": made["id"], "days": 1})
    assert [day["requests"] for day in only_today] == [1]


async def test_the_last_use_is_noted_once_a_minute(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin)
    begin = deployment.clock.now_ms
    for seconds, noted in ((0, begin), (60, begin), (1, begin + 61_000)):
        await deployment.advance(seconds=seconds)
        await verify(admin, made["key"])
        (document,) = await rows(deployment, "apiKeys")
        assert document["lastUsed"] == noted


async def test_keys_are_listed_by_owner(deployment: MemoryDeployment, admin: Caller) -> None:
    await create(admin, name="a")
    await create(admin, name="b", userId="bob")
    await create(admin, name="c")
    names: Any = await admin.query("apiKeys:list", {"userId": "ann"})
    assert [key["name"] for key in names] == ["c", "a"]
    everyone: Any = await admin.query("apiKeys:list", {"limit": 2})
    assert [key["name"] for key in everyone] == ["c", "b"]


async def test_every_change_is_in_the_audit_log(deployment: MemoryDeployment, admin: Caller) -> None:
    made = await create(admin)
    await admin.mutation("apiKeys:rotate", {"id": made["id"]})
    await admin.mutation("apiKeys:revoke", {"id": made["id"]})
    await admin.mutation("apiKeys:revoke", {"id": made["id"]})
    entries: Any = await admin.query("audit:list", {"target": made["id"]})
    actions = [(entry["actor"], entry["action"]) for entry in reversed(entries)]
    assert actions == [("admin", f"apiKeys.{action}") for action in ("create", "rotate", "revoke")]
    with pytest.raises(ReactorError):
        await create(admin, scopes=["not a scope"])
    assert len(await rows(deployment, "auditLog")) == 3  # what was undone is not in it


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"scopes": ["a b"]}, "INVALID_SCOPE"),
    ({"scopes": ["a:*b"]}, "INVALID_SCOPE"),
    ({"scopes": ["a::b"]}, "INVALID_SCOPE"),
    ({"scopes": [""]}, "INVALID_SCOPE"),
    ({"scopes": ["a" * 101]}, "INVALID_SCOPE"),
    ({"scopes": ["a:b"] * 33}, "INVALID_SCOPE"),
    ({"rateLimit": {"requests": -1, "period": 60}}, "INVALID_NUMBER"),
    ({"rateLimit": {"requests": float("nan"), "period": 60}}, "INVALID_NUMBER"),
    ({"rateLimit": {"requests": 1, "period": 0}}, "INVALID_NUMBER"),
    ({"rateLimit": {"requests": 1, "period": float("inf")}}, "INVALID_NUMBER"),
    ({"expiresInDays": 0}, "INVALID_NUMBER"),
    ({"expiresInDays": -1}, "INVALID_NUMBER"),
    ({"expiresInDays": float("inf")}, "INVALID_NUMBER"),
    ({"name": "n" * 201}, "INVALID_TEXT"),
]


async def test_what_no_key_can_have_is_refused(deployment: MemoryDeployment, admin: Caller) -> None:
    for changes, code in REFUSED:
        with pytest.raises(ReactorError) as refused:
            await create(admin, **changes)
        assert isinstance(refused.value.data, dict)
        assert refused.value.data["code"] == code, changes
    assert await rows(deployment, "apiKeys") == []


SEGMENT = st.text(alphabet="ab", min_size=1, max_size=3)


@given(segments=st.lists(SEGMENT, min_size=1, max_size=3), data=st.data())
def test_a_scope_covers_itself_and_what_its_stars_stand_for(segments: list[str], data: st.DataObject) -> None:
    wanted = ":".join(segments)
    cuts = [data.draw(st.none() | st.integers(0, len(segment))) for segment in segments]
    granted = ":".join(s if cut is None else s[:cut] + "*" for s, cut in zip(segments, cuts, strict=True))
    assert allows([granted], wanted)
    assert not allows([granted], wanted + ":more")
    assert not allows([], wanted)


@given(granted=st.lists(SEGMENT, min_size=1, max_size=3), wanted=st.lists(SEGMENT, min_size=1, max_size=3))
def test_a_scope_without_stars_covers_nothing_else(granted: list[str], wanted: list[str]) -> None:
    assert allows([":".join(granted)], ":".join(wanted)) == (granted == wanted)
