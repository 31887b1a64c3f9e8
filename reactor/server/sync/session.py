"""One client's sync session: the rules of the protocol, without sockets or waiting.

Owns the version triple and the queue of mutations of one WebSocket connection. Promises that Transitions chain exactly,
that every one holds all queries at one timestamp, not before the last answer, and that each request is answered once.
What the client watches is in `queryset`, who it is in `authentication`, what actions it waits for in `actions`. Reaches
the world through the ports in `ports`. Driven by `connection`, by outcomes of functions and by `settled`; none of these
may be called from inside another thread.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from msgspec import UNSET, Raw

from reactor.errors import Error, Overloaded
from reactor.limits import MAX_CLOSE_REASON_BYTES, MAX_SAFE_INTEGER, MAX_TRANSITION_CHUNK_BYTES, Limits
from reactor.ports import Alarms, Clock, Rng
from reactor.protocol.sync import (
    Action,
    Authenticate,
    AuthError,
    ClientMessage,
    Connect,
    Event,
    FatalError,
    ModifyQuerySet,
    Mutation,
    MutationResponse,
    ServerMessage,
    StateVersion,
    Transition,
    decode_ts,
    encode_text,
    encode_ts,
    split_transition,
)
from reactor.runtime.calls import Call, Failure, Outcome, Success, session_request_id
from reactor.server.permissions import TOKEN_EXPIRED, Rights
from reactor.server.sync.actions import ActionsInFlight, action_response
from reactor.server.sync.authentication import Authentication
from reactor.server.sync.endings import ending_of
from reactor.server.sync.ports import CheckAdmin, CheckToken, Functions, Live, Outlet
from reactor.server.sync.queryset import Change, QuerySet, check_path, refused_failure
from reactor.server.text import encode

logger = logging.getLogger("reactor.sync")

CHECKING = 1 << 60  # bytes that a token counts while it is checked, so that nothing behind it is taken


class Session:
    """The protocol state of one connection."""

    def __init__(
        self,
        *,
        outlet: Outlet,
        functions: Functions,
        live: Live,
        check_admin: CheckAdmin,
        check_token: CheckToken,
        durable_ts: Callable[[], int],
        clock: Clock,
        alarms: Alarms,
        rng: Rng,
        limits: Limits,
        chunks: bool = False,
    ) -> None:
        """
        Args:
            check_admin: gives the identity of an admin key, acting as the user with the given attributes; raises
                `Forbidden` for a bad key and `InvalidArgument` for bad attributes.
            check_token: gives the user of a token; see `CheckToken`.
            chunks: whether the client takes Transitions in parts.
        """
        self._outlet = outlet
        self._functions = functions
        self._live = live
        self._durable_ts = durable_ts
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._chunks = chunks

        self._session: str | None = None
        self._clock_skew: int | None = None
        # The parts hold no way back to the session: a cycle would keep what a socket had until a garbage collection.
        self._authentication = Authentication(check_admin, check_token, clock, alarms)

        self._sent = StateVersion()
        self._received_identity = 0
        self._floor = 0  # no Transition may be older: timestamp of the last one sent and of the last answer
        self._owed = False  # something was received or answered that the next Transition must confirm
        self._held = False  # a Transition waits for the outlet to drain

        self._query_set = QuerySet(live, rng, limits)

        self._queue: deque[tuple[int, Call]] = deque()
        self._is_running = False  # one mutation at a time runs; the next need not wait until it is durable
        self._unanswered = 0  # mutations received, in whatever stage
        self._answers = 0  # of mutations, so far
        self._stuck_at = -1  # what `_answers` was when the mutation that is next to be answered was first seen waiting
        self._stuck_since = 0.0
        self.queued_bytes = 0  # while these are more than `message_bytes`, nothing more is to be received

        self._actions = ActionsInFlight(functions, limits)

        self._finish: tuple[int, str] | None = None
        self.is_closed = False

    # From the connection.

    def receive(self, message: ClientMessage) -> None:
        """Take one message of the client. Never raises what a client could provoke."""
        if self.is_closed or self._finish is not None:
            return
        try:
            match message:
                case Mutation():
                    self._mutation(message)
                case ModifyQuerySet():
                    self._modify(message)
                case Authenticate():
                    self._authenticate(message)
                case Action():
                    self._action(message)
                case Connect():
                    self._connect(message)
                case Event():
                    pass  # client-side timings; nothing depends on them
        except Error as error:
            self.fail(error)

    def fail(self, error: Error) -> None:
        """End the connection in the way `error` asks for."""
        if self.is_closed:
            return
        ending = ending_of(error)
        if ending.is_fatal:
            self._send(FatalError(error=str(error)))
        self._close(ending.code, ending.reason)

    def drained(self) -> None:
        """The outlet has sent everything: a Transition that was held back may be made, from the newest state."""
        if self._held and not self.is_closed:
            self._held = False
            self._live.request_settle(self)

    def watch(self, now: float) -> float | None:
        """Close when the mutation to be answered next has waited for `mutation_seconds`.

        To be called from time to time with the monotonic clock. It looks at counters that are kept anyway: a timer for
        each mutation would cost more than the mutation's frame. So the time counts from the first look at it.

        Returns:
            In how many seconds to call at the latest, or None if no mutation waits.
        """
        if not self._unanswered or self.is_closed:
            return None
        if self._stuck_at != self._answers:
            self._stuck_at, self._stuck_since = self._answers, now
        left = self._stuck_since + self._limits.mutation_seconds - now
        if left > 0:
            return left
        self.fail(
            Overloaded(
                "SystemTimeoutError",
                f"A mutation was not answered within REACTOR_MUTATION_SECONDS={self._limits.mutation_seconds}.",
            )
        )
        return None

    def finish(self, code: int, reason: str) -> None:
        """Take nothing more; close once what was received is answered and shown."""
        self._finish = (code, reason)
        if self._authentication.is_checking:  # nothing behind it has begun: the client sends it all again, elsewhere
            self._authentication.cancel()
            self._end_check()
        self._finish_if_quiet()

    def closed(self) -> None:
        """The socket is gone: let go of everything. Answers that come later are dropped."""
        if self.is_closed:
            return
        self.is_closed = True
        self._authentication.close()
        self._queue.clear()
        self.queued_bytes = 0
        self._query_set.clear()
        self._live.forget(self)

    # Client messages.

    def _connect(self, message: Connect) -> None:
        self._session = message.session_id.lower()
        client_ts = message.client_ts
        if isinstance(client_ts, int | float) and abs(client_ts) <= MAX_SAFE_INTEGER:
            self._clock_skew = int(client_ts) - self._clock.now_ns() // 1_000_000
        observed = message.max_observed_timestamp
        if isinstance(observed, str) and decode_ts(observed) > self._durable_ts():
            # The client has seen a later state than this server has: never show it an older one.
            self._close(1011, "InternalServerError")

    def _modify(self, message: ModifyQuerySet) -> None:
        if not self._has_expired():
            self._query_set.modify(message, self._authentication.rights, self)
            self._owe()

    def _authenticate(self, message: Authenticate) -> None:
        if message.base_version != self._received_identity:
            self._close(1011, "InternalServerError")
            return
        # What comes behind it must be done by whoever it names, so it waits; what came before goes on.
        self.queued_bytes += CHECKING
        self._authentication.begin(message, self._identified)

    def _identified(self, answer: Rights | Error) -> None:
        """It is known who the client is, or that it can't be said. May be called from inside `_authenticate`."""
        if self.is_closed:
            return
        try:
            if isinstance(answer, Rights):
                self._become(answer)
            elif answer.status >= 500:  # nothing is known about the token: the client shall bring it again
                self.fail(answer)
            else:
                self._refuse_token(str(answer))
        except Exception:
            # Must not reach whoever checks the tokens of others.
            logger.exception("An identity could not be taken; its connection is closed")
            self.fail(Error())
        self._end_check()

    def _end_check(self) -> None:
        if self.queued_bytes >= CHECKING:
            self.queued_bytes -= CHECKING
            self._outlet.wake()

    def _become(self, rights: Rights) -> None:
        self._authentication.take(rights, self._expired)
        self._received_identity += 1
        self._query_set.resubscribe(rights, self)
        self._owe()

    def _has_expired(self) -> bool:
        """Whether the user's token is no longer good, which ends the connection: the client comes with a new one."""
        if self._authentication.has_expired:
            self._expired()
            return True
        return False

    def _expired(self) -> None:
        self._refuse_token(TOKEN_EXPIRED, is_update=False)

    def _refuse_token(self, text: str, *, is_update: bool = True) -> None:
        self._send(AuthError(error=text, base_version=self._sent.identity, auth_update_attempted=is_update))
        self._close(None, "")

    def _mutation(self, message: Mutation) -> None:
        limits = self._limits
        if self._unanswered >= limits.mutations_per_connection:
            self._close(1013, "TooManyConcurrentMutations")
            return
        authentication = self._authentication
        if authentication.expires_ns is not None and self._has_expired():
            return
        check_path(message.udf_path)
        args = bytes(message.args[0])  # a copy: the message would stay alive with a view of it
        rights = authentication.rights
        component = message.component_path or ""
        if component:
            rights.check_component(component)
        refused = rights.refusal(message.udf_path, component, writes=True)
        if refused is not None:
            self._answer_failure(message.request_id, refused_failure(refused, self._request_id(message.request_id)))
            return
        session = self._session
        call = Call(
            path=message.udf_path,
            args=args,
            identity=rights.identity,
            request_id="" if session is not None else self._request_id(0),
            session=session,
            request=None if session is None else message.request_id,
            internal=rights.identity.kind == "admin",
            component=component,
        )
        self._queue.append((message.request_id, call))
        self._unanswered += 1
        self.queued_bytes += len(args)
        if not self._is_running:
            self._next_mutation()

    def _action(self, message: Action) -> None:
        if self._actions.is_full:
            self._close(1013, "TooManyInflightActionsForSingleClient")
            return
        if self._has_expired():
            return
        check_path(message.udf_path)
        component = message.component_path or ""
        rights = self._authentication.rights
        if component:
            rights.check_component(component)
        request_id = self._request_id(message.request_id)
        refused = rights.refusal(message.udf_path, component, writes=True)
        if refused is not None:
            self._acted(message.request_id, refused_failure(refused, request_id))
            return
        call = Call(
            path=message.udf_path,
            args=bytes(message.args[0]),
            identity=rights.identity,
            request_id=request_id,
            internal=rights.identity.kind == "admin",
            component=component,
        )
        self._actions.begin(message.request_id, call, self._acted)

    def _acted(self, request: int, outcome: Outcome) -> None:
        """Answer an action at once, whatever else the client waits for."""
        if self.is_closed:
            return
        self._send(action_response(request, outcome))
        if isinstance(outcome, Success):
            self._floor = max(self._floor, outcome.ts)  # what follows shows what it did
        self._owe()
        self._outlet.wake()

    # Mutations.

    def _next_mutation(self) -> None:
        self._is_running = bool(self._queue) and not self.is_closed
        if self._is_running:
            request, call = self._queue.popleft()
            self._functions.submit_mutation(call, partial(self._answered, request, len(call.args)), self._next_mutation)

    def _answered(self, request: int, args_bytes: int, outcome: Outcome) -> None:
        self._unanswered -= 1
        self._answers += 1
        if self.is_closed:
            return
        self.queued_bytes -= args_bytes
        if isinstance(outcome, Success):
            self._send(
                MutationResponse(
                    request_id=request,
                    success=True,
                    result=Raw(outcome.value),
                    ts=encode_ts(outcome.ts),
                    log_lines=outcome.log_lines,
                )
            )
            self._floor = max(self._floor, outcome.ts)
            self._owe()
        elif isinstance(outcome, Failure):
            self._answer_failure(request, outcome)
        else:
            self.fail(outcome.error)
            return
        self._outlet.wake()

    def _answer_failure(self, request: int, failure: Failure) -> None:
        self._send(
            MutationResponse(
                request_id=request,
                success=False,
                result=encode_text(failure.message),
                ts=None,
                log_lines=failure.log_lines,
                error_data=UNSET if failure.data is None else Raw(failure.data),
            )
        )
        self._floor = max(self._floor, failure.ts)
        self._owe()

    # Transitions.

    def _owe(self) -> None:
        """A Transition must follow, even an empty one; several debts may be paid by one."""
        if not self._owed and not self.is_closed:
            self._owed = True
            self._live.request_settle(self)

    def settled(self, ts: int) -> None:
        """Every result is that of `ts`: bring the client there in one Transition.

        Does nothing while the outlet holds enough of them (a slow reader skips states), or when `ts` is before the
        last answer; then it sees to it that it is called again.
        """
        if self.is_closed:
            return
        try:
            self._settle(ts)
        except Exception:
            # Must not reach the other observers of this round.
            logger.exception("A Transition could not be made; its connection is closed")
            self.fail(Error())

    def _settle(self, ts: int) -> None:
        if self._outlet.transitions >= self._limits.transitions_unsent:
            self._held = True
            return
        if ts < self._floor:
            self._live.request_settle(self)
            return
        changes = self._query_set.changes()
        if changes is None:
            self._live.request_settle(self)
            return
        if changes or self._owed or ts > self._floor:
            if self._authentication.expires_ns is not None and self._has_expired():
                return
            self._transition(ts, changes)
            if self._finish is not None:
                self._finish_if_quiet()

    def _transition(self, ts: int, changes: list[Change]) -> None:
        query_set = self._query_set
        end = StateVersion(query_set=query_set.version, identity=self._received_identity, ts=encode_ts(ts))
        frame = encode(
            Transition(
                start_version=self._sent,
                end_version=end,
                modifications=query_set.report(changes) if changes or query_set.removed else (),
                client_clock_skew=self._clock_skew,
                server_ts=self._clock.now_ns(),
            )
        )
        self._sent, self._floor, self._owed = end, ts, False
        if self._chunks and len(frame) > MAX_TRANSITION_CHUNK_BYTES:
            self._outlet.put_transition(split_transition(frame))
        else:
            self._outlet.put_transition([frame])

    # Inside.

    def _request_id(self, request: int) -> str:
        if self._session is None:
            return self._rng.token_bytes(8).hex()
        return session_request_id(self._session, request)

    def _send(self, message: ServerMessage) -> None:
        self._outlet.put(encode(message))

    def _close(self, code: int | None, reason: str) -> None:
        self._outlet.close(code, reason[:MAX_CLOSE_REASON_BYTES])
        self.closed()

    def _finish_if_quiet(self) -> None:
        if self._finish is not None and not (self.is_closed or self._unanswered or self._actions or self._owed):
            self._close(*self._finish)
