"""Triggers at work: what runs after a write, in which order, and what becomes of one that fails.

Owns `Firing`, the changes of one mutation that triggers have not seen yet. Promises that triggers run inside the call
that wrote, one change after the other in the order of the writes, those of triggers included; that all of them run
before the first failure is raised; and that no two of them run at a time, whatever the handler gathers. Used by
`runtime/triggers/writers`.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from reactor.auth.identity import Identity
from reactor.engine.transaction import Staged
from reactor.runtime.documents import Documents
from reactor.runtime.executions import Execution
from reactor.runtime.failures import ENDS_THE_FUNCTION
from reactor.runtime.logs import NestedLog
from reactor.runtime.nestedexecutions import NestedExecution, identity_in
from reactor.runtime.triggers.declared import Change, Trigger, Triggers
from reactor.values.stored import encode_stored

T = TypeVar("T")
OPERATIONS: Final = {(False, True): "insert", (True, True): "update", (True, False): "delete"}  # by old, new


class MakeCtx(Protocol):
    """Makes the `ctx` of a trigger, whose writes go through the same `firing`."""

    def __call__(self, execution: Execution, is_async: bool, identity: Identity, firing: "Firing") -> Any: ...


class _Fired(NamedTuple):
    """A change of a table that has triggers."""

    triggers: tuple[Trigger, ...]
    staged: Staged


class Firing:
    """The changes made in one mutation, nested ones apart, that triggers are still to see."""

    __slots__ = ("_is_running", "_left", "_make_ctx", "_triggers")

    def __init__(self, triggers: Triggers, make_ctx: MakeCtx) -> None:
        self._triggers = triggers
        self._make_ctx = make_ctx
        self._left: deque[_Fired] = deque()
        self._is_running = False  # a trigger, so that whoever writes is one

    def write(self, execution: Execution, act: Callable[[], T]) -> Generator[Any, Any, T]:
        """Do `act()`, which writes; return what it returned once every trigger has run, unless a trigger writes."""
        transaction = execution.documents.transaction
        before = transaction.staged_count
        result = act()
        for staged in transaction.staged_since(before):
            triggers = self._triggers.tables.get(staged.table.local_name)
            if triggers:
                self._left.append(_Fired(triggers, staged))
        if self._left and not self._is_running:
            yield from self._run_all(execution)
        return result

    def _run_all(self, execution: Execution) -> Generator[Any, Any, None]:
        failure: Exception | None = None
        left = self._left
        self._is_running = True
        try:
            while left:
                triggers, staged = left.popleft()
                for trigger in triggers:
                    try:
                        yield from self._run(execution, trigger, staged)
                    except ENDS_THE_FUNCTION:
                        raise
                    except Exception as error:
                        if failure is None:
                            failure = error
                        else:
                            log = NestedLog(execution.ambient.log, trigger.label)
                            log.add("ERROR", f"after another trigger had failed: {type(error).__name__}: {error}")
            if failure is not None:
                raise failure
        finally:
            failure = None  # whose traceback has this frame
            left.clear()
            self._is_running = False

    def _run(self, parent: Execution, trigger: Trigger, staged: Staged) -> Generator[Any, Any, None]:
        documents = parent.documents.for_trigger()
        surroundings = parent.ambient.child("mutation")
        surroundings.log = NestedLog(parent.ambient.log, trigger.label)
        surroundings.source = documents
        identity = identity_in(parent)
        child = NestedExecution(parent, documents, surroundings, identity)
        ctx = self._make_ctx(child, trigger.is_async, identity, self)
        yield from child.run(lambda: trigger.function(ctx, _change(documents, staged)), trigger.is_async)


def _change(documents: Documents, staged: Staged) -> Change:
    """Return a change as a trigger is given it: fresh copies, as Python code receives documents."""
    name, old, new = staged.table.local_name, staged.old, staged.new
    document = new if old is None else old
    assert document is not None
    return Change(
        name,
        str(document["_id"]),
        OPERATIONS[old is not None, new is not None],  # type: ignore[arg-type]  # a dict of literals is one of texts
        None if old is None else documents.shown(name, encode_stored(old)),
        None if staged.data is None else documents.shown(name, staged.data),
    )
