"""What type checkers make of scheduling, files, HTTP actions, crons and components. See `functions.py`."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from reactor.runtime.actions.context import ActionCtx
from reactor.runtime.components.definitions import define_app, define_component
from reactor.runtime.context import MutationCtx
from reactor.runtime.decorators import action, http_action, internal_mutation, mutation
from reactor.runtime.environment.mapping import env
from reactor.runtime.http.router import http_router
from reactor.runtime.jobs.crons import cron_jobs
from reactor.runtime.references import components, internal
from reactor.schema.validators import v


@internal_mutation
async def notify(ctx: MutationCtx, message: str, times: int = 1) -> None: ...


@mutation
async def send(ctx: MutationCtx, body: str) -> str:
    assert_type(await ctx.scheduler.run_after(timedelta(seconds=5), notify, message="x"), str)
    assert_type(await ctx.scheduler.run_after(5000, internal.messages.notify, {"message": "x"}), str)
    assert_type(await ctx.scheduler.run_after(0, notify, {"message": "x"}), str)
    assert_type(await ctx.scheduler.run_at(datetime.now(UTC), notify, message="x", times=2), str)
    assert_type(await ctx.scheduler.run_at(1.5, "messages:notify"), str)
    await ctx.scheduler.run_after(0, notify, mesage="x")  # expect: call-overload
    await ctx.scheduler.run_after("soon", notify, message="x")  # expect: call-overload
    assert_type(await ctx.storage.generate_upload_url(), str)
    assert_type(await ctx.storage.get_url("x"), str | None)
    assert_type(await ctx.function_handle(notify), str)
    assert_type(await ctx.auth.get_user_identity(), dict[str, Any] | None)
    assert_type(await ctx.run_mutation(components.limiter.limits.take, key="a"), Any)
    ctx.storage.store(b"x")  # expect: attr-defined
    return ctx.env["A"] + env["B"]


@action
async def act(ctx: ActionCtx, n: int) -> str:
    assert_type(await ctx.scheduler.run_after(timedelta(seconds=5), notify, message="x"), str)
    await ctx.scheduler.run_at(datetime.now(UTC), notify, mesage="x")  # expect: call-overload

    async def parts() -> AsyncIterator[bytes]:
        yield b""

    await ctx.storage.store(Path("x"))
    await ctx.storage.store(parts(), "image/png")
    await ctx.storage.store("text")  # expect: arg-type
    stored = await ctx.storage.store(b"x", content_type="text/plain")
    assert_type(stored, str)
    file = await ctx.storage.get(stored)
    if file is not None:
        assert_type((file.size, file.sha256, file.content_type), tuple[int, str, str | None])
        assert_type(await file.read(), bytes)
        async for part in file.stream():
            assert_type(part, bytes)
    assert_type(await ctx.storage.get_url(stored), str | None)
    assert_type(await ctx.storage.generate_upload_url(), str)
    await ctx.storage.delete(stored)
    return await ctx.function_handle(act)


@http_action
async def hook(ctx: ActionCtx, request: Request) -> Response:
    await ctx.run_mutation(send, body=(await request.json())["body"])
    return JSONResponse({})


@http_action
async def stream(ctx: ActionCtx, request: Request) -> StreamingResponse:
    return StreamingResponse(request.stream())


crons = cron_jobs()
crons.interval("tidy", notify, {"message": "x"}, minutes=1)
crons.daily("reset", internal.scores.reset, hour_utc=17, minute_utc=30)
crons.daily("reset", internal.scores.reset)  # expect: call-arg
crons.cron("report", "0 16 1 * *", components.mail.reports.send, {"to": "ops"})

http = http_router()
http.route(path="/hook", method="POST", handler=hook)
http.route(path_prefix="/stream/", method="GET", handler=stream)

component = define_component(__name__, env={"LIMIT": v.optional(v.string())})
app = define_app()
app.use(component, name="signup", env={"LIMIT": env.ref("SIGNUP_LIMIT")}, http_prefix="/signup/")
