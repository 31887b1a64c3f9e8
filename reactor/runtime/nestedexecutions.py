"""Executions inside of executions: a function or a trigger that runs in the transaction of another function.

Promises that it is suspended wherever the outermost one is, that its `ctx` dies with it, and that its code runs in a
context of its own. Used by nested calls and by triggers.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any

from reactor.auth.identity import Identity
from reactor.runtime.determinism import Ambient, ambient
from reactor.runtime.documents import Documents
from reactor.runtime.executions import Execution
from reactor.runtime.subtasks import supervise


class NestedExecution(Execution):
    """A function inside another one's transaction. The outermost execution suspends for all of them.

    `identity` is what its `ctx.auth` shows, and that of what it calls: none behind the border of a component.
    """

    __slots__ = ("depth", "identity", "parent")

    def __init__(self, parent: Execution, documents: Documents, surroundings: Ambient, identity: Identity) -> None:
        super().__init__(parent.queue, documents, surroundings, parent.owner)
        self.parent = parent
        self.identity = identity
        self.depth = parent.depth + 1

    def run(self, call: Callable[[], Any], is_async: bool) -> Generator[Any, Any, Any]:
        """Run `call()` to its end, suspended wherever the function is; return its result."""
        self.can_pause = is_async and self.parent.can_pause
        result, failure = None, None
        try:
            result = self.context.run(self._begin, call)
            if is_async:
                result = yield from self._drive_to_end(result)
        except BaseException as error:
            failure = error
        failure = self.settle(failure)
        try:
            if failure is not None:
                raise failure
            return result
        finally:
            failure = None  # `supervise` says why

    def _begin(self, call: Callable[[], Any]) -> Any:
        ambient.set(self.ambient)
        return call()

    def _drive_to_end(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        # Code of the function runs in its own context, also when a task of the outer one drives it.
        run: Callable[..., Any] = self.context.run
        try:
            yielded = run(coroutine.send, None)
        except StopIteration as stop:
            return stop.value
        rest = supervise(
            lambda value: run(coroutine.send, value),
            lambda error: run(coroutine.throw, error),
            yielded,
            is_driven=True,
        )
        yielded = None  # `supervise` says why
        return (yield from rest)

    def pause(self) -> Generator[Any, None, None]:
        """Give up the rest of the slice, unless a plain `def` function waits for this one."""
        if not self.can_pause:
            return
        self.documents.record_scans()
        yield from self.parent.pause()
        self.check_alive()


def identity_in(execution: Execution) -> Identity:
    """Return the identity that `ctx.auth` of an execution shows."""
    return execution.identity if isinstance(execution, NestedExecution) else execution.owner.call.identity
