"""The baseline server: raw WebSocket echo and broadcast, on uvicorn as reactor is served.

`/echo` answers every message with itself. `/room` sends every message of one connection to all connections of the room.
"""

import asyncio
from typing import Any

import uvicorn

from bench.driver import run
from reactor.server.run import bind, url_of

room: set[Any] = set()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve one socket."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/room":
        room.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            message = {"type": "websocket.send", "text": event["text"]}
            if scope["path"] == "/room":
                for other in room:
                    await other(message)
            else:
                await send(message)
    finally:
        room.discard(send)


async def main() -> None:
    """Serve until a signal comes."""
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_level="warning",
        ws_ping_interval=None,
    )
    server = uvicorn.Server(config)
    asyncio.get_running_loop().call_soon(lambda: print(f"ready at {url_of(listener)}", flush=True))
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    run(main())
