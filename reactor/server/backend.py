"""What an open deployment offers to its sockets, requests and in-process callers, and nothing more.

They ask for it anew each time: a deployment that is not open has none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from starlette.types import ASGIApp, Scope

from reactor.auth.identity import Identity
from reactor.ports import Rng
from reactor.runtime.calls import Call, Outcome
from reactor.runtime.decorators import Kind
from reactor.runtime.files.store import Files
from reactor.runtime.functionlog import FunctionLog
from reactor.runtime.http.mounts import HttpPlace
from reactor.runtime.http.router import Route
from reactor.runtime.http.runner import Channels, HttpEnd
from reactor.runtime.versions import Version
from reactor.server.deploys.service import Deploys
from reactor.server.snapshots import Snapshots
from reactor.server.sync.ports import CheckAdmin, CheckToken, Live
from reactor.transfer.service import Transfers

Done = Callable[[Outcome], None]
Handler = Callable[[Any], Awaitable[Any]]
Submit = Callable[[Call, Done], None]


class Functions(Protocol):
    """Runs functions; `ran` and `done` are never called from inside these methods."""

    def submit_mutation(self, call: Call, done: Done, ran: Callable[[], None] = ...) -> None: ...
    def submit_query(self, call: Call, done: Done, ts: int | None = None) -> None: ...
    def submit_action(self, call: Call, done: Done) -> None: ...
    def submit_any(self, call: Call, done: Done) -> None: ...


class Http(Protocol):
    """Runs HTTP actions; `done` is never called from inside `run`."""

    def version(self) -> Version: ...
    def locate(self, version: Version, method: str, path: str) -> HttpPlace: ...
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
    ) -> Callable[[], None]: ...


class Unpushed(Protocol):
    """A deployment whose first project is still to come: its environment can be made ready for that."""

    def variables(self) -> dict[str, str]:
        """Return the environment variables that are set."""

    async def change_variables(self, changes: Mapping[str, str | None]) -> None:
        """Set or unset some, all or none."""


class Backend(msgspec.Struct, frozen=True):
    """The running parts."""

    functions: Functions
    live: Live
    http: Http
    http_actions: ASGIApp
    snapshots: Snapshots
    durable_ts: Callable[[], int]
    check_admin: CheckAdmin
    check_token: CheckToken
    identify: Callable[[str], Awaitable[Identity]]  # the same as `check_token`, for who can wait
    submit_handler: Callable[[Kind, Handler, Call, Done], None]
    rng: Rng
    files: Files
    log: FunctionLog
    transfers: Transfers
    deploys: Deploys | None  # None when the project is in a folder of the operator's
    before_push: Callable[[], Unpushed | None]  # None once functions can run

    def new_request_id(self) -> str:
        """Return 16 hex digits for a request that brought none."""
        return self.rng.token_bytes(8).hex()


OpenBackend = Callable[[], Backend]  # raises Unavailable while the deployment is not open


async def outcome_of(submit: Submit, call: Call) -> Outcome:
    """Run a call and wait for its outcome; an awaiter that goes away loses only the answer."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    waiting = [future]

    def done(outcome: Outcome) -> None:
        # Let go of the future: the traceback of an error leads through the call to `done`, and would be in a cycle.
        waiting_for = waiting.pop()
        if not waiting_for.done():
            waiting_for.set_result(outcome)

    submit(call, done)
    return await future
