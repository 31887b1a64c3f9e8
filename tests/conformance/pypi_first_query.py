"""The first live query with the `convex` package of PyPI. Prints each update as a line of JSON.

A program of its own, because its core is native code that a test could not interrupt.
"""

import json
import sys

from convex import ConvexClient

REQUEST = {"model": "gpt", "fingerprint": "f", "ip": "127.0.0.1", "success": True, "latencyMs": 120.0}


def main(url: str) -> None:
    client = ConvexClient(url)
    watched = {"provider": "pypi", "timeRange": {"start": 0.0}}
    for stats in client.subscribe("ai/analytics:getProviderStats", watched):
        print(json.dumps(stats), flush=True)
        if stats["totalRequests"]:
            return
        print(json.dumps(client.mutation("ai/analytics:logAIRequest", {"provider": "pypi", **REQUEST})), flush=True)


main(sys.argv[1])
