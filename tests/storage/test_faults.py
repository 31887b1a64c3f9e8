"""The failing storage keeps the contract while it fails."""

import asyncio

import pytest

from reactor.errors import StorageError
from reactor.storage.interface import AppendOutcome
from reactor.storage.memory import MemoryPersistence
from tests.storage.faults import Fault, FaultyPersistence
from tests.storage.records import commits

pytestmark = pytest.mark.asyncio


async def opened() -> FaultyPersistence:
    persistence = FaultyPersistence(MemoryPersistence())
    await persistence.open()
    return persistence


async def test_faults_are_taken_in_order() -> None:
    persistence = await opened()
    persistence.faults += [Fault.NONE, Fault.REFUSED]

    outcomes = [await persistence.append(commits(1, 1), 0), await persistence.append(commits(2, 2), 1)]

    assert outcomes == [AppendOutcome.DONE, AppendOutcome.REFUSED]
    assert await persistence.append(commits(2, 2), 1) is AppendOutcome.DONE
    assert persistence.appended == [tuple(commits(1, 1)), tuple(commits(2, 2))]


@pytest.mark.parametrize(("fault", "end"), [(Fault.UNKNOWN_LOST, 1), (Fault.UNKNOWN_WRITTEN, 2)])
async def test_reopening_settles_an_unknown_append(fault: Fault, end: int) -> None:
    persistence = await opened()
    await persistence.append(commits(1, 1), 0)
    persistence.faults.append(fault)

    assert await persistence.append(commits(2, 2), 1) is AppendOutcome.UNKNOWN
    assert await persistence.append(commits(3, 3), 2) is AppendOutcome.UNKNOWN
    with pytest.raises(StorageError, match="reopen first"):
        await persistence.fold(1)

    assert (await persistence.reopen()).end == end
    assert await persistence.append(commits(5, 5), end) is AppendOutcome.DONE


async def test_a_held_append_waits() -> None:
    persistence = await opened()
    persistence.hold()
    appending = asyncio.ensure_future(persistence.append(commits(1, 1), 0))

    await persistence.held()
    assert await persistence.read(0, 1) == []
    persistence.release()

    assert await appending is AppendOutcome.DONE


async def test_methods_fail_while_named() -> None:
    persistence = await opened()
    persistence.failing.add("reopen")

    with pytest.raises(StorageError, match="reopen fails"):
        await persistence.reopen()

    persistence.failing.clear()
    assert (await persistence.reopen()).epoch == 2
    assert persistence.reopened == 1
