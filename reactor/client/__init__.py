"""The Python clients: `Client` for asyncio, `BlockingClient` for everything else."""

from reactor.client.async_client import Client
from reactor.client.sync_client import BlockingClient

__all__ = ["BlockingClient", "Client"]
