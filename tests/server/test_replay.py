"""What the official clients really sent, replayed: each message is taken, answered and followed by a Transition."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor.auth.identity import user_identity
from tests.server.fakes import Client, success, value

FRAMES = json.loads((Path(__file__).parent.parent / "vectors" / "sync-frames.json").read_text(encoding="utf-8"))


def connections() -> Iterator[Any]:
    for scenario in FRAMES["scenarios"]:
        by_connection: dict[int, list[dict[str, Any]]] = {}
        for frame in scenario["frames"]:
            if frame["from"] == "client":
                by_connection.setdefault(frame["conn"], []).append(frame["message"])
        for number, messages in by_connection.items():
            yield pytest.param(messages, id=f"{scenario['name']}-{number}")


@pytest.mark.parametrize("messages", list(connections()))
def test_everything_an_official_client_sends_is_taken(messages: list[dict[str, Any]]) -> None:
    client = Client(durable_ts=2**62)
    version = {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}
    ts = client.durable_ts
    for message in messages:
        before = len(client.outlet.sent)
        client.mutations.action_outcome = success(ts)
        client.tokens.known[message.get("value")] = user_identity({"name": "Ann"})
        client.receive(message)
        kind = message["type"]
        if kind == "Mutation" and client.mutations.submitted:
            ts += 1
            client.mutations.submitted.pop()[1](success(ts))
        assert client.outlet.closed is None, client.outlet.sent
        answers = client.outlet.sent[before:]
        expected = {"Mutation": ["MutationResponse"], "Action": ["ActionResponse"]}.get(kind, [])
        assert [answer["type"] for answer in answers] == expected
        assert [answer["requestId"] for answer in answers] == [message["requestId"] for _ in expected]
        if kind in ("Connect", "Event"):
            continue
        assert client.live.asked, f"{kind} must be followed by a Transition"
        for handle in client.live.open:
            handle.result = value({"path": handle.call.path, "ts": ts}, version=ts)
        transition = client.transition(ts)
        assert transition["startVersion"] == version
        version = transition["endVersion"]
        if kind == "ModifyQuerySet":
            assert version["querySet"] == message["newVersion"]
            changed = {modification["queryId"] for modification in transition["modifications"]}
            assert {modification["queryId"] for modification in message["modifications"]} <= changed
        if kind == "Authenticate":
            assert version["identity"] == message["baseVersion"] + 1
