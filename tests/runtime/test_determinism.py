"""Tests of time and chance: frozen and reproducible inside queries and mutations, untouched everywhere else."""

import datetime
import os
import random
import secrets
import sys
import time
import timeit
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.runtime import determinism
from reactor.runtime.determinism import (
    Ambient,
    AmbientKind,
    OperatingSystem,
    ambient,
    current_log,
    host_time_ns,
    install,
)
from reactor.runtime.logs import LogBuffer
from tests.runtime.projects import inside

MOMENT = 1_700_000_000_123_456_789
SEED = bytes(range(32))


@pytest.fixture(autouse=True)
def _installed() -> None:
    install()


def surroundings(kind: AmbientKind = "query", seed: bytes | None = SEED, now_ns: int = MOMENT) -> Ambient:
    return Ambient(kind, now_ns, LogBuffer(), seed=seed)


@pytest.fixture(params=["query", "mutation"])
def frozen(request: pytest.FixtureRequest) -> Ambient:
    return surroundings(request.param)


CLOCKS: list[Callable[[], object]] = [
    time.time,
    lambda: time.time(),
    lambda: time.time_ns(),
    lambda: time.localtime(),
    lambda: time.gmtime(None),
    lambda: time.ctime(),
    lambda: time.asctime(),
    lambda: time.strftime("%Y-%m-%d %H:%M:%S"),
]


def test_every_clock_shows_the_frozen_time_in_utc(frozen: Ambient) -> None:
    with inside(frozen):
        assert time.time() == MOMENT / 1e9
        assert time.time_ns() == MOMENT
        assert time.localtime() == time.gmtime() == time.gmtime(MOMENT // 10**9)
        assert time.ctime() == time.asctime() == "Tue Nov 14 22:13:20 2023"
        assert time.strftime("%Y-%m-%d %H:%M:%S") == "2023-11-14 22:13:20"
        assert datetime.date.today().isoformat() == "2023-11-14"  # the C type asks `time.time`


@pytest.mark.parametrize("clock", CLOCKS[1:])
def test_looking_at_a_clock_is_noted(clock: Callable[[], object]) -> None:
    with inside(surroundings()) as found:
        assert not found.looked_at_clock
        clock()
        assert found.looked_at_clock
        assert not found.looked_at_chance


def test_a_given_time_is_formatted_as_always(frozen: Ambient) -> None:
    with inside(frozen):
        assert time.gmtime(0).tm_year == 1970
        assert time.ctime(0) == time.asctime(time.localtime(0))
        assert time.strftime("%Y", time.gmtime(0)) == "1970"
        assert not frozen.looked_at_clock


@pytest.mark.parametrize("kind", [None, "action", "http_action"])
def test_outside_queries_and_mutations_the_clock_runs(kind: AmbientKind | None) -> None:
    token = ambient.set(None if kind is None else surroundings(kind))
    before = host_time_ns()
    assert before <= time.time_ns() <= host_time_ns()
    assert abs(time.time() - before / 1e9) < 60
    assert abs(time.mktime(time.localtime()) - before / 1e9) < 60
    ambient.reset(token)


DRAWS: list[Callable[[], object]] = [
    lambda: random.random(),
    lambda: random.randint(1, 10**9),
    lambda: random.choice(range(10**9)),
    lambda: random.sample(range(1000), 5),
    lambda: random.gauss(0, 1),
    lambda: random.getrandbits(64),
    lambda: random.Random().random(),
    lambda: random.SystemRandom().random(),
    lambda: secrets.token_hex(),
    lambda: secrets.randbelow(10**9),
    lambda: secrets.choice(range(10**9)),
    lambda: uuid.uuid4(),
    lambda: uuid.uuid1(),
    lambda: os.urandom(16),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_chance_follows_from_the_seed(draw: Callable[[], object]) -> None:
    def draws(seed: bytes | None) -> list[object]:
        with inside(surroundings(seed=seed)) as found:
            drawn = [draw() for _ in range(3)]
            assert found.looked_at_chance
        return drawn

    first = draws(SEED)
    assert first == draws(SEED)
    assert len(set(map(str, first))) == 3
    assert first != draws(bytes(32))
    assert draws(None) != draws(None)


@pytest.mark.parametrize("draw", DRAWS)
def test_outside_executions_chance_is_the_systems(draw: Callable[[], object]) -> None:
    assert draw() != draw()


def test_seeding_inside_an_execution_stays_inside() -> None:
    random.seed(1)
    outside = random.getstate()
    with inside(surroundings()):
        random.seed(5)
        drawn = random.random()
        assert drawn == random.Random(5).random()
        random.shuffle(list(range(10)))
    assert random.getstate() == outside


def test_random_and_secrets_do_not_reveal_each_other() -> None:
    with inside(surroundings()):
        plain = [secrets.token_hex() for _ in range(3)]
    with inside(surroundings()):
        mixed = [(random.random(), secrets.token_hex())[1] for _ in range(3)]
    assert plain == mixed


@given(st.lists(st.integers(0, 200), max_size=5))
def test_the_secret_stream_never_repeats(sizes: list[int]) -> None:
    stream = surroundings()
    drawn = [stream.secret(size) for size in sizes]
    assert [len(part) for part in drawn] == sizes
    long = [part for part in drawn if len(part) >= 16]
    assert len({part[:16] for part in long}) == len(long)


def test_urandom_refuses_what_it_always_refuses(frozen: Ambient) -> None:
    with inside(frozen):
        with pytest.raises(ValueError, match="negative"):
            os.urandom(-1)
        with pytest.raises(TypeError):
            os.urandom("x")  # type: ignore[arg-type]


def test_time_based_uuids_are_well_formed(frozen: Ambient) -> None:
    with inside(frozen):
        made = uuid.uuid1()
        assert (made.version, made.variant) == (1, uuid.RFC_4122)
        assert (made.time - 0x01B21DD213814000) * 100 == MOMENT // 100 * 100
        assert uuid.uuid1(node=5, clock_seq=6).node == 5
        assert uuid.uuid4().version == 4


def test_nested_calls_share_time_log_and_what_was_seen() -> None:
    parent = surroundings("mutation")
    first, second = parent.child("query"), parent.child("mutation")
    assert (first.now_ns, first.log) == (MOMENT, parent.log)
    assert not parent.looked_at_chance
    with inside(first):
        one = random.random()
    with inside(second):
        assert random.random() != one
        time.time()
    assert parent.looked_at_clock
    assert parent.looked_at_chance
    with inside(surroundings("mutation").child("query")):
        assert random.random() == one


def test_the_seed_is_drawn_once_and_only_when_needed() -> None:
    drawn: list[int] = []

    class Source(OperatingSystem):
        def token_bytes(self, count: int) -> bytes:
            drawn.append(count)
            return bytes(count)

    found = Ambient("query", MOMENT, LogBuffer(), source=Source())
    with inside(found):
        time.time()
        assert drawn == []
        random.random()
        os.urandom(8)
    assert drawn == [32]


def test_ctx_reads_the_same_clock() -> None:
    found = surroundings()
    assert found.read_clock() == MOMENT
    assert found.looked_at_clock


def test_the_log_is_found_in_every_kind_of_execution() -> None:
    assert current_log() is None
    for kind in ("query", "mutation", "action", "http_action"):
        with inside(surroundings(kind)) as found:  # type: ignore[arg-type]
            assert current_log() is found.log


def test_installing_again_changes_nothing() -> None:
    before = time.time, random.random, os.urandom
    install()
    assert before == (time.time, random.random, os.urandom)
    assert time.time.__name__ == "time"


def test_only_frames_of_projects_are_user_code() -> None:
    assert not determinism.is_user_code(sys._getframe())


def test_the_dispatcher_is_cheap() -> None:
    """A generous bound: the point is that nothing but one context lookup is added."""
    calls = 20_000
    cost = min(timeit.repeat("f()", globals={"f": time.time}, number=calls, repeat=5)) / calls
    assert cost < 5e-6
