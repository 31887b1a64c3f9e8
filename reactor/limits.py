"""Every number: what the document model fixes, and what an operator may change.

`MAX_…` constants belong to the Convex model and to the wire; changing one would change what clients see. `Limits` holds
the tunables; each has a unit, bounds and an environment variable, and is passed down from `server/app`.
"""

from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple, get_type_hints

import msgspec

from reactor.errors import InvalidArgument

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# Values (bytes count as in `values/size.py`).
MAX_ARRAY_LENGTH: Final = 8192
MAX_OBJECT_FIELDS: Final = 1024
MAX_VALUE_NESTING: Final = 64
MAX_VALUE_BYTES: Final = 32 * MIB
MAX_DOCUMENT_BYTES: Final = 1 * MIB
MAX_DOCUMENT_NESTING: Final = 16
MAX_FIELD_NAME_BYTES: Final = 1024
MAX_IDENTIFIER_LENGTH: Final = 64
MAX_SAFE_INTEGER: Final = 2**53

# Schema.
MAX_TABLES: Final = 10_000
MAX_INDEXES_PER_TABLE: Final = 64
MAX_INDEX_FIELDS: Final = 16  # with the appended `_creationTime`, so 15 can be declared
MAX_FILTER_FIELDS: Final = 16
MIN_VECTOR_DIMENSIONS: Final = 2
MAX_VECTOR_DIMENSIONS: Final = 4096
FIRST_USER_TABLE: Final = 10_001

# Environment variables of a deployment.
MAX_VARIABLES: Final = 512
MAX_VARIABLE_NAME_LENGTH: Final = 256
MAX_VARIABLE_VALUE_BYTES: Final = 8 * KIB
MAX_VARIABLES_BYTES: Final = 512 * KIB  # names and values of all

# One function execution.
MAX_DOCUMENTS_READ: Final = 32_000
MAX_BYTES_READ: Final = 16 * MIB
MAX_READS: Final = 4096
MAX_DOCUMENTS_WRITTEN: Final = 16_000
MAX_BYTES_WRITTEN: Final = 16 * MIB
MAX_ARGS_BYTES: Final = 16 * MIB
MAX_RESULT_BYTES: Final = 16 * MIB
MAX_CALL_DEPTH: Final = 8
MAX_ACTION_CALLS: Final = 8  # on `ctx` of one action, under way at a time
MAX_ACTION_CALLS_WAITING: Final = 1000  # behind these
LIMIT_WARNING_RATIO: Final = 0.8  # of a limit of one execution; above it a log line warns
MAX_CONFLICT_REPORTS: Final = 200  # recent ones that are kept
MAX_CLOCK_AGE_SECONDS: Final = 17  # of a kept result that shows a time, for who is new
MAX_QUERY_OPERATORS: Final = 256  # `filter` and `where` of one query
MAX_FILTER_NESTING: Final = 128  # expressions inside one another; each level is a call when it is evaluated
MAX_PAGE_ITEMS: Final = 32_000
LOG_POLL_SECONDS: Final = 60.0  # that a reader of the function log waits for something new
MAX_LOG_READERS: Final = 100  # at a time
MAX_LOGGED_ENTRIES: Final = 2000  # of the function log, which readers follow within milliseconds
MAX_LOGGED_BYTES: Final = 2_000_000  # of log lines and error texts in it
MAX_ADMIN_PAGE_ITEMS: Final = 8192  # documents of a table that an administrator browses
MAX_ADMIN_PAGE_BYTES: Final = 5_000_000
SPLIT_PAGE_ITEMS: Final = 6144  # documents of a page above which clients are told to split it
MAX_REPEATS_WAITING: Final = 16  # of sampled runs; beyond it none is sampled
MIN_REPORT_SECONDS: Final = 1.0  # between two reports of functions that gave different results
MAX_RESTART_SECONDS: Final = 30.0  # that `dev` waits before it starts a server again which keeps ending itself
MAX_SCHEDULED_FUNCTIONS: Final = 1000  # by one mutation
MAX_SCHEDULED_ARGS_BYTES: Final = 16 * MIB  # of all functions that one mutation schedules
LARGE_SCHEDULED_ARGS_BYTES: Final = 4 * MIB  # of one function; above it a log line warns
MAX_SCHEDULED_DAYS: Final = 5 * 366  # ahead or behind
MAX_SCHEDULED_ERROR_CHARACTERS: Final = 32_768  # kept of what a scheduled function failed with
MIN_JOB_BACKOFF_SECONDS: Final = 0.5  # before a job that the system has failed is tried again; doubles each time
MAX_JOB_BACKOFF_SECONDS: Final = 7200.0
MAX_OUTAGE_BACKOFF_SECONDS: Final = 15.0  # between two looks whether the deployment takes writes again
RETENTION_BATCH_DOCUMENTS: Final = 1000  # finished jobs removed before the others get a rest
RETENTION_STEP_DOCUMENTS: Final = 100  # of these in one commit
RETENTION_REST_SECONDS: Final = 10.0
MAX_CRON_LOGS: Final = 5  # runs of one cron that are remembered
MAX_CRON_LOG_CHARACTERS: Final = 1000  # of a result, and of all log lines of one run
MAX_LOG_LINES: Final = 256
MAX_FINISH_ROUNDS: Final = 100  # of scheduled functions that schedule others, in one wait of a test
FINISH_SECONDS: Final = 30.0  # of real time that a test waits for scheduled functions
MAX_LOG_LINE_BYTES: Final = 32_768

# Tokens and the keys of issuers.
MAX_TOKEN_BYTES: Final = 32 * KIB
MAX_AUTH_DOCUMENT_BYTES: Final = 512 * KIB  # of a discovery document, or of a set of keys
MAX_AUTH_KEYS: Final = 256  # of one issuer; more are left out
MAX_RSA_BITS: Final = 8192
MIN_RSA_BITS: Final = 2048
TOKEN_LEEWAY_SECONDS: Final = 5  # by which the clocks of issuer and server may differ

# The wire.
MAX_TRANSITION_CHUNK_BYTES: Final = 5_000_000
MAX_CLOSE_REASON_BYTES: Final = 123
MAX_HTTP_BODY_BYTES: Final = 16 * MIB + 2000
MAX_BATCH_QUERIES: Final = 1024
MAX_BATCH_BYTES: Final = 64 * MIB  # of the results of one batch
MAX_HEAD_BYTES: Final = 64 * KIB  # of one HTTP request: the line and its headers
MAX_PARALLEL_QUERIES: Final = 20  # of one batch
MAX_CONTENT_TYPE_LENGTH: Final = 255  # of a stored file

# Deploys.
MAX_DEPLOY_FILES: Final = 10_000  # of one project
MAX_DEPLOY_SAMPLES: Final = 5  # documents of one table that are named when they don't match
MAX_DEPLOY_SAMPLE_CHARACTERS: Final = 500  # of why one does not


class Knob(NamedTuple):
    """How one tunable is described and bounded."""

    unit: str
    low: float
    high: float
    env: str
    doc: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The tunables of one deployment. Build with `Limits()` for the defaults or `from_environ`."""

    slice_ms: Annotated[float, Knob("ms", 0.1, 1000, "REACTOR_SLICE_MS", "engine time before a transaction yields")] = (
        4.0
    )
    scan_check_entries: Annotated[
        int,
        Knob(
            "entries",
            1,
            1 << 20,
            "REACTOR_SCAN_CHECK_ENTRIES",
            "index entries a scan copies before it looks at the clock",
        ),
    ] = 128
    max_commit_attempts: Annotated[
        int,
        Knob("attempts", 1, 100, "REACTOR_MAX_COMMIT_ATTEMPTS", "runs of one mutation before the last, exclusive one"),
    ] = 5
    exclusive_run_ms: Annotated[
        float,
        Knob(
            "ms",
            0,
            10_000,
            "REACTOR_EXCLUSIVE_RUN_MS",
            "how long the last attempt of a mutation may run without yielding to anybody",
        ),
    ] = 50.0
    exclusive_commit_ms: Annotated[
        float,
        Knob(
            "ms",
            0,
            10_000,
            "REACTOR_EXCLUSIVE_COMMIT_MS",
            "how long a last attempt that takes longer may then keep other mutations from committing",
        ),
    ] = 1000.0
    user_seconds: Annotated[
        float,
        Knob("s", 0.05, 3600, "REACTOR_USER_SECONDS", "time that user code of one query or mutation may take"),
    ] = 1.0
    engine_seconds: Annotated[
        float, Knob("s", 0.05, 3600, "REACTOR_ENGINE_SECONDS", "time the engine may spend on one query or mutation")
    ] = 15.0
    hard_seconds: Annotated[
        float,
        Knob(
            "s",
            0.1,
            3600,
            "REACTOR_HARD_SECONDS",
            "time after which a server ends itself, with exit code 27, when user code can't be stopped",
        ),
    ] = 10.0
    actions: Annotated[int, Knob("actions", 1, 1 << 16, "REACTOR_ACTIONS", "actions that run at a time")] = 64
    action_wait_seconds: Annotated[
        float,
        Knob("s", 0, 3600, "REACTOR_ACTION_WAIT_SECONDS", "how long an action beyond those waits before it is refused"),
    ] = 10.0
    action_seconds: Annotated[
        float, Knob("s", 0.05, 86_400, "REACTOR_ACTION_SECONDS", "time that one action may take, waiting included")
    ] = 600.0
    action_grace_seconds: Annotated[
        float,
        Knob(
            "s",
            0,
            600,
            "REACTOR_ACTION_GRACE_SECONDS",
            "time that an `async def` action may take to end once it was cancelled, before it is left to itself",
        ),
    ] = 5.0
    action_stall_seconds: Annotated[
        float,
        Knob(
            "s",
            0.05,
            3600,
            "REACTOR_ACTION_STALL_SECONDS",
            "how long an `async def` action may block its event loop before that is logged and others get a new one",
        ),
    ] = 1.0
    memory_bytes: Annotated[
        int,
        Knob(
            "bytes",
            0,
            1 << 50,
            "REACTOR_MEMORY_BYTES",
            "address space of `dev` and `serve`, beyond which user code gets a MemoryError (0: the machine's memory)",
        ),
    ] = 0
    determinism_sample: Annotated[
        int,
        Knob(
            "runs",
            0,
            1 << 20,
            "REACTOR_DETERMINISM_SAMPLE",
            "in development, one run of a query or mutation in so many is repeated and compared (0: none)",
        ),
    ] = 50
    tail_commits: Annotated[
        int, Knob("commits", 1, 1 << 24, "REACTOR_TAIL_COMMITS", "applied commits that may wait for the disk")
    ] = 20_000
    tail_bytes: Annotated[
        int,
        Knob("bytes", 1 << 16, 1 << 40, "REACTOR_TAIL_BYTES", "bytes of applied commits that may wait for the disk"),
    ] = 64 * MIB
    batch_commits: Annotated[
        int, Knob("commits", 1, 1 << 20, "REACTOR_BATCH_COMMITS", "commits appended to the log in one write")
    ] = 2_000
    batch_bytes: Annotated[
        int, Knob("bytes", 1 << 12, 1 << 34, "REACTOR_BATCH_BYTES", "bytes appended in one write")
    ] = 8 * MIB
    storage_patience_seconds: Annotated[
        float,
        Knob(
            "s",
            0,
            3600,
            "REACTOR_STORAGE_PATIENCE_SECONDS",
            "how long commits wait for a disk that fails, before writes are refused",
        ),
    ] = 5.0
    history_bytes: Annotated[
        int, Knob("bytes", 1 << 16, 1 << 40, "REACTOR_HISTORY_BYTES", "old versions kept for snapshots in use")
    ] = 128 * MIB
    data_bytes: Annotated[
        int,
        Knob("bytes", 1 << 20, 1 << 50, "REACTOR_DATA_BYTES", "memory that documents and their indexes may take"),
    ] = 4 * GIB
    write_log_commits: Annotated[
        int, Knob("commits", 16, 1 << 24, "REACTOR_WRITE_LOG_COMMITS", "recent commits kept for conflict checks")
    ] = 50_000
    fold_records: Annotated[
        int,
        Knob(
            "records",
            1,
            1 << 20,
            "REACTOR_FOLD_RECORDS",
            "log records that wait to be folded into documents while commits keep coming",
        ),
    ] = 20_000
    fold_bytes: Annotated[
        int,
        Knob(
            "bytes",
            1 << 16,
            1 << 40,
            "REACTOR_FOLD_BYTES",
            "bytes of log that wait to be folded into documents while commits keep coming",
        ),
    ] = 64 * MIB
    log_retention_records: Annotated[
        int,
        Knob(
            "records",
            0,
            1 << 40,
            "REACTOR_LOG_RETENTION_RECORDS",
            "folded log records kept for resent requests and followers",
        ),
    ] = 100_000
    wal_bytes: Annotated[
        int,
        Knob("bytes", 1 << 16, 1 << 40, "REACTOR_WAL_BYTES", "SQLite write-ahead log size that triggers a checkpoint"),
    ] = 16 * MIB
    wal_limit_bytes: Annotated[
        int,
        Knob(
            "bytes",
            1 << 18,
            1 << 40,
            "REACTOR_WAL_LIMIT_BYTES",
            "SQLite write-ahead log size at which writes wait for a program that reads the file",
        ),
    ] = 1024 * MIB
    session_results: Annotated[
        int, Knob("results", 1, 1 << 20, "REACTOR_SESSION_RESULTS", "mutation results remembered per client session")
    ] = 1_000
    sessions: Annotated[
        int, Knob("sessions", 1, 1 << 24, "REACTOR_SESSIONS", "client sessions whose results are remembered")
    ] = 10_000
    session_bytes: Annotated[
        int, Knob("bytes", 1 << 16, 1 << 40, "REACTOR_SESSION_BYTES", "bytes of remembered mutation results in total")
    ] = 64 * MIB
    mutations_per_connection: Annotated[
        int, Knob("mutations", 1, 1 << 20, "REACTOR_MUTATIONS_PER_CONNECTION", "unanswered mutations of one socket")
    ] = 1_000
    actions_per_connection: Annotated[
        int, Knob("actions", 1, 1 << 20, "REACTOR_ACTIONS_PER_CONNECTION", "unanswered actions of one socket")
    ] = 1_000
    action_bytes_per_connection: Annotated[
        int,
        Knob(
            "bytes",
            1 << 10,
            1 << 40,
            "REACTOR_ACTION_BYTES_PER_CONNECTION",
            "arguments of unanswered actions of one socket",
        ),
    ] = 64 * MIB
    queries_per_connection: Annotated[
        int, Knob("queries", 1, 1 << 20, "REACTOR_QUERIES_PER_CONNECTION", "live queries of one socket")
    ] = 10_000
    result_cache_bytes: Annotated[
        int,
        Knob("bytes", 0, 1 << 40, "REACTOR_RESULT_CACHE_BYTES", "results of queries kept that nobody subscribes to"),
    ] = 100 * MIB
    live_rounds: Annotated[
        int,
        Knob(
            "rounds",
            1,
            1000,
            "REACTOR_LIVE_ROUNDS",
            "timestamps that observers are brought to at once: so many for new ones, half as many for others",
        ),
    ] = 4
    live_runs: Annotated[
        int, Knob("runs", 1, 1000, "REACTOR_LIVE_RUNS", "suspended runs of live queries in each of these rounds")
    ] = 20
    transitions_unsent: Annotated[
        int, Knob("transitions", 1, 1000, "REACTOR_TRANSITIONS_UNSENT", "transitions waiting in one socket's buffer")
    ] = 2
    mutation_seconds: Annotated[
        float,
        Knob(
            "s",
            1,
            3600,
            "REACTOR_MUTATION_SECONDS",
            "how long a mutation of a socket may go unanswered before the socket is closed and the client asks again",
        ),
    ] = 60.0
    ping_seconds: Annotated[
        float,
        Knob(
            "s", 0.05, 55, "REACTOR_PING_SECONDS", "silence after which the server sends Ping (clients give up at 60)"
        ),
    ] = 15.0
    socket_ping_seconds: Annotated[
        float,
        Knob("s", 0.05, 3600, "REACTOR_SOCKET_PING_SECONDS", "time between two pings of the WebSocket protocol itself"),
    ] = 5.0
    client_silence_seconds: Annotated[
        float, Knob("s", 1, 3600, "REACTOR_CLIENT_SILENCE_SECONDS", "silence after which a client counts as gone")
    ] = 120.0
    message_bytes: Annotated[
        int, Knob("bytes", 1 << 10, 1 << 32, "REACTOR_MESSAGE_BYTES", "largest WebSocket message accepted")
    ] = 17 * MIB
    deflate_bytes: Annotated[
        int,
        Knob(
            "bytes",
            0,
            1 << 32,
            "REACTOR_DEFLATE_BYTES",
            "smallest WebSocket message that is compressed for clients that offer it (0: none; above 1 MiB never)",
        ),
    ] = 1 * KIB
    scheduled_jobs: Annotated[
        int,
        Knob("functions", 1, 1000, "REACTOR_SCHEDULED_JOBS", "scheduled functions that run at a time, and crons too"),
    ] = 8
    scheduled_result_days: Annotated[
        float,
        Knob(
            "days",
            0,
            3660,
            "REACTOR_SCHEDULED_RESULT_DAYS",
            "how long a scheduled function that has ended stays in `_scheduled_functions`",
        ),
    ] = 7.0
    cron_splay_seconds: Annotated[
        int,
        Knob(
            "s",
            0,
            60,
            "REACTOR_CRON_SPLAY_SECONDS",
            "crons of a given minute run up to so much later, each by its own random delay (0: no random times at all)",
        ),
    ] = 60
    http_requests: Annotated[
        int, Knob("requests", 1, 1 << 20, "REACTOR_HTTP_REQUESTS", "HTTP calls of functions that run at a time")
    ] = 1_000
    http_wait_seconds: Annotated[
        float,
        Knob("s", 0, 600, "REACTOR_HTTP_WAIT_SECONDS", "how long a request beyond those waits before it is refused"),
    ] = 5.0
    http_actions: Annotated[
        int, Knob("requests", 1, 1 << 20, "REACTOR_HTTP_ACTIONS", "requests for HTTP actions that run at a time")
    ] = 1_000
    http_action_bytes: Annotated[
        int, Knob("bytes", 1, 1 << 40, "REACTOR_HTTP_ACTION_BYTES", "largest request body of an HTTP action")
    ] = 20 * MIB
    http_seconds: Annotated[
        float,
        Knob("s", 0.05, 3600, "REACTOR_HTTP_SECONDS", "how long an HTTP call may take to come in and be answered"),
    ] = 300.0
    http_idle_seconds: Annotated[
        float,
        Knob(
            "s",
            0.05,
            3600,
            "REACTOR_HTTP_IDLE_SECONDS",
            "time in which the head of a request must come, and 64 KiB of an answer be read, on an HTTP connection",
        ),
    ] = 30.0
    http_unread_bytes: Annotated[
        int,
        Knob(
            "bytes",
            1 << 16,
            1 << 40,
            "REACTOR_HTTP_UNREAD_BYTES",
            "answers over HTTP that wait for clients to read them; beyond, the longest waiting connections are dropped",
        ),
    ] = 256 * MIB
    file_bytes: Annotated[
        int, Knob("bytes", 0, 1 << 50, "REACTOR_FILE_BYTES", "largest file that is stored (0: as the disk allows)")
    ] = 0
    file_transfers: Annotated[
        int,
        Knob("files", 1, 1 << 16, "REACTOR_FILE_TRANSFERS", "uploads at a time, and as many downloads, over HTTP"),
    ] = 100
    file_idle_seconds: Annotated[
        float,
        Knob(
            "s",
            0.05,
            3600,
            "REACTOR_FILE_IDLE_SECONDS",
            "time in which 64 KiB of an upload must come, or of a download leave, before it is given up",
        ),
    ] = 60.0
    file_threads: Annotated[
        int, Knob("threads", 1, 256, "REACTOR_FILE_THREADS", "reads and writes of stored files at a time")
    ] = 4
    file_grace_seconds: Annotated[
        float,
        Knob(
            "s",
            0,
            1 << 30,
            "REACTOR_FILE_GRACE_SECONDS",
            "how long the content of a deleted file, or of one that was never stored to the end, is left on disk",
        ),
    ] = 600.0
    file_sweep_seconds: Annotated[
        float,
        Knob(
            "s",
            1,
            1 << 30,
            "REACTOR_FILE_SWEEP_SECONDS",
            "time between two searches for content on disk that no file has",
        ),
    ] = 86_400.0
    snapshot_seconds: Annotated[
        float,
        Knob(
            "s",
            0,
            3600,
            "REACTOR_SNAPSHOT_SECONDS",
            "how long `/api/query_at_ts` can read at a timestamp that `/api/query_ts` gave",
        ),
    ] = 30.0
    auth_fetch_seconds: Annotated[
        float,
        Knob("s", 0.05, 600, "REACTOR_AUTH_FETCH_SECONDS", "how long an issuer of tokens may take to give its keys"),
    ] = 10.0
    auth_keys_seconds: Annotated[
        float,
        Knob(
            "s",
            0,
            86_400,
            "REACTOR_AUTH_KEYS_SECONDS",
            "age of an issuer's keys from which they are fetched again, while the old ones are still used",
        ),
    ] = 300.0
    auth_keys_max_seconds: Annotated[
        float,
        Knob(
            "s",
            1,
            604_800,
            "REACTOR_AUTH_KEYS_MAX_SECONDS",
            "age of an issuer's keys from which none of them is used any more",
        ),
    ] = 3600.0
    auth_retry_seconds: Annotated[
        float,
        Knob("s", 0, 3600, "REACTOR_AUTH_RETRY_SECONDS", "least time between two fetches of the keys of one issuer"),
    ] = 2.0
    auth_waiting: Annotated[
        int,
        Knob(
            "requests",
            1,
            1 << 20,
            "REACTOR_AUTH_WAITING",
            "HTTP requests that may wait for the keys of issuers at a time; never more than half of those that may run",
        ),
    ] = 200
    deploy_bytes: Annotated[
        int,
        Knob("bytes", 1 << 10, 1 << 32, "REACTOR_DEPLOY_BYTES", "files of a project that `reactor deploy` uploads"),
    ] = 32 * MIB
    deploys_kept: Annotated[
        int, Knob("deploys", 1, 1000, "REACTOR_DEPLOYS_KEPT", "last deploys that are kept to roll back to")
    ] = 10
    shutdown_seconds: Annotated[
        float, Knob("s", 0, 600, "REACTOR_SHUTDOWN_SECONDS", "how long a shutdown waits for answers to leave")
    ] = 10.0
    reload_debounce_ms: Annotated[
        float, Knob("ms", 0, 10_000, "REACTOR_RELOAD_DEBOUNCE_MS", "quiet time after an edit before `dev` reloads")
    ] = 50.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Limits":
        """Return the defaults changed by the variables in `environ`.

        Raises:
            InvalidArgument: a variable is no number or out of bounds; the message names it, its bounds and the value.
        """
        changes: dict[str, float] = {}
        for name, knob in knobs().items():
            text = environ.get(knob.env)
            if text is None:
                continue
            kind = int if isinstance(getattr(cls(), name), int) else float
            try:
                number = kind(text)
            except ValueError:
                raise InvalidArgument(f"{knob.env}={text!r} is not a number of {knob.unit}") from None
            if not knob.low <= number <= knob.high:
                raise InvalidArgument(f"{knob.env}={text} is out of bounds: {knob.low} to {knob.high} {knob.unit}")
            changes[name] = number
        return msgspec.structs.replace(cls(), **changes)


def knobs() -> dict[str, Knob]:
    """Return the description of every tunable, by field name."""
    hints = get_type_hints(Limits, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in Limits.__struct_fields__}
