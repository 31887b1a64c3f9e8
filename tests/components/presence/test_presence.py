"""Presence: who is online, until when, and who is told."""

from typing import Any

import pytest

from reactor.testing.deployment import MemoryDeployment

INTERVAL = 10_000
OVER = 2.5 * INTERVAL


async def beat(
    deployment: MemoryDeployment, user: str, session: str, room: str = "lobby", interval: float = INTERVAL
) -> Any:
    args = {"roomId": room, "userId": user, "sessionId": session, "interval": interval}
    return await deployment.mutation("presence:heartbeat", args)


async def online(deployment: MemoryDeployment, room: str = "lobby") -> dict[str, bool]:
    found: Any = await deployment.query("presence:room", room=room)
    return {user["userId"]: user["online"] for user in found}


async def rows(deployment: MemoryDeployment, table: str) -> int:
    count: Any = await deployment.component("presence").query(lambda ctx: ctx.db.query(table).count())
    return int(count)


async def test_without_heartbeats_a_user_goes_offline(deployment: MemoryDeployment) -> None:
    await beat(deployment, "ann", "s1")
    start = deployment.clock.now_ms
    await deployment.advance(milliseconds=OVER - 1)
    assert await online(deployment) == {"ann": True}
    await deployment.advance(milliseconds=1)
    found: Any = await deployment.query("presence:room", room="lobby")
    assert found == [{"userId": "ann", "online": False, "lastDisconnected": start + OVER}]
    assert await rows(deployment, "sessions") == 0 == await rows(deployment, "sessionTokens")


async def test_heartbeats_keep_a_user_online(deployment: MemoryDeployment) -> None:
    tokens = set()
    for _ in range(10):
        tokens.add(tuple((await beat(deployment, "ann", "s1")).items()))
        await deployment.advance(milliseconds=INTERVAL)
    assert await online(deployment) == {"ann": True}
    assert len(tokens) == 1, "tokens stay"


async def test_leaving_counts_at_once(deployment: MemoryDeployment) -> None:
    tokens = await beat(deployment, "ann", "s1")
    await deployment.advance(milliseconds=5)
    await deployment.mutation("presence:disconnect", sessionToken=tokens["sessionToken"])
    found: Any = await deployment.query("presence:list", roomToken=tokens["roomToken"])
    assert found == [{"userId": "ann", "online": False, "lastDisconnected": deployment.clock.now_ms}]
    await deployment.mutation("presence:disconnect", sessionToken=tokens["sessionToken"])
    assert await deployment.mutation("presence:disconnect", sessionToken="unknown") is None


async def test_the_last_session_counts(deployment: MemoryDeployment) -> None:
    first = await beat(deployment, "ann", "s1")
    await beat(deployment, "ann", "s2")
    await beat(deployment, "ann", "s3", room="other")
    await deployment.mutation("presence:disconnect", sessionToken=first["sessionToken"])
    assert await online(deployment) == {"ann": True}
    await deployment.advance(milliseconds=OVER)
    assert await online(deployment) == {"ann": False} == await online(deployment, "other")


async def test_back_online(deployment: MemoryDeployment) -> None:
    tokens = await beat(deployment, "ann", "s1")
    await deployment.mutation("presence:disconnect", sessionToken=tokens["sessionToken"])
    again = await beat(deployment, "ann", "s1")
    found: Any = await deployment.query("presence:list", roomToken=again["roomToken"])
    assert found == [{"userId": "ann", "online": True, "lastDisconnected": 0}]
    assert again["roomToken"] == tokens["roomToken"]
    assert again["sessionToken"] != tokens["sessionToken"]


async def test_many_expire_in_batches(deployment: MemoryDeployment) -> None:
    for number in range(150):
        await beat(deployment, f"u{number}", f"s{number}", room=f"r{number % 2}")
    await deployment.advance(milliseconds=OVER)
    assert await rows(deployment, "sessions") == 150 - 64
    await deployment.advance(seconds=2)
    assert await rows(deployment, "sessions") == 0
    states = {**await online(deployment, "r0"), **await online(deployment, "r1")}
    assert set(states.values()) == {False}


async def test_an_earlier_deadline_is_kept(deployment: MemoryDeployment) -> None:
    """Of a new session, and of one that is known and beats faster now."""
    await beat(deployment, "ann", "s1", interval=60_000)
    await beat(deployment, "bob", "s2", interval=2_000)
    await deployment.advance(milliseconds=5_000)
    assert await online(deployment) == {"ann": True, "bob": False}
    await beat(deployment, "ann", "s1", interval=4_000)
    await deployment.advance(milliseconds=10_000)
    assert await online(deployment) == {"ann": False, "bob": False}


async def test_a_token_is_needed_to_look(deployment: MemoryDeployment) -> None:
    tokens = await beat(deployment, "ann", "s1")
    for wrong in ("", "lobby", tokens["sessionToken"]):
        assert await deployment.query("presence:list", roomToken=wrong) == []
    other = await beat(deployment, "bob", "s2")
    assert other["roomToken"] == tokens["roomToken"], "one live query for all"
    assert (await beat(deployment, "ann", "s3", room="else"))["roomToken"] != tokens["roomToken"]


async def test_those_online_come_first_then_the_latest(deployment: MemoryDeployment) -> None:
    for user in ("ann", "bob", "cem", "dan"):
        await beat(deployment, user, user)
    for user in ("bob", "ann"):
        tokens = await beat(deployment, user, user)
        await deployment.advance(milliseconds=10)
        await deployment.mutation("presence:disconnect", sessionToken=tokens["sessionToken"])
    found: Any = await deployment.query("presence:room", room="lobby")
    assert [user["userId"] for user in found] == ["dan", "cem", "ann", "bob"]
    found = await deployment.query("presence:room", room="lobby", limit=3)
    assert [user["userId"] for user in found] == ["dan", "cem", "ann"]
    found = await deployment.query("presence:room", room="lobby", online_only=True)
    assert [user["userId"] for user in found] == ["dan", "cem"]


async def test_data_of_a_user(deployment: MemoryDeployment) -> None:
    tokens = await beat(deployment, "ann", "s1")
    await deployment.mutation("presence:update", room="lobby", user="ann", data={"cursor": [1, 2]})
    await beat(deployment, "ann", "s1")
    found: Any = await deployment.query("presence:list", roomToken=tokens["roomToken"])
    (ann,) = found
    assert ann["data"] == {"cursor": [1, 2]}
    await deployment.mutation("presence:disconnect", sessionToken=tokens["sessionToken"])
    found = await deployment.query("presence:user", user="ann")
    (ann,) = found
    assert ann["data"] == {"cursor": [1, 2]}, "it outlives the session"
    await deployment.mutation("presence:update", room="lobby", user="ann")
    found = await deployment.query("presence:user", user="ann")
    (ann,) = found
    assert "data" not in ann
    with pytest.raises(ValueError, match="'bob' was never in room 'lobby'"):
        await deployment.mutation("presence:update", room="lobby", user="bob")


async def test_rooms_of_a_user(deployment: MemoryDeployment) -> None:
    left = await beat(deployment, "ann", "s1", room="a")
    await beat(deployment, "ann", "s2", room="b")
    await beat(deployment, "bob", "s3", room="c")
    await deployment.mutation("presence:disconnect", sessionToken=left["sessionToken"])

    async def rooms(**options: Any) -> list[str]:
        found: Any = await deployment.query("presence:user", user="ann", **options)
        return [room["roomId"] for room in found]

    assert await rooms() == ["b", "a"]
    assert await rooms(online_only=True) == ["b"]
    assert await rooms(limit=1) == ["b"]


async def test_removing_a_user_from_a_room(deployment: MemoryDeployment) -> None:
    for user, session, room in (("ann", "s1", "a"), ("ann", "s2", "a"), ("ann", "s3", "b"), ("bob", "s4", "a")):
        await beat(deployment, user, session, room=room)
    await deployment.mutation("presence:remove_user", room="a", user="ann")
    assert (await online(deployment, "a"), await online(deployment, "b")) == ({"bob": True}, {"ann": True})
    assert await rows(deployment, "sessions") == 2 == await rows(deployment, "sessionTokens")
    await beat(deployment, "ann", "s1", room="a")
    assert await online(deployment, "a") == {"bob": True, "ann": True}
    await deployment.mutation("presence:remove_user", room="a", user="nobody")


async def test_removing_a_room(deployment: MemoryDeployment) -> None:
    for number in range(150):
        tokens = await beat(deployment, f"u{number}", f"s{number}")
    await beat(deployment, "ann", "other", room="other")
    await deployment.mutation("presence:remove_room", room="lobby")
    assert await deployment.query("presence:list", roomToken=tokens["roomToken"]) == []
    await deployment.finish_in_progress_scheduled_functions()
    assert await online(deployment) == {}
    for table in ("presence", "sessions", "roomTokens", "sessionTokens"):
        assert await rows(deployment, table) == 1, table
    await deployment.advance(milliseconds=OVER)
    assert await online(deployment, "other") == {"ann": False}


async def test_a_session_is_of_one_user_in_one_room(deployment: MemoryDeployment) -> None:
    await beat(deployment, "ann", "s1")
    for user, room in (("bob", "lobby"), ("ann", "other")):
        with pytest.raises(ValueError, match="Session 's1' is of another user or room"):
            await beat(deployment, user, "s1", room=room)
    assert await online(deployment, "other") == {}


@pytest.mark.parametrize("interval", [0, -1, float("inf"), float("nan")])
async def test_an_interval_is_a_span_of_time(deployment: MemoryDeployment, interval: float) -> None:
    with pytest.raises(ValueError, match="positive number of milliseconds"):
        await beat(deployment, "ann", "s1", interval=interval)
    assert await online(deployment) == {}


async def test_heartbeats_are_no_news(deployment: MemoryDeployment) -> None:
    """Who watches a room hears when somebody comes or goes, and nothing in between."""
    tokens = await beat(deployment, "ann", "s1")
    async with deployment.subscribe("presence:list", roomToken=tokens["roomToken"]) as live:
        assert len(await live.settled()) == 1
        for _ in range(3):
            await deployment.advance(milliseconds=INTERVAL)
            await beat(deployment, "ann", "s1")
            await beat(deployment, "ann", "s2")
            assert await live.is_unchanged()
        await beat(deployment, "bob", "s3")
        assert len(await live.next()) == 2
        await deployment.advance(milliseconds=OVER)
        assert [user["online"] for user in await live.settled()] == [False, False]


async def test_a_heartbeat_is_in_nobodys_way(deployment: MemoryDeployment) -> None:
    """Held before its end, while others come, beat faster and are written about: it needs no second attempt."""
    for user in ("ann", "bob"):
        await beat(deployment, user, user)
    args = {"roomId": "lobby", "userId": "ann", "sessionId": "ann", "interval": INTERVAL}
    async with deployment.hold("presence:heartbeat", args, at=5) as held:
        await beat(deployment, "bob", "bob")
        await beat(deployment, "ann", "second tab", interval=1000)
        await deployment.mutation("presence:update", room="lobby", user="ann", data="x")
        await held.finish()
        assert held.attempts == 1


async def test_another_tab_is_no_news(deployment: MemoryDeployment) -> None:
    """Held behind its look at a user, a mutation is not disturbed by another session of that user."""
    await beat(deployment, "ann", "s1")
    args = {"room": "lobby", "user": "ann", "data": "x"}
    async with deployment.hold("presence:update", args, at=3) as held:
        await beat(deployment, "ann", "s2")
        await held.finish()
        assert held.attempts == 1
