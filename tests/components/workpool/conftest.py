"""The fixture `pool`, beside `deployment`."""

import pytest

from reactor.testing.deployment import MemoryDeployment
from tests.components.workpool.pools import Pool


@pytest.fixture
def pool(deployment: MemoryDeployment) -> Pool:
    return Pool(deployment)
