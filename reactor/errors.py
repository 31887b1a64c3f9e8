"""The error tree: everything reactor raises on purpose.

    Error                       root: `code`, `status`, `retryable`
    ├── ReactorError            the application's own error; its `data` reaches clients (alias ConvexError)
    ├── ValidationError         a value, argument, result, document or schema is not what was declared
    │   ├── ArgumentsInvalid    before a function ran
    │   ├── ReturnsInvalid      after it ran
    │   └── DocumentInvalid     at a write
    ├── InvalidArgument         a call to `ctx` or to the server with a bad parameter
    ├── DeterminismError        a query or mutation did what only actions may do
    ├── UnawaitedCallError      a `ctx` call was made but never awaited
    ├── FunctionTimeout         user code ran too long
    ├── SystemTimeout           the engine worked too long for one function
    ├── LimitExceeded           a documented limit, with its value and the actual one
    ├── DataBytesExceeded       the data would outgrow the memory it may take
    ├── DocumentNotFound        write to a document that does not exist
    ├── StoredFileNotFound      a stored file that does not exist, to delete
    ├── InvalidStorageId        what should name a stored file is no such id
    ├── InvalidUploadToken      an upload URL that is expired, garbled or of another deployment
    ├── NotUnique               `unique()` found two documents
    ├── InvalidCursor           a page cursor from elsewhere; its data reaches clients
    ├── InvalidPage             options of `paginate` that can't be served
    ├── FilterError             a filter expression that a document gives no boolean for
    ├── AccessDenied            the row rules do not allow a write
    ├── UnknownTable, UnknownIndex   a name the schema does not have
    ├── EnvironmentVariableMissing   a function asked for a variable that nobody has set
    ├── FunctionNotFound        no public function under that name
    ├── InvalidFunctionCall     a function called as another kind, or from the wrong place
    ├── SchedulingError         a function can't be scheduled so, or a scheduled one not be cancelled
    ├── NotSupported            declared, but not built yet
    ├── WriteConflict           lost to a later commit on every attempt
    ├── SnapshotTooOld          history needed for a read is gone
    ├── Overloaded              a bounded queue is full (`CommitterFullError` …)
    ├── TooManyRequests         as much is under way as may be (`TooManyConcurrentRequests`); nothing was begun
    ├── Unavailable             the deployment is not open, or shutting down
    ├── OutcomeUnknown          a commit may or may not have become durable
    ├── PushError               a project could not be loaded; carries the user's file and line
    ├── TransferRefused         an import or export that can't be done; nothing was changed
    ├── DeployRefused           a deploy that is not made: `ProjectIsLocal`, `SchemaValidationFailed` …
    ├── StorageError            the data directory or database cannot be used
    ├── ProtocolError           a client sent something the protocol does not allow
    ├── Forbidden               the identity may not do this
    ├── Unauthenticated         a user's token was refused
    ├── AuthConfigInvalid       `functions/auth_config.py` names providers that can't be
    ├── AuthProviderFailed      what an issuer publishes about itself can't be used
    ├── AuthProviderUnavailable an issuer does not answer, so its tokens can't be checked now
    └── on the client side: FunctionError, ConnectionLost, AuthError

A code is stable: tests, metrics and clients match on it, never on the message.
"""

from typing import Any, ClassVar, final


class Error(Exception):
    """Root of every error raised on purpose. Anything else that escapes is a bug in reactor."""

    code: ClassVar[str] = "InternalServerError"
    status: ClassVar[int] = 500  # HTTP form; the sync protocol derives its own from `code` and `retryable`
    retryable: ClassVar[bool] = False


class WithRule(Exception):
    """What errors of many causes have: `rule`, the official code of this one, as stable as `code` and finer."""

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(message)


@final
class ReactorError(Error):
    """The application's own error: `data`, any Convex value, reaches the calling client unredacted.

    Official clients see it as `ConvexError` with the same `data`.
    """

    code = "ReactorError"
    status = 400

    def __init__(self, data: Any) -> None:
        self.data = data
        super().__init__(data if isinstance(data, str) else repr(data))


ConvexError = ReactorError


class ValidationError(Error):
    """A value does not have the declared shape. The message names the path, the value and the validator."""

    code = "InvalidValue"
    status = 400


class ArgumentsInvalid(ValidationError):
    """Arguments do not match the function's `args`; the function did not run."""

    code = "ArgumentValidationError"


class ReturnsInvalid(ValidationError):
    """The function returned something its `returns` does not allow; nothing was committed."""

    code = "ReturnsValidationError"


class DocumentInvalid(ValidationError):
    """A write does not match the table's schema, or is not a document at all."""

    code = "SchemaEnforcementError"


class SchemaInvalid(WithRule, ValidationError):
    """The schema itself breaks a rule. `rule` is the official code, such as `IndexNotUnique`."""

    code = "SchemaDefinitionError"


class InvalidArgument(Error):
    """A call was made with a parameter it does not take."""

    code = "InvalidArgument"
    status = 400


class DeterminismError(Error):
    """A query or mutation used something that would make a second run differ, or block the engine."""

    code = "NotAllowedInQueriesOrMutations"
    status = 400


class UnawaitedCallError(Error):
    """A `ctx` call was made but its result was never awaited; nothing was committed."""

    code = "UnawaitedCall"
    status = 400


class FunctionTimeout(Error):
    """User code of a query or mutation exceeded its time limit."""

    code = "FunctionTimeout"
    status = 400


class SystemTimeout(Error):
    """The engine spent more time on one query or mutation than it may: read and write less in one function."""

    code = "SystemTimeoutError"
    status = 503


class LimitExceeded(WithRule, Error):
    """A documented limit was exceeded. `rule` is the official code, such as `TooManyDocumentsRead`."""

    code = "LimitExceeded"
    status = 400


class DataBytesExceeded(Error):
    """Documents and indexes would take more memory than they may; nothing was written. Deleting still works."""

    code = "DataBytesExceeded"
    status = 507


class DocumentNotFound(Error):
    """A patch, replace or delete names a document that is not there."""

    code = "NonexistentDocument"
    status = 400


class StoredFileNotFound(Error):
    """A file that should be deleted is not there, or not any more."""

    code = "StorageIdNotFound"
    status = 404


class InvalidStorageId(Error):
    """What should name a stored file is no id of `_storage`."""

    code = "InvalidStorageId"
    status = 400


class InvalidUploadToken(WithRule, Error):
    """An upload URL is not good here, or not any more. `rule` is the official code, such as `StorageTokenExpired`."""

    code = "StorageTokenInvalid"
    status = 401


class NotUnique(Error):
    """`unique()` found more than one document."""

    code = "NotUnique"
    status = 400


class InvalidCursor(Error):
    """A page cursor or journal that belongs to another query or deployment, or is garbled.

    Its `data` reaches clients like that of a `ReactorError`: by it official clients begin again at the first page.
    """

    code = "InvalidCursor"
    status = 400

    def __init__(self) -> None:
        self.data: dict[str, Any] = {"isConvexSystemError": True, "paginationError": "InvalidCursor"}
        super().__init__(
            "InvalidCursor: Tried to run a query starting from a cursor, "
            "but it looks like this cursor is from a different query."
        )


class InvalidPage(WithRule, Error):
    """A page can't be read as asked. `rule` is the official code, such as `PageSizeTooLarge`."""

    code = "InvalidPage"
    status = 400


class FilterError(Error):
    """A filter expression met a document it can't be evaluated for: arithmetic on text, or a result that is no boolean.

    Comparisons never fail: values of different types have an order.
    """

    code = "EvalError"
    status = 400


class AccessDenied(Error):
    """The row rules of a table do not allow this insert, update or delete; the document was not written.

    `table` and `operation` say which rule it was. The text never shows a document.
    """

    code = "AccessDenied"
    status = 403

    def __init__(self, table: str, operation: str, why: str) -> None:
        self.table, self.operation = table, operation
        super().__init__(f'The rules of table "{table}" do not allow this {operation}: {why}.')


class UnknownTable(Error):
    """The schema has no table of that name."""

    code = "UnknownTable"
    status = 400


class UnknownIndex(Error):
    """The table has no index of that name, or it can't be used for this query."""

    code = "IndexNotFoundError"
    status = 400


class EnvironmentVariableMissing(Error, KeyError):
    """A function asked for an environment variable that is not set: `reactor env set NAME=value` sets it.

    It is a `KeyError`, so that `env.get(name)` and `name in env` work as for any mapping.
    """

    code = "EnvironmentVariableMissing"
    status = 400

    def __init__(self, name: str, advice: str | None = None) -> None:
        self.name = name
        super().__init__(
            advice
            or f"Environment variable {name!r} is not set on this deployment. Set it with: reactor env set {name}=…"
        )

    def __str__(self) -> str:
        return str(self.args[0])  # that of KeyError would put it in quotes


class FunctionNotFound(Error):
    """There is no public function under that name. An internal one looks the same to a client."""

    code = "FunctionNotFound"
    status = 400


class InvalidFunctionCall(Error):
    """A function was called as another kind, or from a place that may not call it."""

    code = "InvalidFunctionCall"
    status = 400


class SchedulingError(WithRule, Error):
    """A function can't be scheduled like that, or a scheduled one can't be cancelled from there.

    `rule` is the official code: `InvalidScheduledFunction`, `InvalidScheduledFunctionDelay`, or
    `ScheduledFunctionCancelingItself`.
    """

    code = "SchedulingError"
    status = 400


class NotSupported(Error):
    """Declared, but this version of reactor can't do it yet."""

    code = "NotSupported"
    status = 400


class WriteConflict(Error):
    """Later commits changed what this mutation read, on every attempt; nothing was written.

    Many callers write what this function reads: read a narrower range, or give the hot field its own document.
    `report` tells which read met which write: its `table`, `document`, `read` (index fields and values), `writer` and
    `reader`, and as text all of them.
    """

    code = "OptimisticConcurrencyControlFailure"
    status = 503
    retryable = True

    def __init__(self, message: str, report: Any = None) -> None:
        self.report = report
        super().__init__(message)


class SnapshotTooOld(Error):
    """A read needs history that is no longer kept; run again at a later timestamp."""

    code = "OutOfRetention"
    status = 503
    retryable = True


class Overloaded(WithRule, Error):
    """A bounded queue is full. `rule` is the official code, such as `CommitterFullError`."""

    code = "Overloaded"
    status = 503
    retryable = True


class TooManyRequests(Error):
    """As much is under way as may be, and a place did not come free in time. Nothing was begun: ask again later."""

    code = "TooManyConcurrentRequests"
    status = 429
    retryable = True


class Unavailable(Error):
    """The deployment is not open (yet, or any more)."""

    code = "Unavailable"
    status = 503
    retryable = True


class OutcomeUnknown(Error):
    """Storage can't say whether a commit became durable. Asking again with the same request id settles it."""

    code = "OutcomeUnknown"
    status = 503
    retryable = True


class PushError(Error):
    """A project could not be loaded. `file` and `line` point into the user's code where that is known."""

    code = "PushError"
    status = 400

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        self.file, self.line = file, line
        super().__init__(message)


class TransferRefused(WithRule, Error):
    """An import or export can't be done, and has changed nothing. `rule` is the official code, such as `ImportFailed`.

    The message says what is wrong, and where in the file.
    """

    code = "TransferRefused"
    status = 400


class DeployRefused(WithRule, Error):
    """A deploy was not made, and what ran before goes on. `rule` says why:

    - `ProjectIsLocal`: the server runs a project of its own folder.
    - `DeployInProgress`: another deploy is under way.
    - `InvalidArchive`: the upload is no archive of a project, or one that would write outside of it.
    - `DeployTooLarge`: the project has more bytes or files than may be deployed.
    - `SchemaValidationFailed`: there are documents that do not match the new schema.
    - `DeployNeedsConfirmation`: documents would be out of reach of all functions.
    - `DependencyMissing`: the project imports what is not installed on the server.
    - `NoSuchDeploy`: what to roll back to is not kept, or there is nothing to roll back to.
    """

    code = "DeployRefused"
    status = 409


class StorageError(Error):
    """The data can't be opened or written: held by another process, damaged, full, or of a newer version."""

    code = "StorageError"
    status = 503


class ProtocolError(WithRule, Error):
    """A client broke the protocol. `rule` is the official code, such as `BaseVersionMismatch`."""

    code = "ProtocolError"
    status = 400


class Forbidden(WithRule, Error):
    """The identity of the caller may not do this. `rule` is the official code, such as `BadDeployKey`."""

    code = "Forbidden"
    status = 403


class Unauthenticated(Error):
    """A user's token was refused. `rule` is the official code, such as `InvalidAuthHeader` or `NoAuthProvider`.

    `summary` is the part of the message that clients may see also when details are hidden from them.
    """

    code = "Unauthenticated"
    status = 401

    def __init__(self, rule: str, summary: str, detail: str = "") -> None:
        self.rule, self.summary = rule, summary
        super().__init__(summary + detail)


class AuthConfigInvalid(WithRule, ValidationError):
    """Providers are not declared as they must be. `rule` is the official code, such as `InsecureConfiguration`."""

    code = "AuthConfigError"


class AuthProviderFailed(Error):
    """An issuer answers, but not with a discovery document and keys that can be used; trying again won't help.

    `summary` is the part of the message that clients may see also when details are hidden from them.
    """

    code = "AuthProviderDiscoveryFailed"
    status = 400

    def __init__(self, summary: str, detail: str = "") -> None:
        self.summary = summary
        super().__init__(summary + detail)


class AuthProviderUnavailable(Error):
    """An issuer does not answer, answers too slowly or with an error of its own: nothing is known about the token.

    `summary` is the part of the message that clients may see also when details are hidden from them.
    """

    code = "AuthProviderUnavailable"
    status = 503
    retryable = True

    def __init__(self, summary: str, detail: str = "") -> None:
        self.summary = summary
        super().__init__(summary + detail)


class FunctionError(Error):
    """Client side: the function failed on the server, and not with a `ReactorError`."""

    code = "FunctionError"
    status = 400

    def __init__(self, message: str, request_id: str | None = None, log_lines: tuple[str, ...] = ()) -> None:
        self.request_id, self.log_lines = request_id, log_lines
        super().__init__(message)


class ConnectionLost(Error):
    """Client side: the connection ended before the server answered, and asking again could act twice."""

    code = "ConnectionLost"
    status = 503
    retryable = True


class AuthError(Error):
    """Client side: the server refused the token."""

    code = "AuthError"
    status = 401
