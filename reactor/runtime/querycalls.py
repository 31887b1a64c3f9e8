"""`run_query`, wherever a transaction has it: what a call of a query takes and gives, for type checkers.

Owns the forms of such a call; what it reads is said by who has it. Used by `ctx` and by `ctx.stale`.
"""

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from reactor.protocol.references import QueryReference
from reactor.runtime.decorators import Function
from reactor.runtime.executions import Operation
from reactor.runtime.references import PathOrReference

D = ParamSpec("D")
P = ParamSpec("P")
T = TypeVar("T")


class QueryCalls:
    """Something in a transaction that queries can be run on."""

    __slots__ = ()

    @overload
    def run_query(
        self, function: Function[P, Coroutine[Any, Any, T]], /, *args: P.args, **named: P.kwargs
    ) -> Operation[T]: ...

    @overload
    def run_query(self, function: Function[P, T], /, *args: P.args, **named: P.kwargs) -> Operation[T]: ...

    @overload
    def run_query(
        self, function: Function[..., Coroutine[Any, Any, T]], args: Mapping[str, Any], /
    ) -> Operation[T]: ...

    @overload
    def run_query(self, function: Function[..., T], args: Mapping[str, Any], /) -> Operation[T]: ...

    @overload
    def run_query(self, function: QueryReference[D, P, T], /, *args: P.args, **named: P.kwargs) -> Operation[T]: ...

    @overload
    def run_query(self, function: QueryReference[D, P, T], /, *args: D.args, **named: D.kwargs) -> Operation[T]: ...

    @overload
    def run_query(self, function: PathOrReference, args: Mapping[str, Any] | None = None, /, **named: Any) -> Any: ...

    def run_query(self, function: Any, /, *args: Any, **named: Any) -> Any:
        """Run another query, on the snapshot at which this function began; see the class for what it sees besides.

        `function` is a decorated function, `api.module.name`, `internal.module.name` or a path as text. Arguments are
        one dict, or keywords. What the query raises can be caught here.

        Raises:
            InvalidFunctionCall, FunctionNotFound: it is no query, or there is none.
            ArgumentsInvalid, ReturnsInvalid: arguments or result are not what it declares.
            LimitExceeded: more than 8 calls are nested in each other.
        """
        return self._run_nested("query", function, args, named)

    if TYPE_CHECKING:  # whoever has queries says how they run

        def _run_nested(self, kind: str, function: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any: ...
