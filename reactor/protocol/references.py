"""What type checkers know of a function by name: `api.messages.send` of `_generated`.

Owns the types of references that `reactor codegen` writes. They exist for type checkers only: at run time each is a
`FunctionReference`. A kind of function is a class of its own, so that a query is never taken for a mutation, and it
carries two lists of parameters, since mypy infers those of a `ParamSpec` before it looks at a dict display, but not a
`TypedDict` behind a type variable. Used by whatever calls functions: contexts, clients and deployments.
"""

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

D = ParamSpec("D")
K = ParamSpec("K")
R = TypeVar("R")


class NamesFunction(Protocol):
    """What names a function about which nothing is known: a reference of `reactor`, or a decorated function."""

    @property
    def __reactor_path__(self) -> str: ...


class Reference(Generic[D, K, R]):
    """A function that takes one dict (`D`) or keywords (`K`) and returns `R`."""


class QueryReference(Reference[D, K, R]):
    """A query."""


class MutationReference(Reference[D, K, R]):
    """A mutation."""


class ActionReference(Reference[D, K, R]):
    """An action."""


AnyTypedReference = Reference[..., ..., Any]


def query_reference(
    dict_form: Callable[D, object], /
) -> Callable[[Callable[Concatenate[Any, K], R]], QueryReference[D, K, R]]:
    """Declare a query in a stub: `dict_form` takes its arguments as one dict, the decorated method as keywords."""
    raise TypeError("references are declared in stubs only")


def mutation_reference(
    dict_form: Callable[D, object], /
) -> Callable[[Callable[Concatenate[Any, K], R]], MutationReference[D, K, R]]:
    """Declare a mutation in a stub; see `query_reference`."""
    raise TypeError("references are declared in stubs only")


def action_reference(
    dict_form: Callable[D, object], /
) -> Callable[[Callable[Concatenate[Any, K], R]], ActionReference[D, K, R]]:
    """Declare an action in a stub; see `query_reference`."""
    raise TypeError("references are declared in stubs only")
