"""Time and chance inside functions: a frozen clock, seeded randomness and a secret stream.

Owns `Ambient`, the state of one execution that standard-library calls see, in one `ContextVar`. `install` puts a
dispatcher in front of the clock and chance functions of the standard library, so that libraries called from a query
behave like the query itself. Promises that outside queries and mutations all of them do exactly what they did before.
Durations (`time.monotonic`, `time.perf_counter`) are left alone: schedulers of the process depend on them.

This protects from accidents, not from hostile code. Host code that may run inside an execution and needs the real time
uses `host_time_ns`. `datetimes` does the same for `datetime.now`, and `guard` refuses the rest. Used by whatever runs
functions, by `environment` and by `guard`.
"""

import contextvars
import functools
import hashlib
import operator
import os
import random
import threading
import time
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol, final

from reactor.errors import Error, InvalidArgument
from reactor.runtime.logs import LogBuffer, capture_logging

PROJECT_PREFIX: Final = "_reactor_project_"  # user modules are imported below a package of this name and a number

AmbientKind = Literal["query", "mutation", "action", "http_action"]

host_time: Final = time.time
host_time_ns: Final = time.time_ns
host_urandom: Final = os.urandom


class Observed:
    """What an execution, nested calls included, has looked at; a result that looked is not shared for long.

    The watchdog keeps its account here: `overrun` is why the execution fails, whatever it returns.
    """

    __slots__ = ("chance", "clock", "engine_seconds", "overrun", "user_seconds")

    def __init__(self) -> None:
        self.clock = False
        self.chance = False
        self.user_seconds = 0.0
        self.engine_seconds = 0.0
        self.overrun: Error | None = None


class Source(Protocol):
    """What an execution draws on. It must not hold the execution, or only a garbage collection would free the two."""

    def token_bytes(self, count: int) -> bytes:
        """Return `count` bytes for a seed, of operating-system strength."""

    def environment(self) -> Mapping[str, str]:
        """Return the deployment's environment variables; a look at one is recorded."""


class OperatingSystem:
    """The source of code that runs for no deployment."""

    def token_bytes(self, count: int) -> bytes:
        """Return random bytes."""
        return host_urandom(count)

    def environment(self) -> Mapping[str, str]:
        """Refuse.

        Raises:
            InvalidArgument: always.
        """
        raise InvalidArgument("There is no deployment whose environment variables could be read here.")


NO_RUN: Final = OperatingSystem()


@final
class Ambient:
    """One execution as the standard library sees it.

    `now_ns` is the frozen wall clock of a query or mutation. `seed`, 32 bytes, is drawn from `source` when first
    needed, unless it is given; it is never logged or stored.
    """

    __slots__ = (
        "_random",
        "_secrets_taken",
        "_seed",
        "frozen",
        "kind",
        "log",
        "now_ns",
        "observed",
        "source",
        "tasks",
    )

    def __init__(
        self,
        kind: AmbientKind,
        now_ns: int,
        log: LogBuffer,
        *,
        seed: bytes | None = None,
        source: Source = NO_RUN,
        observed: Observed | None = None,
    ) -> None:
        self.kind = kind
        self.frozen = kind == "query" or kind == "mutation"
        self.now_ns = now_ns
        self.log = log
        self.tasks = 0  # of user code, alive in this execution
        self.observed = Observed() if observed is None else observed
        self._seed = seed
        self.source = source
        self._random: random.Random | None = None
        self._secrets_taken = 0

    @property
    def now_ms(self) -> float:
        """The frozen time in milliseconds, to write with. What shows it to a function uses `read_clock`."""
        return self.now_ns / 1_000_000

    def child(self, kind: AmbientKind) -> "Ambient":
        """Return the ambient of a nested call: same time and log, chance of its own; what it looks at counts here."""
        seed = self._stream(b"child", 32)
        return Ambient(kind, self.now_ns, self.log, seed=seed, source=self.source, observed=self.observed)

    def again(self, log: LogBuffer, source: Source) -> "Ambient":
        """Return the ambient of a repeat of this execution, which has ended: same time, same chance, another log.

        Chance that the first run never asked for comes from `source`.
        """
        return Ambient(self.kind, self.now_ns, log, seed=self._seed, source=source)

    def read_clock(self) -> int:
        """Return the frozen time in nanoseconds and note that it was looked at."""
        self.observed.clock = True
        return self.now_ns

    @property
    def random(self) -> random.Random:
        """The generator behind the `random` module: reproducible from the seed, which it does not reveal."""
        self.observed.chance = True
        generator = self._random
        if generator is None:
            generator = self._random = random.Random(int.from_bytes(self._stream(b"random", 32), "big"))
        return generator

    def secret(self, count: int) -> bytes:
        """Return the next `count` bytes of the execution's cryptographic stream.

        Raises:
            ValueError: `count` is negative.
        """
        if count < 0:
            raise ValueError("negative argument not allowed")
        self.observed.chance = True
        return self._stream(b"secret", count)

    @property
    def looked_at_clock(self) -> bool:
        """Whether this execution, or one nested in it, has read the clock."""
        return self.observed.clock

    @property
    def looked_at_chance(self) -> bool:
        """Whether this execution, or one nested in it, has drawn a random number or a secret."""
        return self.observed.chance

    def _stream(self, purpose: bytes, count: int) -> bytes:
        # SHAKE-256 keyed by prefix is a pseudo-random function: an output tells nothing of the seed or of the others.
        if self._seed is None:
            self._seed = self.source.token_bytes(32)
        self._secrets_taken += purpose != b"random"
        position = 0 if purpose == b"random" else self._secrets_taken
        return hashlib.shake_256(b"%s:%s:%d" % (self._seed, purpose, position)).digest(count)


ambient: Final[contextvars.ContextVar[Ambient | None]] = contextvars.ContextVar("reactor_ambient", default=None)

_current: Final = ambient.get


def frozen_ambient() -> Ambient | None:
    """Return the ambient of the query or mutation this code runs in, or None outside of these."""
    found = _current()
    return found if found is not None and found.frozen else None


def current_log() -> LogBuffer | None:
    """Return the log of the execution this code runs in, of whatever kind."""
    found = _current()
    return None if found is None else found.log


def is_user_code(frame: types.FrameType) -> bool:
    """Whether a frame runs code of a project, rather than of reactor or of a library."""
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith(PROJECT_PREFIX)


_installing: Final = threading.Lock()
_installed = False


def install() -> None:
    """Put the dispatchers in place, once per process."""
    global _installed
    with _installing:
        if _installed:
            return
        capture_logging(current_log, is_user_code)  # first, because it keeps the real clock for itself
        _install_clock()
        _install_random()
        _install_secrets()
        _installed = True


def replace(module: Any, name: str, dispatcher: Callable[..., Any]) -> None:
    """Put a dispatcher in the place of a function, looking like it."""
    original = getattr(module, name)
    setattr(module, name, functools.update_wrapper(dispatcher, original))


def _install_clock() -> None:
    def now() -> float:
        found = _current()
        if found is None or not found.frozen:
            return host_time()
        found.observed.clock = True
        return found.now_ns / 1e9

    def now_ns() -> int:
        found = _current()
        if found is None or not found.frozen:
            return host_time_ns()
        found.observed.clock = True
        return found.now_ns

    replace(time, "time", now)
    replace(time, "time_ns", now_ns)

    gmtime, asctime = time.gmtime, time.asctime

    def frozen_moment() -> time.struct_time | None:
        found = frozen_ambient()
        return None if found is None else gmtime(found.read_clock() // 1_000_000_000)

    def without_argument(original: Callable[..., Any], frozen: Callable[[time.struct_time], Any]) -> Callable[..., Any]:
        def dispatcher(*args: Any) -> Any:
            moment = frozen_moment() if not args or args[0] is None else None
            return original(*args) if moment is None else frozen(moment)

        return dispatcher

    replace(time, "gmtime", without_argument(time.gmtime, lambda moment: moment))
    replace(time, "localtime", without_argument(time.localtime, lambda moment: moment))
    replace(time, "ctime", without_argument(time.ctime, asctime))
    replace(time, "asctime", without_argument(time.asctime, asctime))

    strftime = time.strftime

    def format_time(*args: Any) -> str:
        moment = frozen_moment() if len(args) == 1 else None
        return strftime(*args) if moment is None else strftime(args[0], moment)

    replace(time, "strftime", format_time)


def _install_random() -> None:
    def module_function(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def dispatcher(*args: Any, **kwargs: Any) -> Any:
            found = _current()
            if found is None or not found.frozen:
                return original(*args, **kwargs)
            return getattr(found.random, name)(*args, **kwargs)

        return dispatcher

    for name in random.__all__:
        original = getattr(random, name)
        if getattr(original, "__self__", None) is random._inst:
            replace(random, name, module_function(name, original))

    seed = random.Random.seed

    def seed_generator(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None:  # `random.Random()` would ask the operating system
            found = frozen_ambient()
            if found is not None:
                a = found.random.getrandbits(256)
        seed(self, a, version)

    replace(random.Random, "seed", seed_generator)


def _install_secrets() -> None:
    def urandom(size: int, /) -> bytes:
        found = _current()
        if found is None or not found.frozen:
            return host_urandom(size)
        return found.secret(operator.index(size))

    # `secrets` and `SystemRandom` read `random._urandom`, `uuid4` reads `os.urandom`.
    replace(os, "urandom", urandom)
    setattr(random, "_urandom", urandom)  # noqa: B010 (typeshed hides it)

    uuid1 = uuid.uuid1

    def time_based_uuid(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
        found = frozen_ambient()
        if found is None:
            return uuid1(node, clock_seq)
        ticks = found.read_clock() // 100 + 0x01B21DD213814000  # RFC 4122 counts 100 ns from 1582-10-15
        if clock_seq is None:
            clock_seq = int.from_bytes(found.secret(2), "big") & 0x3FFF
        if node is None:
            node = int.from_bytes(found.secret(6), "big") | 1 << 40  # multicast bit: not a real network card
        low, mid, high = ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF
        return uuid.UUID(fields=(low, mid, high, clock_seq >> 8 & 0x3F, clock_seq & 0xFF, node), version=1)

    replace(uuid, "uuid1", time_based_uuid)
