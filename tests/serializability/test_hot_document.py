"""Fifty clients increment one document, half of the time stopping between read and write: exact, and no error."""

from pathlib import Path

import pytest

from tests.serializability.workload import count_up
from tests.sizes import size

CLIENTS = 50


@pytest.mark.asyncio
async def test_no_increment_is_lost_and_no_client_sees_an_error(tmp_path: Path) -> None:
    each = size(4, 200)

    value, took, counts = await count_up(tmp_path / "app", CLIENTS, each)

    assert value == CLIENTS * each
    assert counts.conflicts > 0  # it was contended
    attempts = 1 + counts.conflicts / counts.transactions
    p50, p99 = (took[int(len(took) * part)] for part in (0.5, 0.99))
    print(f"{attempts:.2f} attempts a commit, p50 {p50 * 1e3:.1f} ms, p99/p50 {p99 / p50:.1f}, {counts}")
