"""Sixteen clients on a real server, transactions that stop in the middle, and no history without a serial order.

The run must have been hard: it counts exclusive attempts and conflicts, and a conflict takes two transactions that are
open at once. With validation switched off the checker finds what goes wrong.
"""

from pathlib import Path
from typing import Any

import pytest

from reactor.engine.committer import Committer
from tests.serializability.checker import anomalies, list_anomalies
from tests.serializability.workload import Counts, append_to_lists, move_money
from tests.sizes import size

pytestmark = pytest.mark.asyncio

CLIENTS = 16
SEED = 20_261_121
CONFLICTS = size(20, 1000)
EXCLUSIVE = size(1, 50)


def check_hard(counts: Counts) -> None:
    print(f"seed {SEED}: {counts}")
    assert counts.conflicts >= CONFLICTS
    assert counts.exclusive >= EXCLUSIVE


async def test_lists_have_a_serial_order(tmp_path: Path) -> None:
    history, counts = await append_to_lists(tmp_path / "app", SEED, CLIENTS, size(8, 300))

    assert list_anomalies(history) == []
    check_hard(counts)


async def test_transfers_have_a_serial_order(tmp_path: Path) -> None:
    history, totals, counts = await move_money(tmp_path / "app", SEED, CLIENTS, size(8, 300), accounts=4)

    assert anomalies(history) == []
    assert set(totals) == {400.0}
    check_hard(counts)


async def test_without_validation_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Committer, transaction: Any, since: int | None = None) -> None: ...

    monkeypatch.setattr(Committer, "validate", nothing)

    lists, _ = await append_to_lists(tmp_path / "lists", SEED, CLIENTS, 6)
    money, _, _ = await move_money(tmp_path / "money", SEED, CLIENTS, 6, accounts=6)

    assert list_anomalies(lists)
    assert anomalies(money)
