"""On whose behalf the messages of one connection are, and for how long.

Owns the rights of the connection, the check of a token under way and the alarm of the one that is good. Promises that
each `Authenticate` is answered once unless it is taken back, also when the check of a token takes a while, and that the
end of a token is told when it comes. Used by the session, which decides what follows from either.
"""

from collections.abc import Callable
from functools import partial

from reactor.auth.identity import Identity
from reactor.errors import Error, Forbidden, InvalidArgument
from reactor.ports import Alarms, Clock
from reactor.protocol.sync import Authenticate
from reactor.server.permissions import NO_PERMISSION, Rights
from reactor.server.sync.ports import CheckAdmin, CheckToken


class Authentication:
    """Who a connection acts for; nobody in the beginning."""

    def __init__(
        self,
        check_admin: CheckAdmin,
        check_token: CheckToken,
        clock: Clock,
        alarms: Alarms,
    ) -> None:
        self.rights = Rights()
        self.expires_ns: int | None = None
        self.is_checking = False  # a token is being checked
        self._check_admin = check_admin
        self._check_token = check_token
        self._clock = clock
        self._alarms = alarms
        self._cancel_check: Callable[[], None] | None = None
        self._cancel_alarm: Callable[[], None] | None = None

    @property
    def has_expired(self) -> bool:
        """Whether the user's token is no longer good."""
        return self.expires_ns is not None and self._clock.now_ns() >= self.expires_ns

    def begin(self, message: Authenticate, answered: Callable[[Rights | Error], None]) -> None:
        """Find out whom a message names.

        `answered` gets the rights, which `take` makes those of the connection, or why there are none; perhaps from
        inside this call.
        """
        if message.token_type == "User":
            self.is_checking = True
            cancel = self._check_token(message.value or "", partial(self._checked, answered))
            if self.is_checking:
                self._cancel_check = cancel
        elif message.token_type == "Admin":
            answered(self._admin(message))
        else:
            answered(Rights())

    def take(self, rights: Rights, expired: Callable[[], None]) -> None:
        """Act for somebody else from now on; `expired` is called when the token has just ceased to be good."""
        self.rights = rights
        self.expires_ns = rights.identity.expires_ns
        self._drop_alarm()
        if self.expires_ns is not None:
            self._cancel_alarm = self._alarms.call_at(self.expires_ns, partial(self._rang, expired))

    def cancel(self) -> None:
        """Take a check back: its answer is not wanted any more."""
        self.is_checking = False
        if self._cancel_check is not None:
            self._cancel_check()
            self._cancel_check = None

    def close(self) -> None:
        """Let go of everything."""
        self.cancel()
        self._drop_alarm()
        self.expires_ns = None

    def _admin(self, message: Authenticate) -> Rights | Error:
        try:
            return Rights(self._check_admin(message.value or "", message.acts_as))
        except Forbidden as error:
            # Accepted, with no rights at all: the official CLI hangs on any other answer to a bad key, and prints one
            # clean line when its query fails with this sentence.
            return Rights(denied=f"{NO_PERMISSION} {error}")
        except InvalidArgument as error:
            return error

    def _checked(self, answered: Callable[[Rights | Error], None], answer: Identity | Error) -> None:
        if not self.is_checking:
            return
        self.is_checking = False
        self._cancel_check = None
        answered(Rights(answer) if isinstance(answer, Identity) else answer)

    def _drop_alarm(self) -> None:
        if self._cancel_alarm is not None:
            self._cancel_alarm()
            self._cancel_alarm = None

    def _rang(self, expired: Callable[[], None]) -> None:
        if self.has_expired:  # not if the clock was set back meanwhile
            expired()
