"""Cutting a client off in the middle of an answer, which ASGI has no word for.

Our own server (`server/http/http1`) offers it in the scope of each request. Apart from that module, so that who embeds
a deployment imports no server. Used by `files`.
"""

from typing import Final

from starlette.requests import ClientDisconnect, Request

ABORT: Final = "reactor.abort"  # among the extensions of a scope


async def abort(request: Request) -> None:
    """Drop the connection of a request that is partly answered, with all that its client has not read.

    Raises:
        ClientDisconnect: the server behind does not offer that; it closes what is not answered to the end.
    """
    extension = request.scope.get("extensions", {}).get(ABORT)
    if extension is None:
        raise ClientDisconnect
    extension["abort"]()
    while (await request.receive())["type"] != "http.disconnect":  # so that the server knows it, too
        pass
