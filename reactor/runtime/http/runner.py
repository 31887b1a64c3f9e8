"""HTTP actions: from the request a handler is given to the last byte of its response.

Owns what becomes of a handler that raises. Promises that every end is reported exactly once, on the engine's thread,
with what a client may be told of it; that a handler may raise Starlette's `HTTPException`; that the files of a form are
closed; and that a plain `def` handler gets a request whose methods give their results without `await`. What runs on the
thread of the action gets ASGI channels that belong there. Used by `server/http/actions`.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Protocol

import msgspec
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Scope

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.errors import Error, ReturnsInvalid, TooManyRequests, Unavailable
from reactor.runtime.actions.runs import Answered, Ended, Task
from reactor.runtime.actions.service import Actions
from reactor.runtime.calls import Call
from reactor.runtime.components.definitions import child_path
from reactor.runtime.executor import Executor
from reactor.runtime.failures import failure_of, http_failure
from reactor.runtime.http.mounts import HttpPlace, locate
from reactor.runtime.http.router import Route
from reactor.runtime.versions import Version

NO_ARGS: Final = b"{}"


class Channels(Protocol):
    """The body of the request and the way of the response, on the event loop on which `begin` was called."""

    def begin(self) -> None:
        """Let the request come."""

    async def receive(self) -> Message:
        """Return the next part of the body; ASGI's `receive`."""

    async def until_gone(self) -> Message:
        """Return when the client is gone."""

    async def send(self, message: Message) -> None:
        """Send a part of the response; ASGI's `send`."""


class HttpEnd(msgspec.Struct, frozen=True):
    """How an HTTP action ended: well when `error` is None.

    `refusal` is there when the system has stopped it. `body` is the JSON for a client that has got nothing yet, and
    `detail` the whole story for the operator.
    """

    error: BaseException | None = None
    refusal: Error | None = None
    body: bytes = b""
    detail: str = ""
    log_lines: tuple[str, ...] = ()


class HttpRunner:
    """Runs the HTTP actions of one deployment. Belongs to the engine's thread."""

    def __init__(self, actions: Actions, executor: Executor) -> None:
        self._actions = actions
        self._executor = executor

    def version(self) -> Version:
        """Return the deployed version.

        Raises:
            Unavailable: nothing was pushed yet.
        """
        return self._executor.versions.at(self._executor.database.durable_ts)

    def locate(self, version: Version, method: str, path: str) -> HttpPlace:
        """Return whose routes a request is for."""
        project = version.project
        return locate(project.root, method, path, None if project.app is None else project.app.http_prefix)

    def run(
        self,
        version: Version,
        route: Route,
        scope: Scope,
        channels: Channels,
        done: Callable[[HttpEnd], None],
        *,
        identity: Identity,
        request_id: str,
        component: str,
    ) -> Callable[[], None]:
        """Answer one request; `done` hears of the end. Returns what cancels it.

        A handler of a component is told of no identity but an administrator's.
        """
        handler = route.handler
        if component and identity.kind != "admin":
            identity = ANONYMOUS
        call = Call(
            path=handler.path,
            args=NO_ARGS,
            identity=identity,
            request_id=request_id,
            component=component,
            caller="HttpEndpoint",
        )
        answered = Answered()
        answer = _answer if handler.is_async else _answer_blocking
        task = Task(
            call,
            version,
            child_path(component, handler.path),
            partial(answer, handler.handler, scope, channels, answered),
            handler.is_async,
            shown=f"{route.method} {route.path}{'*' if route.is_prefix else ''}",
            answered=answered,
        )
        return self._actions.perform(task, partial(self._ended, task, done), is_admitted=True)

    def _ended(self, task: Task, done: Callable[[HttpEnd], None], ended: Ended) -> None:
        error = ended.error
        if error is None:
            done(HttpEnd(log_lines=ended.log_lines))
            return
        refusal = ended.stopped if isinstance(ended.stopped, Unavailable | TooManyRequests) else None
        request_id, files, redact = task.call.request_id, task.version.project.files, self._executor.redact
        body = http_failure(error, request_id=request_id, files=files, redact=redact)
        told = failure_of(error, request_id=request_id, ts=0, log_lines=(), files=files, redact=False)
        done(HttpEnd(error, refusal, body, told.message, ended.log_lines))


# On the thread of the action.


async def _answer(
    handler: Callable[[Any, Request], Any], scope: Scope, channels: Channels, answered: Answered, ctx: Any
) -> None:
    channels.begin()
    request = Request(scope, channels.receive)
    try:
        try:
            response = await handler(ctx, request)
        except HTTPException as error:
            response = _response_of(error)
        if getattr(response, "body", None) is not None and getattr(response, "background", None) is None:
            ctx._port.check_awaited()  # a stream may still await what its handler began; its end tells
        answered.status = getattr(response, "status_code", 0)
        await _send(response, scope, channels)
    finally:
        await request.close()


def _answer_blocking(
    handler: Callable[[Any, Request], Any], scope: Scope, channels: Channels, answered: Answered, ctx: Any
) -> None:
    # A loop of its own: it runs while the handler reads, and while the response is sent.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(_begin(channels))
        request = BlockingRequest(scope, channels, runner)
        try:
            try:
                response = handler(ctx, request)
            except HTTPException as error:
                response = _response_of(error)
            answered.status = getattr(response, "status_code", 0)
            runner.run(_send(response, scope, channels))
        finally:
            request.close()


async def _begin(channels: Channels) -> None:
    channels.begin()


async def _send(response: object, scope: Scope, channels: Channels) -> None:
    if not isinstance(response, Response):
        raise ReturnsInvalid(
            "An HTTP action must return one of the responses of starlette.responses, such as JSONResponse(...), "
            f"not {response!r:.200}"
        )
    await response(scope, channels.until_gone, channels.send)


def _response_of(error: HTTPException) -> Response:
    return PlainTextResponse(error.detail, status_code=error.status_code, headers=error.headers)


class BlockingRequest(Request):
    """Starlette's request as a plain `def` handler gets it: nothing is awaited, and `stream()` is for a `for` loop."""

    def __init__(self, scope: Scope, channels: Channels, runner: asyncio.Runner) -> None:
        super().__init__(scope, channels.receive)
        self._awaited = Request(scope, channels.receive)  # whose methods call each other, and await what they get
        self._runner = runner

    def body(self) -> bytes:  # type: ignore[override]
        """Return the whole body."""
        return self._runner.run(self._awaited.body())

    def json(self) -> Any:
        """Return what the body says, decoded."""
        return self._runner.run(self._awaited.json())

    def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        """Return the fields and files of a form; read a file with `upload.file.read()`."""
        return self._runner.run(_gather(self._awaited, limits))

    def stream(self) -> Iterator[bytes]:  # type: ignore[override]
        """Yield the body in parts as they come."""
        parts = self._awaited.stream()
        while True:
            try:
                yield self._runner.run(_next(parts))
            except StopAsyncIteration:
                return

    def is_disconnected(self) -> bool:  # type: ignore[override]
        """Whether the client is gone."""
        return self._runner.run(self._awaited.is_disconnected())

    def close(self) -> None:  # type: ignore[override]
        """Close the files of the form."""
        self._runner.run(self._awaited.close())


async def _gather(request: Request, limits: dict[str, Any]) -> FormData:
    return await request.form(**limits)


async def _next(parts: Any) -> bytes:
    return bytes(await anext(parts))
