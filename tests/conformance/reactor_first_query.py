"""The first live query with `reactor.client`. Prints each update as a line of JSON."""

import asyncio
import json
import sys

from reactor.client import Client

REQUEST = {"model": "gpt", "fingerprint": "f", "ip": "127.0.0.1", "success": True, "latencyMs": 120}


async def main(url: str) -> None:
    async with Client(url) as client:
        watched = {"provider": "reactor", "timeRange": {"start": 0}}
        async with client.subscribe("ai/analytics:getProviderStats", watched) as live:
            async for stats in live:
                print(json.dumps(stats), flush=True)
                if stats["totalRequests"]:
                    return
                result = await client.mutation("ai/analytics:logAIRequest", {"provider": "reactor", **REQUEST})
                print(json.dumps(result), flush=True)


asyncio.run(main(sys.argv[1]))
