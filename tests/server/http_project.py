"""A project with HTTP actions of every kind, for tests in process and over real sockets."""

from pathlib import Path

from tests.server.projects import write_project

ROUTES = '''
import asyncio
import json

from reactor import ReactorError, http_action, http_router
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse


def send(ctx, body):
    return ctx.run_mutation("messages:send", {"channel": "http", "body": body})


@http_action
async def info(ctx, request):
    user = await ctx.auth.get_user_identity()
    return JSONResponse({
        "method": request.method,
        "url": str(request.url),
        "path": request.url.path,
        "base": str(request.base_url),
        "query": dict(request.query_params),
        "headers": dict(request.headers),
        "body": (await request.body()).decode(),
        "client": request.client and request.client.host,
        "user": user and user["name"],
    })


@http_action
async def store(ctx, request):
    message = (await request.json())["body"]
    await send(ctx, message)
    return JSONResponse(await ctx.run_query("messages:list", {"channel": "http"}), status_code=201)


@http_action
def store_blocking(ctx, request):
    send(ctx, request.json()["body"])
    return JSONResponse(ctx.run_query("messages:list", {"channel": "http"}))


@http_action
async def size(ctx, request):
    total = 0
    async for part in request.stream():
        total += len(part)
    return PlainTextResponse(str(total))


@http_action
def size_blocking(ctx, request):
    return PlainTextResponse(str(sum(len(part) for part in request.stream())))


@http_action
def stream_blocking(ctx, request):
    def parts():
        for number in range(3):
            send(ctx, str(number))
            yield f"{number}\\n"
    assert not request.is_disconnected()
    return StreamingResponse(parts())


@http_action
async def echo(ctx, request):
    return StreamingResponse(request.stream(), media_type="application/octet-stream")


@http_action
async def binary(ctx, request):
    return Response(bytes(range(256)) * 100, media_type="application/x-all", headers={"etag": "x"})


@http_action
async def form(ctx, request):
    fields = await request.form()
    return JSONResponse({name: value if isinstance(value, str) else (await value.read()).decode()
                         for name, value in fields.items()})


@http_action
def form_blocking(ctx, request):
    fields = request.form()
    return JSONResponse({name: value if isinstance(value, str) else value.file.read().decode()
                         for name, value in fields.items()})


@http_action
async def fail(ctx, request):
    how = request.url.path.rpartition("/")[2]
    if how == "value":
        raise ValueError("no good")
    if how == "data":
        raise ReactorError({"code": "TAKEN", "limit": 2})
    if how == "nested":
        await send(ctx, "bad")
    if how == "http":
        raise HTTPException(418, "a teapot", headers={"x-pot": "tea"})
    if how == "type":
        return {"not": "a response"}
    if how == "header":
        return Response("x", headers={"x-a": "b\\r\\nset-cookie: c=d"})
    if how == "status":
        return Response("x", status_code=700)
    if how == "length":
        return Response("abc", headers={"content-length": "many"})
    if how == "unawaited":
        ctx.run_query("messages:list", {"channel": "http"})
        return Response("x")
    if how == "unawaited_by_stream":
        ctx.run_query("messages:list", {"channel": "http"})
        return StreamingResponse(iter("x"))

    async def parts():
        yield "begun"
        raise ValueError("too late")
    return StreamingResponse(parts())


@http_action
async def endless(ctx, request):
    """Send without end, and store how much it came to."""
    count = 0

    async def parts():
        nonlocal count
        while True:
            count += 1
            yield b"x" * 65536

    async def told():
        await send(ctx, f"ended after {count}")

    return StreamingResponse(parts(), background=BackgroundTask(told))


@http_action
async def quiet(ctx, request):
    """Send one part and then nothing, until the client is gone."""
    story = []

    async def parts():
        try:
            yield b"begun"
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            story.append("cancelled")
            raise

    async def told():
        await send(ctx, story[0])

    return StreamingResponse(parts(), background=BackgroundTask(told))


@http_action
async def patient(ctx, request):
    """Go on after the client has gone."""
    await send(ctx, "begun")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    await send(ctx, "gone")
    return Response("nobody reads this")


@http_action
async def never_read(ctx, request):
    await asyncio.Event().wait()


@http_action
async def half_read(ctx, request):
    """Read until the client goes."""
    try:
        async for part in request.stream():
            await send(ctx, f"{len(part)} bytes")
    except Exception as error:
        await send(ctx, type(error).__name__)
        raise


@http_action
async def unread(ctx, request):
    return PlainTextResponse("not interested")


@http_action
async def caught(ctx, request):
    try:
        await request.body()
    except Exception as error:
        return JSONResponse({"code": error.code, "rule": error.rule})


http = http_router()
for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    http.route(path_prefix="/info/", method=method, handler=info)
http.route(path="/info/get-only", method="GET", handler=binary)
http.route(path="/store", method="POST", handler=store)
http.route(path="/store-blocking", method="POST", handler=store_blocking)
http.route(path="/size", method="POST", handler=size)
http.route(path="/size-blocking", method="POST", handler=size_blocking)
http.route(path="/stream-blocking", method="GET", handler=stream_blocking)
http.route(path="/echo", method="POST", handler=echo)
http.route(path="/binary", method="GET", handler=binary)
http.route(path="/form", method="POST", handler=form)
http.route(path="/form-blocking", method="POST", handler=form_blocking)
http.route(path_prefix="/fail/", method="GET", handler=fail)
http.route(path="/endless", method="GET", handler=endless)
http.route(path="/quiet", method="GET", handler=quiet)
http.route(path="/patient", method="GET", handler=patient)
http.route(path="/never-read", method="POST", handler=never_read)
http.route(path="/half-read", method="POST", handler=half_read)
http.route(path="/unread", method="POST", handler=unread)
http.route(path="/caught", method="POST", handler=caught)
http.route(path="/cors", method="GET", handler=binary, cors={"allow_origins": ["https://a.example"], "max_age": 60})
http.route(path="/cors", method="POST", handler=fail, cors={"allow_origins": ["https://a.example"]})
http.route(path="/cors-own", method="POST", handler=info, cors=True)
http.route(path="/cors-own", method="OPTIONS", handler=binary)
'''


CLEAR = """

@mutation(args={"channel": v.string()})
async def clear(ctx, channel):
    async for message in ctx.db.query("messages").with_index("by_channel", channel=channel):
        await ctx.db.delete(message["_id"])
"""


def write_http_project(folder: Path) -> Path:
    """Write the project into `folder`."""
    write_project(folder)
    (folder / "functions" / "http.py").write_text(ROUTES)
    with (folder / "functions" / "messages.py").open("a") as functions:
        functions.write(CLEAR)
    return folder
