"""The actions of one connection: run side by side, answered in whatever order they end.

Promises that each is answered once, while the connection lasts; a client that goes away loses only the answers. Used by
the session.
"""

from collections.abc import Callable
from functools import partial

from msgspec import UNSET, Raw

from reactor.limits import Limits
from reactor.protocol.sync import ActionResponse, encode_text
from reactor.runtime.calls import Call, Failure, Outcome, Refused, request_id_of
from reactor.server.sync.ports import Functions
from reactor.server.sync.queryset import refused_failure


class ActionsInFlight:
    """What was asked for and is not answered yet."""

    def __init__(self, functions: Functions, limits: Limits) -> None:
        self._functions = functions
        self._limits = limits
        self._count = 0
        self._bytes = 0  # of their arguments

    def __len__(self) -> int:
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether another one is too many."""
        return self._count >= self._limits.actions_per_connection

    def begin(self, request: int, call: Call, answered: Callable[[int, Outcome], None]) -> None:
        """Run one, unless its arguments take too much memory; `answered` gets its outcome."""
        size, limit = self._bytes + len(call.args), self._limits.action_bytes_per_connection
        if size > limit:
            text = f"Arguments of unanswered actions take {size} bytes; REACTOR_ACTION_BYTES_PER_CONNECTION is {limit}."
            answered(request, refused_failure(text, request_id_of(call)))
            return
        self._count += 1
        self._bytes = size
        self._functions.submit_action(call, partial(self._ended, request, call, answered))

    def _ended(self, request: int, call: Call, answered: Callable[[int, Outcome], None], outcome: Outcome) -> None:
        self._count -= 1
        self._bytes -= len(call.args)
        if isinstance(outcome, Refused):  # not worth the connection, on which others wait for theirs
            outcome = refused_failure(str(outcome.error), request_id_of(call))
        answered(request, outcome)


def action_response(request: int, outcome: Outcome) -> ActionResponse:
    """Return the answer to an action that has ended."""
    if isinstance(outcome, Failure):
        return ActionResponse(
            request_id=request,
            success=False,
            result=encode_text(outcome.message),
            log_lines=outcome.log_lines,
            error_data=UNSET if outcome.data is None else Raw(outcome.data),
        )
    assert not isinstance(outcome, Refused)
    return ActionResponse(request_id=request, success=True, result=Raw(outcome.value), log_lines=outcome.log_lines)
