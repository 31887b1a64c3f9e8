"""Serving a deployment as a process: port, signals, shutdown.

Promises that the port is taken before data is opened, that a signal ends accepting first and the data last with answers
in between, and that nothing secret in a URL is logged. Used by the commands `dev` and `serve`.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from reactor.errors import InvalidArgument
from reactor.limits import Limits
from reactor.runtime import lastresort
from reactor.runtime.watchdog import watchdog
from reactor.server.allocator import give_back_large_buffers
from reactor.server.app import Deployment
from reactor.server.http.http1 import http_protocol
from reactor.server.sync.websocket import websocket_protocol

logger = logging.getLogger("reactor.server")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
BACKLOG: Final = 2048
SWITCH_SECONDS: Final = 0.0005
GC_THRESHOLDS: Final = (50_000, 20, 50)
LEAST_MEMORY: Final = 4 << 30  # address space, of which a process uses far more than memory
THREADS_SECONDS: Final = 0.5  # that threads which actions have left behind get to end by themselves
KILLED: Final = 130  # the exit code of an interrupt, by convention

Alongside = Callable[[], Coroutine[Any, Any, None]]


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """Take a port; 0 takes a free one. `option` is what the user may choose another one with.

    Raises:
        InvalidArgument: it can't be had; the message names it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidArgument(f"Can't listen on {host}: {error}.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InvalidArgument(
            f"Can't listen on {host} port {port}: {error.strerror}. "
            f"Stop the program that uses it, or choose another with {option}."
        ) from error
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address a client on this machine uses."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    deployment: Deployment,
    listener: socket.socket,
    *,
    site: socket.socket | None = None,
    page: bool = False,
    load: bool = True,
    before: Alongside | None = None,
    ready: Callable[[], Awaitable[None] | None] | None = None,
    alongside: Alongside | None = None,
    supervisor: int | None = None,
) -> None:
    """Open `deployment` and serve it until a signal comes; then shut down gracefully. A second signal cuts that short.

    Args:
        listener: from `bind`; closed in any case.
        site: the same, for a port that serves nothing but HTTP actions.
        page: whether to serve the page for developers at `/`.
        load: whether to load and deploy the project while opening.
        before: work on the open deployment before anybody is answered; clients that come meanwhile wait.
        ready: called once requests are answered.
        alongside: work for as long as requests are answered, cancelled before the shutdown; when it fails, serving
            ends with its exception.
        supervisor: a pipe that brings one byte for each signal to the process that started this one. A signal to both
            counts once. At the end of the file, when that process is gone, this one ends at once.

    Raises:
        PushError, StorageError: the deployment can't be opened.
    """
    listeners = [listener] if site is None else [listener, site]
    with contextlib.ExitStack() as closing:
        for one in listeners:
            closing.enter_context(one)
        stop = _Stop(supervisor)
        with stop.on_signals():
            if not await stop.interrupts(deployment.open(load=load)):
                return
            try:
                if before is not None and not await stop.interrupts(before()):
                    return
                server = _Server(_config(deployment, page, site), deployment, stop)
                await server.run(listeners, ready, alongside)
            finally:
                await deployment.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program's main coroutine on the fastest event loop there is."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    tune_interpreter()
    give_back_large_buffers()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
    _leave_threads()


def _leave_threads() -> None:
    """See to it that the process ends, although Python waits for every thread of a pool; all data is safe.

    Actions may have left some behind that sleep, or wait for a network, and can't be stopped.
    """
    main = threading.main_thread()
    if any(thread is not main and thread.name != watchdog.NAME for thread in threading.enumerate()):
        threading.Thread(target=_end, name="reactor-end", daemon=True).start()


def _end() -> None:
    time.sleep(THREADS_SECONDS)
    # Still here, so the interpreter waits.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def tune_interpreter() -> None:
    """Set up a process that does nothing but serve.

    The storage thread needs the interpreter for microseconds after each sync, and would wait 5 ms for it while the loop
    is busy. Stored documents are bytes, which the collector does not see; what it does see is mostly short-lived.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLDS)


def protect(limits: Limits) -> None:
    """Bound what user code can do to a process that does nothing but serve: to its memory, and by hanging it for good.

    For the commands, before `run`; an embedding program keeps its own limits.
    """
    lastresort.arm(limits.hard_seconds)
    watchdog.on_hard_limit = lastresort.end
    if resource is not None:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = limits.memory_bytes or max(machine, LEAST_MEMORY)
        # Not above what the operator allows. Python raises MemoryError where the system would otherwise kill.
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _config(deployment: Deployment, page: bool, site: socket.socket | None) -> uvicorn.Config:
    limits = deployment.limits
    app = deployment.asgi(page=page)
    if site is not None:
        app = _ByPort(app, deployment.site_asgi(), site.getsockname()[1])
    return uvicorn.Config(
        app,
        loop="none",
        http=http_protocol(limits),
        ws=websocket_protocol(limits),
        ws_max_size=limits.message_bytes,
        # A client that answers no ping for this long is gone; JS clients say nothing else for hours.
        ws_ping_interval=limits.socket_ping_seconds,
        ws_ping_timeout=limits.client_silence_seconds,
        ws_per_message_deflate=False,  # uvicorn's; ours is in `websocket_protocol`
        lifespan="off",
        proxy_headers=False,  # anybody on this machine could choose the address that actions see of it
        access_log=False,  # a URL may hold an admin key
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(limits.shutdown_seconds)),
    )


class _ByPort:
    """Two applications on two ports of one server."""

    def __init__(self, main: ASGIApp, site: ASGIApp, site_port: int) -> None:
        self._main = main
        self._site = site
        self._site_port = site_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket; where it was accepted decides, not what it says."""
        server = scope.get("server")
        is_site = server is not None and server[1] == self._site_port
        await (self._site if is_site else self._main)(scope, receive, send)


class _Stop:
    """Whether it is time to end, and how urgently: the first signal asks, the second cuts short, the third kills.

    Killing is safe: what was answered is durable.
    """

    def __init__(self, supervisor: int | None = None) -> None:
        self.asked = asyncio.Event()
        self.cut_short: Callable[[], None] | None = None  # what a second signal does; without it, it kills
        self._supervisor = supervisor
        self._count = 0
        self._own = 0  # signals to this process
        self._passed_on = 0  # signals to the supervisor

    def now(self) -> None:
        """Ask for the end, once more."""
        self._own += 1
        self._count_up()

    def _hear(self) -> None:
        """Take what the supervisor passes on."""
        assert self._supervisor is not None
        signals = os.read(self._supervisor, 64)
        if not signals:
            os._exit(KILLED)  # it was killed, and the terminal should not keep a server that nobody sees
        self._passed_on += len(signals)
        self._count_up()

    def _count_up(self) -> None:
        while self._count < max(self._own, self._passed_on):
            self._count += 1
            self.asked.set()
            if self._count == 2 and self.cut_short is not None:
                self.cut_short()
            elif self._count >= 2:
                os._exit(KILLED)

    async def interrupts(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run `work`, cancelled if the end is asked for; return whether it finished."""
        task = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(self.asked.wait())
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return False
        return True

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask for the end."""
        loop = asyncio.get_running_loop()
        installed: list[signal.Signals] = []
        for number in SIGNALS:
            # Not in other threads than the main one, and not on Windows.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.now)
                installed.append(number)
        if self._supervisor is not None:
            loop.add_reader(self._supervisor, self._hear)
        try:
            yield
        finally:
            if self._supervisor is not None:
                loop.remove_reader(self._supervisor)
            for number in installed:
                loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    """Uvicorn, with our signals and our order of shutting down."""

    def __init__(self, config: uvicorn.Config, deployment: Deployment, stop: _Stop) -> None:
        super().__init__(config)
        self._deployment = deployment
        self._stop = stop
        self._quiet: asyncio.Future[None] | None = None

    async def run(  # type: ignore[override]
        self,
        listeners: list[socket.socket],
        ready: Callable[[], Awaitable[None] | None] | None,
        alongside: Alongside | None,
    ) -> None:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=listeners)
        self._stop.cut_short = self._cut_short
        work: asyncio.Task[None] | None = None
        ticking = asyncio.create_task(self.main_loop(), name="reactor-server-ticks")
        asked = asyncio.create_task(self._stop.asked.wait(), name="reactor-server-stop")
        tasks: list[asyncio.Task[Any]] = [ticking, asked]
        try:
            if ready is not None:
                waiting = ready()
                if waiting is not None:
                    await waiting
            if alongside is not None:
                work = asyncio.create_task(alongside(), name="reactor-server-alongside")
            await asyncio.wait({*tasks, *([work] if work else [])}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.should_exit = True
            for task in (asked, *([work] if work else [])):
                task.cancel()
            results = await asyncio.gather(*tasks, *([work] if work else []), return_exceptions=True)
            await self.shutdown(sockets=listeners)
        if work is not None and isinstance(results[-1], Exception):
            raise results[-1]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, finish answers, close sessions; uvicorn then closes what is left."""
        for server in self.servers:
            server.close()
        self._quiet = asyncio.ensure_future(self._deployment.quiesce())
        await asyncio.wait({self._quiet})
        await super().shutdown(sockets)

    def _cut_short(self) -> None:
        self.force_exit = True
        if self._quiet is not None:
            self._quiet.cancel()
