"""A deployment for code without an event loop: its own loop, in its own thread.

Promises the verbs of `callers` with the same meaning, from any thread. Used through `Deployment.blocking`.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from reactor.client.portal import LoopThread
from reactor.client.subscription import BlockingSubscription
from reactor.protocol.references import ActionReference, MutationReference, QueryReference
from reactor.runtime.push import PushReport
from reactor.server.callers import Caller, LocalSubscription, Untyped
from reactor.server.environment import EnvironmentControl
from reactor.server.http.fetch import FetchResponse
from reactor.values.types import Value

if TYPE_CHECKING:
    from reactor.server.app import Deployment

D = ParamSpec("D")
K = ParamSpec("K")
R = TypeVar("R")


class BlockingCaller:
    """`Caller`, waited for. `timeout` is in seconds; work that was already begun may still take effect after it."""

    def __init__(self, caller: Caller, thread: LoopThread) -> None:
        self._caller = caller
        self._thread = thread

    @property
    def caller(self) -> Caller:
        """What this waits for; of use on the deployment's own thread only."""
        return self._caller

    def with_identity(self, claims: Mapping[str, Any], /) -> "BlockingCaller":
        """See `Caller.with_identity`."""
        return BlockingCaller(self._caller.with_identity(claims), self._thread)

    def as_admin(self, acting_as: Mapping[str, Any] | None = None, /) -> "BlockingCaller":
        """See `Caller.as_admin`."""
        return BlockingCaller(self._caller.as_admin(acting_as), self._thread)

    def component(self, path: str, /) -> "BlockingCaller":
        """See `Caller.component`."""
        return BlockingCaller(self._caller.component(path), self._thread)

    @overload
    def query(self, function: QueryReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    def query(self, function: QueryReference[D, K, R], args: Mapping[str, Any], /, *, timeout: float | None) -> R: ...

    @overload
    def query(
        self, function: Untyped, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None
    ) -> Value: ...

    def query(self, function: Any, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None) -> Any:  # type: ignore[misc]
        """See `Caller.query`.

        Raises:
            TimeoutError: there was no result within `timeout` seconds.
        """
        return self._thread.call(self._caller.query, function, args, timeout=timeout)

    @overload
    def mutation(self, function: MutationReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    def mutation(
        self, function: MutationReference[D, K, R], args: Mapping[str, Any], /, *, timeout: float | None
    ) -> R: ...

    @overload
    def mutation(
        self, function: Untyped, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None
    ) -> Value: ...

    def mutation(  # type: ignore[misc]
        self, function: Any, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None
    ) -> Any:
        """See `Caller.mutation`.

        Raises:
            TimeoutError: there was no result within `timeout` seconds.
        """
        return self._thread.call(self._caller.mutation, function, args, timeout=timeout)

    @overload
    def action(self, function: ActionReference[D, K, R], /, *args: D.args, **options: D.kwargs) -> R: ...

    @overload
    def action(self, function: ActionReference[D, K, R], args: Mapping[str, Any], /, *, timeout: float | None) -> R: ...

    @overload
    def action(
        self, function: Untyped, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None
    ) -> Value: ...

    def action(self, function: Any, args: Mapping[str, Any] | None = None, /, *, timeout: float | None = None) -> Any:  # type: ignore[misc]
        """See `Caller.action`.

        Raises:
            TimeoutError: there was no result within `timeout` seconds.
        """
        return self._thread.call(self._caller.action, function, args, timeout=timeout)

    def run(self, handler: Callable[[Any], Any], /, *, timeout: float | None = None) -> Value:
        """See `Caller.run`. The handler runs on the deployment's thread.

        Raises:
            TimeoutError: there was no result within `timeout` seconds.
        """
        return self._thread.call(self._caller.run, handler, timeout=timeout)

    def fetch(
        self,
        path: str,
        /,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        json: Any = None,
        timeout: float | None = None,
    ) -> FetchResponse:
        """See `Caller.fetch`.

        Raises:
            TimeoutError: there was no whole response within `timeout` seconds.
        """

        async def send() -> FetchResponse:
            return await self._caller.fetch(path, method=method, headers=headers, body=body, json=json)

        return self._thread.call(send, timeout=timeout)

    @overload
    def subscribe(
        self, function: QueryReference[D, K, Any], /, *args: D.args, **options: D.kwargs
    ) -> "BlockingLocalSubscription": ...

    @overload
    def subscribe(self, function: Untyped, args: Mapping[str, Any] | None = None, /) -> "BlockingLocalSubscription": ...

    def subscribe(self, function: Any, args: Mapping[str, Any] | None = None, /) -> "BlockingLocalSubscription":  # type: ignore[misc]
        """See `Caller.subscribe`."""
        return BlockingLocalSubscription(self._thread.run(self._caller.subscribe, function, args), self._thread)


class BlockingLocalSubscription(BlockingSubscription):
    """`LocalSubscription`, waited for."""

    def __init__(self, subscription: LocalSubscription, thread: LoopThread) -> None:
        super().__init__(subscription, thread)
        self._local = subscription
        self._thread = thread

    def settled(self) -> Any:
        """See `LocalSubscription.settled`."""
        return self._thread.call(self._local.settled)

    def is_unchanged(self) -> bool:
        """See `LocalSubscription.is_unchanged`."""
        return self._thread.call(self._local.is_unchanged)


class BlockingEnvironmentControl:
    """`EnvironmentControl`, waited for."""

    def __init__(self, control: EnvironmentControl, thread: LoopThread) -> None:
        self._control = control
        self._thread = thread

    def all(self) -> dict[str, str]:
        """See `EnvironmentControl.all`."""
        return self._thread.call(self._control.all)

    def get(self, name: str) -> str | None:
        """See `EnvironmentControl.get`."""
        return self._thread.call(self._control.get, name)

    def set(self, name: str, value: str) -> None:
        """See `EnvironmentControl.set`."""
        self._thread.call(self._control.set, name, value)

    def unset(self, name: str) -> None:
        """See `EnvironmentControl.unset`."""
        self._thread.call(self._control.unset, name)

    def update(self, changes: Mapping[str, str | None]) -> None:
        """See `EnvironmentControl.update`."""
        self._thread.call(self._control.update, changes)


class BlockingDeployment(BlockingCaller):
    """An open deployment on a thread of its own. Close it, best with `with`."""

    def __init__(self, deployment: "Deployment") -> None:
        thread = LoopThread("reactor deployment")
        super().__init__(deployment, thread)
        self._deployment = deployment
        self._is_closed = False
        self.env = BlockingEnvironmentControl(deployment.env, thread)
        try:
            thread.call(deployment.open)
        except BaseException:
            thread.close()
            raise

    def reload(self) -> PushReport:
        """See `Deployment.reload`."""
        return self._thread.call(self._deployment.reload)

    def close(self) -> None:
        """Close the deployment and end its thread. Closing twice is harmless."""
        if not self._is_closed:
            self._is_closed = True
            try:
                self._thread.call(self._deployment.close)
            finally:
                self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
