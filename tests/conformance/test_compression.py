"""Node's WebSocket offers compression: what is compressed for it arrives as it was, and what it compresses too."""

import json
from pathlib import Path

from reactor.client import BlockingClient
from tests.servers import copy_fixture, javascript, running, start_dev

SIZES = (10, 5_000, 400_000)


def test_messages_of_every_size_arrive_whole(tmp_path: Path, node: str) -> None:
    server = start_dev(copy_fixture(tmp_path / "app"))
    with running(server), BlockingClient(server.url) as client:
        for length in SIZES:
            channel = "é" * length  # the arguments of the subscription are what the JavaScript client sends
            body = f"{length}-" + "abcdefgh" * (min(length, 100_000) // 8)
            client.mutation("messages:send", {"channel": channel, "body": body}, timeout=30)
            arguments = tmp_path / "arguments.json"
            arguments.write_text(json.dumps({"channel": channel}), encoding="utf-8")
            live = javascript("js_live_file", server.url, "messages:list_messages", str(arguments))
            with running(live):
                live.wait_for_line('"value"')
                line = next(line for line in live.out if '"value"' in line)
                assert json.loads(line)["value"] == [body]
