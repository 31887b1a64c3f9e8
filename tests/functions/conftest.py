"""Callers of the application."""

from typing import Any

import pytest

from reactor.testing.deployment import MemoryDeployment


@pytest.fixture
def admin(deployment: MemoryDeployment) -> Any:
    """Calls with an admin key."""
    return deployment.as_admin()
