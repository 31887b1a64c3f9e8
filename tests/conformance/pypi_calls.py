"""Everything an app does with the `convex` package of PyPI, step by step. Prints [step, result] for each.

A program of its own, because its core is native code that a test could not interrupt.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from convex import ConvexClient, ConvexError

CHANNEL: dict[str, Any] = {"channel": "pypi"}


def say(step: str, result: Any) -> None:
    print(json.dumps([step, result]), flush=True)


def outcome(call: Callable[..., Any], name: str, args: dict[str, Any]) -> dict[str, Any]:
    try:
        call(name, args)
    except ConvexError as error:
        return {"data": error.data}
    except Exception as error:
        return {"message": str(error)}
    raise AssertionError(f"{name} succeeded")


def main(url: str) -> None:
    client = ConvexClient(url)
    live = client.subscribe("messages:listMessages", CHANNEL)
    say("first", {"value": next(live)})
    say("failing", outcome(client.query, "messages:fail", CHANNEL))
    say("sent", client.mutation("messages:send", {**CHANNEL, "body": "one"}))
    # This client repeats the value it has at every Transition, also when nothing about it changed.
    say("push", {"value": next(bodies for bodies in live if bodies)})
    say("query", client.query("messages:listMessages", CHANNEL))
    say("refused", outcome(client.mutation, "messages:send", {**CHANNEL, "body": ""}))
    say("failed", outcome(client.mutation, "messages:send", {**CHANNEL, "body": "boom"}))
    say("invalid", outcome(client.mutation, "messages:send", {**CHANNEL, "body": 7}))
    say("internal", outcome(client.query, "messages:secret", {}))
    say("missing", outcome(client.query, "messages:missing", {}))
    live.unsubscribe()
    say("sent", client.mutation("messages:send", {**CHANNEL, "body": "two"}))
    say("query", client.query("messages:listMessages", CHANNEL))
    try:
        next(live)
    except Exception as error:
        say("unread", str(error))


main(sys.argv[1])
