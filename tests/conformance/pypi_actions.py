"""Actions with the `convex` package of PyPI, step by step. Prints [step, result] for each."""

import json
import sys
from typing import Any

from convex import ConvexClient, ConvexError

CHANNEL: dict[str, Any] = {"channel": "pypi"}


def say(step: str, result: Any) -> None:
    print(json.dumps([step, result]), flush=True)


def failure(client: ConvexClient, name: str, args: dict[str, Any]) -> dict[str, Any]:
    try:
        client.action(name, args)
    except ConvexError as error:
        return {"data": error.data}
    except Exception as error:
        return {"message": str(error)}
    raise AssertionError(f"{name} succeeded")


def main(url: str) -> None:
    client = ConvexClient(url)
    say("relayed", client.action("work:relay", {**CHANNEL, "body": "one"}))
    say("seen", client.query("messages:listMessages", CHANNEL))
    say("relayed", client.action("work:relayBlocking", {**CHANNEL, "body": "two"}))
    say("refused", failure(client, "work:relay", {**CHANNEL, "body": ""}))
    say("refused", failure(client, "work:relayBlocking", {**CHANNEL, "body": ""}))
    say("failed", failure(client, "work:relay", {**CHANNEL, "body": "boom"}))
    say("invalid", failure(client, "work:relay", {**CHANNEL, "body": 7}))
    say("internal", failure(client, "work:hidden", {}))
    say("missing", failure(client, "work:missing", {}))
    say("wrong", failure(client, "messages:send", {**CHANNEL, "body": "x"}))


main(sys.argv[1])
