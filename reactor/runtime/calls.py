"""What goes into the runtime and what comes out: a call, its outcome.

Owns no behaviour. Arguments and results cross as encoded wire JSON, so that nothing is encoded or decoded twice. Used
by the executor, the live queries and the server.
"""

import hashlib

import msgspec

from reactor.auth.identity import ANONYMOUS, Identity
from reactor.errors import Error


class Call(msgspec.Struct, frozen=True):
    """One request to run a function.

    `args` is the single arguments object as wire JSON. `session` and `request` identify a mutation that a client may
    send again. `request_id` is the 16 hex digits shown in error texts, empty when it is that of the session's request:
    few calls need it, so `request_id_of` makes it when one does. `journal` is where an earlier run of the same
    query ended its page. `component` is the path of the component instance that `path` is looked up in, empty for the
    application itself. `job` is the id of the scheduled function that this call is, or is a part of.
    `caller` and `parent` are for the function log: which way it came, in the official words, and from which execution.
    """

    path: str
    args: bytes | msgspec.Raw
    identity: Identity = ANONYMOUS
    request_id: str = ""
    session: str | None = None
    request: int | None = None
    internal: bool = False  # may reach internal functions: admins, tests and the server itself
    journal: str | None = None
    component: str = ""
    job: str | None = None
    caller: str = "SyncWorker"
    parent: int = 0


def request_id_of(call: Call) -> str:
    """Return the 16 hex digits by which error texts name a call."""
    if call.request_id or call.session is None:
        return call.request_id or "0" * 16
    return session_request_id(call.session, call.request or 0)


def session_request_id(session: str, request: int) -> str:
    """Return the 16 hex digits of a session's request, which the official server makes in this way."""
    return hashlib.sha256(f"{session}|{request}".encode()).hexdigest()[:16]


class Success(msgspec.Struct, frozen=True):
    """The function returned. `ts` is the timestamp its effect, or its snapshot, is visible at."""

    value: bytes
    ts: int
    log_lines: tuple[str, ...] = ()


class Failure(msgspec.Struct, frozen=True):
    """The function failed, with everything it wrote undone.

    `message` is ready for clients. `detail` is the same without the request id, to compare results by. `data` is the
    wire JSON of a `ReactorError`'s data, or None when something else was raised.
    """

    message: str
    detail: str
    ts: int
    data: bytes | None = None
    log_lines: tuple[str, ...] = ()
    error: BaseException | None = None  # for in-process callers, never sent


class Refused(msgspec.Struct, frozen=True):
    """The system could not answer; nothing may be concluded from the outcome but what `error` says."""

    error: Error


Outcome = Success | Failure | Refused
