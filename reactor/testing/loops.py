"""Open deployments for coroutine tests, one fixture for each event loop that pytest-asyncio can give a test.

A deployment belongs to one event loop, so it must be opened on the loop its test runs on. Registered by the plugin
where pytest-asyncio is there; asked for by the fixture `deployment`.
"""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest_asyncio

if TYPE_CHECKING:
    from reactor.testing.deployment import MemoryDeployment


def open_fixture(scope: str) -> str:
    """Return the name of the fixture for tests whose event loop has this scope."""
    return f"_reactor_open_deployment_on_{scope}_loop"


def _define(scope: Literal["function", "class", "module", "package", "session"]) -> Callable[..., Any]:
    @pytest_asyncio.fixture(loop_scope=scope, name=open_fixture(scope))
    async def opened(_reactor_closed_deployment: "MemoryDeployment") -> "AsyncIterator[MemoryDeployment]":
        async with _reactor_closed_deployment:
            yield _reactor_closed_deployment

    return opened


on_function_loop: Final = _define("function")
on_class_loop: Final = _define("class")
on_module_loop: Final = _define("module")
on_package_loop: Final = _define("package")
on_session_loop: Final = _define("session")
