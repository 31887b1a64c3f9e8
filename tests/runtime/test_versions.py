"""Which version runs at which timestamp, and when one can go."""

from types import SimpleNamespace
from typing import Any

import pytest

from reactor.errors import Unavailable
from reactor.runtime.versions import Versions


def versions(*stamps: int) -> Versions:
    made = Versions()
    for ts in stamps:
        version: Any = SimpleNamespace(ts=ts)
        made.add(version)
    return made


def test_without_a_version_nothing_can_run() -> None:
    with pytest.raises(Unavailable):
        versions().latest()
    with pytest.raises(Unavailable):
        versions().at(5)


@pytest.mark.parametrize(("ts", "found"), [(5, 10), (10, 10), (19, 10), (20, 20), (29, 20), (30, 30), (99, 30)])
def test_a_run_uses_the_newest_version_at_or_before_its_timestamp(ts: int, found: int) -> None:
    assert versions(10, 20, 30).at(ts).ts == found


def test_mutations_run_the_newest_version() -> None:
    assert versions(10, 20).latest().ts == 20


@pytest.mark.parametrize(("before", "retired", "left"), [(9, [], 10), (19, [], 10), (20, [10], 20), (99, [10, 20], 30)])
def test_a_version_goes_when_its_successor_is_old_enough(before: int, retired: list[int], left: int) -> None:
    made = versions(10, 20, 30)
    assert [version.ts for version in made.retire(before)] == retired
    assert made.at(0).ts == left


def test_closing_releases_every_version() -> None:
    released: list[int] = []
    made = Versions()
    for ts in (1, 2):
        version: Any = SimpleNamespace(ts=ts, project=SimpleNamespace(release=lambda ts=ts: released.append(ts)))
        made.add(version)
    made.close()
    assert released == [1, 2]
    with pytest.raises(Unavailable):
        made.latest()
