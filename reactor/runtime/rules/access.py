"""Asking row rules: a call of the application's code about a document, on behalf of one caller.

Owns the `ctx` that rules are given, the caller's `ctx.user`, and what a rule that fails means. Promises that a rule
reads in the transaction it is asked for, past all rules, and never writes; that the user is loaded at most once in a
transaction, and only when a rule looks; that whatever a rule prints or raises about a document stays in the server's
log; and that a rule which does not plainly allow denies. Used by `ruled`; runs and nested calls make it.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any, Final, NoReturn, cast

from reactor.auth.identity import Identity
from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.errors import Error, InvalidFunctionCall, ReactorError
from reactor.runtime.components.scopes import Scope
from reactor.runtime.context import Auth, BlockingAuth, BlockingQueryCtx, QueryCtx
from reactor.runtime.determinism import Ambient, ambient
from reactor.runtime.documents import Documents
from reactor.runtime.executions import Execution, Operation, Owner, never_awaited, run_to_end
from reactor.runtime.failures import ENDS_THE_FUNCTION
from reactor.runtime.guard import outside
from reactor.runtime.logs import LogBuffer
from reactor.runtime.queries import QueryChain
from reactor.runtime.readers import BlockingDatabaseReader, DatabaseReader
from reactor.runtime.rules.conjunctions import Conjunction, Trial
from reactor.runtime.rules.declared import Rule, Rules
from reactor.runtime.runqueue import RunQueue

log = logging.getLogger("reactor.functions.rules")

# What says nothing of a document: the application's own error, and what ends the function anyway.
PASSED_ON: Final = (ReactorError, *ENDS_THE_FUNCTION)
_UNKNOWN: Final = object()
NO_CALLS: Final = "A row rule can't call other functions: it reads through ctx.db, or calls plain Python functions."
NO_USER_YET: Final = "The function given to define_rules as user= can't use ctx.user: that is what it returns."


class _RuleExecution(Execution):
    """What the `ctx` of rules belongs to. Alive only while a rule is asked.

    It is never suspended, ends with no result and calls nothing else, so it has no owner to report to.
    """

    __slots__ = ()

    def pause(self) -> Generator[Any, None, None]:
        """Go on at once: the operation that asks the rule can't be left in its middle."""
        yield from ()


class _ServerLog(LogBuffer):
    """Where rules log to: they see documents that the caller must not."""

    __slots__ = ("_is_heard",)

    def __init__(self, is_heard: bool) -> None:
        super().__init__()
        self._is_heard = is_heard

    @property
    def is_heard(self) -> bool:
        """Whether handlers of the process get the records, too."""
        return self._is_heard

    def add(self, level: str, text: str, path: str = "") -> None:
        """Hand one line to the server's log."""
        if self._is_heard and log.isEnabledFor(logging.INFO):
            log.info("a row rule logged [%s] %s", level, text)


class Caller:
    """Who asks for documents, as rules see it: the identity, and the user that belongs to it."""

    __slots__ = ("_failure", "_is_loading", "_loader", "_refusal", "_user", "has_looked", "identity")

    def __init__(self, identity: Identity, loader: Rule | None) -> None:
        self.identity = identity
        self.has_looked = False  # at the identity
        self._loader = loader
        self._user: Any = _UNKNOWN
        self._failure = ""  # of the loader
        self._refusal: ReactorError | None = None
        self._is_loading = False

    def look(self) -> None:
        """Note that a rule looked at the identity."""
        self.has_looked = True

    def user(self, execution: Execution) -> Any:
        """Return what rules see as `ctx.user`, loaded when the first of them looks."""
        if self._user is not _UNKNOWN:
            return self._user
        if self._refusal is not None:
            raise ReactorError(self._refusal.data)
        if self._failure:
            raise RuntimeError(self._failure)
        if self._is_loading:
            raise InvalidFunctionCall(NO_USER_YET)
        if self._loader is None:
            self.look()
            claims = self.identity.claims
            self._user = None if claims is None else dict(claims)
            return self._user
        self._is_loading = True
        try:
            self._user = call_rule(self._loader, (), partial(make_rule_ctx, execution, self))
        except ReactorError as error:
            self._refusal = ReactorError(error.data)  # another one: this one has a traceback, which has all of the run
            raise
        except PASSED_ON:
            raise
        except Exception as error:
            # Not the error itself: an AttributeError out of a property would look as if `ctx` had no `user`.
            self._failure = f"ctx.user could not be loaded: {_shown(error)}"
            raise RuntimeError(self._failure) from error
        finally:
            self._is_loading = False
        return self._user


class RuleCtx(QueryCtx):
    """What an `async def` rule receives as its first parameter."""

    __slots__ = ("_caller",)

    def __init__(self, execution: Execution, db: Any, auth: Auth, caller: Caller) -> None:
        super().__init__(execution, db, auth)
        self._caller = caller

    @property
    def user(self) -> Any:
        """What `user=` of `define_rules` has returned for the caller; the caller's claims when it was not given."""
        return self._caller.user(self._execution)

    @property
    def unawaited(self) -> set[Operation[Any]]:
        """The calls that were made and not awaited."""
        return self._execution.unawaited

    def _run_nested(self, kind: str, function: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> NoReturn:
        raise InvalidFunctionCall(NO_CALLS)


class BlockingRuleCtx(RuleCtx, BlockingQueryCtx):  # type: ignore[misc]  # its calls return the results themselves
    """What a plain rule receives as its first parameter."""

    __slots__ = ()


def make_rule_ctx(execution: Execution, caller: Caller, is_async: bool) -> RuleCtx:
    """Return the `ctx` of rules, in the form that one needs."""
    if is_async:
        return RuleCtx(execution, DatabaseReader(execution), Auth(execution, caller.identity, caller.look), caller)
    auth = BlockingAuth(execution, caller.identity, caller.look)
    return BlockingRuleCtx(execution, BlockingDatabaseReader(execution), auth, caller)


def call_rule(rule: Rule, args: tuple[Any, ...], ctx_of: Callable[[bool], RuleCtx]) -> Any:
    """Return what a rule returns, an async one as well; raise what it raises. `ctx_of` makes its `ctx`."""
    if not rule.is_async:
        result = rule.function(ctx_of(False), *args)
        if isinstance(result, Coroutine):  # of an async function that a plain one has called
            result.close()
            rule.is_async = True
    if rule.is_async:
        ctx = ctx_of(True)
        result = rule.function(ctx, *args)
        if isinstance(result, Coroutine):
            result = run_to_end(result.__await__())
        unawaited = ctx.unawaited
        if unawaited:
            error = never_awaited(unawaited, "a row rule that fails denies.")
            unawaited.clear()
            raise error
    if isinstance(result, QueryChain | Awaitable | Generator | AsyncGenerator):
        raise TypeError(f"A row rule returned a {type(result).__name__}, which is neither true nor false.")
    return result


class Access:
    """What one caller may do, in one transaction. Made at its beginning; costs nothing until a rule is asked."""

    __slots__ = (
        "_ctxs",
        "_execution",
        "_queue",
        "caller",
        "database",
        "documents",
        "is_met",
        "rules",
        "scope",
        "transaction",
    )

    def __init__(
        self,
        rules: Rules,
        database: Database,
        transaction: Transaction,
        scope: Scope,
        queue: RunQueue,
        identity: Identity,
    ) -> None:
        self.rules = rules
        self.database = database
        self.transaction = transaction
        self.scope = scope
        self._queue = queue
        self.caller = Caller(identity, rules.user)
        self._execution: _RuleExecution | None = None
        self.is_met = False  # a table with rules was touched
        self._ctxs: dict[bool, RuleCtx] = {}  # by whether it is the form for async rules
        self.documents: Documents | None = None  # what rules read, once one was asked

    def at(self, transaction: Transaction) -> "Access":
        """Return what the same caller may do in a transaction that reads another state."""
        self.is_met = True  # by what reads there, for all that is known here
        return Access(self.rules, self.database, transaction, self.scope, self._queue, self.caller.identity)

    @property
    def is_heard(self) -> bool:
        """Whether the log is to say what happens here: not of a run that only repeats another."""
        return _surroundings().log.is_heard

    def allows(self, rule: Rule, table: str, operation: str, *documents: dict[str, Any]) -> bool:
        """Whether a rule allows something. One that fails does not; the server's log says why.

        Raises:
            ReactorError: the rule did.
            Error: what ends the function whoever meets it, such as a limit.
        """
        try:
            return bool(self._ask(rule, documents))
        except PASSED_ON:
            raise
        except Exception as error:
            self._report(rule, table, operation, error)
            return False

    def demands(self, rule: Rule, table: str) -> Conjunction | None:
        """Return what a read rule, of which that can be told, demands of all documents; None: it allows none."""
        trial = Trial()
        try:
            result = bool(self._ask(rule, (trial.document,)))
        except ReactorError:  # which is for those whose documents it meets
            return Conjunction({}, rest=True)
        except PASSED_ON:
            raise
        except Exception as error:  # not for the sake of a document, so for all of them
            self._report(rule, table, "read", error)
            return None
        if not trial.is_whole:
            return Conjunction({}, rest=True)
        return Conjunction(trial.equalities, trial.rest) if result and not trial.is_contradiction else None

    # Inside.

    def _ask(self, rule: Rule, args: tuple[Any, ...]) -> Any:
        execution = self._execution or self._begin()
        execution.is_alive = True
        try:
            return execution.context.run(call_rule, rule, args, self._ctx_of)
        finally:
            execution.is_alive = False

    def _ctx_of(self, is_async: bool) -> RuleCtx:
        ctx = self._ctxs.get(is_async)
        if ctx is None:
            assert self._execution is not None
            ctx = self._ctxs[is_async] = make_rule_ctx(self._execution, self.caller, is_async)
        return ctx

    def _begin(self) -> _RuleExecution:
        self.documents = Documents(self.database, self.transaction, self.scope)
        surroundings = _surroundings().child("query")
        surroundings.log = _ServerLog(self.is_heard)
        surroundings.source = self.documents
        self._execution = execution = _RuleExecution(self._queue, self.documents, surroundings, cast(Owner, None))
        execution.context.run(ambient.set, surroundings)
        return execution

    def _report(self, rule: Rule, table: str, operation: str, error: Exception) -> None:
        """Tell the operator of a rule that failed: once for each line of it that did, in each version."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{type(error).__name__} at {trace.tb_lineno if trace is not None else 0}"
        if where not in rule.reported and self.is_heard:
            rule.reported.add(where)
            # Outside the function, where the source lines of a traceback can be read.
            outside(
                lambda: log.warning(
                    "The %s rule of table %r failed, which denies: %s. It should return False for whom it does not "
                    "allow, also where ctx.user is None or a field is missing.",
                    operation,
                    table,
                    _shown(error),
                    exc_info=error,
                )
            )


def _surroundings() -> Ambient:
    """Return the surroundings of the function whose calls on `ctx.db` ask a rule."""
    found = ambient.get()
    assert found is not None, "documents are read and written inside a function"
    return found


def _shown(error: Exception) -> str:
    return f"{type(error).__name__} ({error.code})" if isinstance(error, Error) else type(error).__name__
