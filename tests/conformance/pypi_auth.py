"""Tokens with the `convex` package of PyPI. Arguments: the server, two tokens. Prints [step, result] for each."""

import json
import sys
from typing import Any

from convex import ConvexClient


def say(step: str, result: Any) -> None:
    print(json.dumps([step, result]), flush=True)


def main(url: str, ann: str, bob: str) -> None:
    client = ConvexClient(url)
    live = client.subscribe("who:me", {})
    say("anonymous", next(live))
    for name, token in (("ann", ann), ("bob", bob)):
        client.set_auth(token)
        say(name, next(value for value in live if value == name))
        say(f"{name} wrote", client.mutation("who:sign_up", {}))
    client.clear_auth()
    say("cleared", next(value for value in live if value is None))


main(*sys.argv[1:])
