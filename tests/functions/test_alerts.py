"""Alerts: one an hour for each kind and subject, acknowledged, and sent to a webhook."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from reactor import ReactorError
from reactor.server.callers import Caller
from reactor.testing.deployment import MemoryDeployment


async def raised(deployment: MemoryDeployment, kind: str = "bot_attack", subject: str = "f") -> Any:
    alerts = deployment.module("functions.model.alerts")
    return await deployment.run(lambda ctx: alerts.raise_alert(ctx, kind, "warning", subject, {"n": 1}))


async def listed(admin: Caller, **args: Any) -> Any:
    return await admin.query("alerts:list", args)


async def test_one_an_hour_for_each_kind_and_subject(deployment: MemoryDeployment, admin: Caller) -> None:
    first = await raised(deployment)
    assert await raised(deployment) is None
    assert await raised(deployment, subject="g")
    assert await raised(deployment, kind="key_anomaly")
    await deployment.advance(hours=1, milliseconds=-1)
    assert await raised(deployment) is None
    await deployment.advance(milliseconds=1)
    assert await raised(deployment) not in (None, first)
    assert len(await listed(admin)) == 4


async def test_the_newest_come_first(deployment: MemoryDeployment, admin: Caller) -> None:
    for subject in ("a", "b", "c"):
        await raised(deployment, subject=subject)
        await deployment.advance(seconds=1)
    now = deployment.clock.now_ms
    assert [alert["subject"] for alert in await listed(admin)] == ["c", "b", "a"]
    assert [alert["subject"] for alert in await listed(admin, limit=1)] == ["c"]
    assert [alert["subject"] for alert in await listed(admin, since=now - 2000)] == ["c", "b"]


async def test_an_alert_is_acknowledged_once(deployment: MemoryDeployment, admin: Caller) -> None:
    first, second = await raised(deployment, subject="a"), await raised(deployment, subject="b")
    assert await admin.mutation("alerts:acknowledge", {"id": first}) is True
    await deployment.advance(seconds=1)
    assert await admin.mutation("alerts:acknowledge", {"id": first}) is False
    assert [alert["_id"] for alert in await listed(admin, unacknowledgedOnly=True)] == [second]
    entries: Any = await admin.query("audit:list")
    assert [(entry["action"], entry["target"]) for entry in entries] == [("alerts.acknowledge", first)]

    await deployment.run(lambda ctx: ctx.db.delete(first))
    with pytest.raises(ReactorError, match="NO_SUCH_ALERT"):
        await admin.mutation("alerts:acknowledge", {"id": first})


class Receiver:
    """A webhook that refuses the first requests it gets."""

    def __init__(self, refusals: int) -> None:
        self.bodies: list[Any] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(json.loads(body))
                self.send_response(503 if len(receiver.bodies) <= refusals else 204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    receiver = Receiver(getattr(request, "param", 0))
    yield receiver
    receiver.close()


async def test_an_alert_is_sent_to_the_webhook(deployment: MemoryDeployment, receiver: Receiver) -> None:
    await deployment.env.set("ALERT_WEBHOOK_URL", receiver.url)
    id = await raised(deployment)
    await deployment.finish_in_progress_scheduled_functions()
    (body,) = receiver.bodies
    assert body == {
        "id": id,
        "timestamp": deployment.clock.now_ms,
        "kind": "bot_attack",
        "severity": "warning",
        "subject": "f",
        "data": {"n": 1},
    }


@pytest.mark.parametrize(
    ("receiver", "expected"), [(2, [1, 2, 3, 3, 3, 3]), (100, [1, 2, 3, 4, 5, 6])], indirect=["receiver"]
)
async def test_a_webhook_that_does_not_answer_is_asked_again(
    deployment: MemoryDeployment, receiver: Receiver, expected: list[int]
) -> None:
    await deployment.env.set("ALERT_WEBHOOK_URL", receiver.url)
    await raised(deployment)
    await deployment.finish_in_progress_scheduled_functions()
    asked = [len(receiver.bodies)]
    for wait in (1, 4, 16, 64, 256):
        await deployment.advance(seconds=1.5 * wait)  # more or less by half
        asked.append(len(receiver.bodies))
    assert asked == expected
    await deployment.advance(hours=1)
    assert len(receiver.bodies) == expected[-1]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:1", ""])
async def test_a_url_that_is_none_is_logged_and_not_opened(
    deployment: MemoryDeployment, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await deployment.env.set("ALERT_WEBHOOK_URL", url)
    await raised(deployment)
    await deployment.finish_in_progress_scheduled_functions()
    assert "ALERT_WEBHOOK_URL" in caplog.text


async def test_nothing_is_sent_of_what_is_undone(deployment: MemoryDeployment, receiver: Receiver) -> None:
    await deployment.env.set("ALERT_WEBHOOK_URL", receiver.url)
    alerts = deployment.module("functions.model.alerts")

    async def fail(ctx: Any) -> None:
        await alerts.raise_alert(ctx, "bot_attack", "info", "f")
        raise ReactorError("no")

    with pytest.raises(ReactorError):
        await deployment.run(fail)
    await deployment.finish_in_progress_scheduled_functions()
    assert receiver.bodies == []
