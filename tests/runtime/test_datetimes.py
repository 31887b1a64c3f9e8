"""Tests of dates in user modules: the real classes, asking the ambient clock."""

import datetime
import traceback
from pathlib import Path
from types import ModuleType

import pytest

from reactor.runtime.determinism import Ambient
from reactor.runtime.logs import LogBuffer
from tests.runtime.projects import inside, loaded

MOMENT = 1_700_000_000_123_456_789
FROZEN = datetime.datetime(2023, 11, 14, 22, 13, 20, 123456)

SOURCE = """
    import copy, dataclasses, datetime as module, pickle
    from datetime import date, datetime, timedelta, timezone
    from zoneinfo import ZoneInfo

    class Moment(datetime):
        def shout(self): return "!"

    class Custom(datetime):
        @classmethod
        def now(cls, tz=None): return super().now(tz).replace(microsecond=0)

    class Mine:
        now = "mine"
        def utcnow(self): return "also mine"

    @dataclasses.dataclass
    class Row:
        at: datetime = dataclasses.field(default_factory=datetime.now)

    def now(): return datetime.now()
    def check():
        naive, aware = datetime.now(), datetime.now(timezone.utc)
        assert type(naive) is datetime is module.datetime and isinstance(naive, date)
        assert naive == module.datetime.now() == datetime.utcnow() == datetime.today() == Row().at
        assert aware.replace(tzinfo=None) == naive and aware.tzinfo is timezone.utc
        assert datetime.now(tz=ZoneInfo("Asia/Tokyo")) == aware
        assert date.today() == naive.date() and type(date.today()) is date
        assert pickle.loads(pickle.dumps(aware)) == aware == copy.copy(aware)
        assert naive + timedelta(days=1) > naive and (aware - timedelta(1)).tzinfo
        assert type(Moment.now()) is Moment and Moment.now().shout() == "!" and Moment.today() == naive
        assert Moment.now(timezone.utc) == aware
        assert type(Custom.now()) is Custom and Custom.now() == naive.replace(microsecond=0)
        assert datetime.fromtimestamp(0, timezone.utc).year == 1970
        assert (Mine.now, Mine().utcnow()) == ("mine", "also mine")
        match "mine":
            case Mine.now: pass
            case _: raise AssertionError
        return naive
    def missing(): return date.now()
    def stored():
        Mine.now = 1
        Mine.today: int = 2
        del Mine.now
        return Mine.today
    def annotated(at: Mine.utcnow) -> Mine.utcnow: ...
"""


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    with loaded(tmp_path, {"functions/m.py": SOURCE}) as project:
        return project.modules["functions.m"]


@pytest.mark.parametrize("kind", ["query", "mutation"])
def test_dates_are_real_and_frozen(module: ModuleType, kind: str) -> None:
    found = Ambient(kind, MOMENT, LogBuffer())  # type: ignore[arg-type]
    with inside(found):
        assert module.check() == FROZEN
    assert found.looked_at_clock


def test_elsewhere_dates_are_the_systems(module: ModuleType) -> None:
    with inside(Ambient("action", MOMENT, LogBuffer())):
        for found, real in [
            (module.now(), datetime.datetime.now()),
            (module.Moment.today(), datetime.datetime.now()),
            (module.Row().at, datetime.datetime.now()),
            (module.Custom.now(), datetime.datetime.now()),
        ]:
            assert abs(found - real) < datetime.timedelta(minutes=1)


def test_other_uses_of_the_names_are_untouched(module: ModuleType) -> None:
    assert module.stored() == 2
    assert module.annotated.__annotations__["at"] is module.Mine.utcnow


def test_a_mistake_reads_as_in_plain_python(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match=r"type object 'datetime\.date' has no attribute 'now'") as failure:
        module.missing()
    last = traceback.extract_tb(failure.value.__traceback__)[-1]
    assert (last.name, last.line) == ("missing", "def missing(): return date.now()")
