"""`@query`, `@mutation`, `@action` and their internal forms: what marks a Python function as callable by clients.

Owns `Function`, the decorated function. Promises that decorating changes nothing about calling the function from
Python, and that a decorated function knows its path, also after a reload. Annotations are looked at later, by
`signature`, when every name of the module exists.
Used by user code, `registry` and `context`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    final,
    overload,
)

from reactor.protocol.references import AnyTypedReference
from reactor.runtime.extensions import Extension, MakeMembers, OnSuccess, wrapped
from reactor.runtime.references import PathOrReference, identifier_problem
from reactor.schema.validator import Validator

P = ParamSpec("P")
R = TypeVar("R", covariant=True)  # what calling a function gives
C = TypeVar("C", covariant=True)  # the ctx that handlers get
D = TypeVar("D")

Kind = Literal["query", "mutation", "action", "http_action"]
Visibility = Literal["public", "internal"]

KINDS: Final = {"query": "a Query", "mutation": "a Mutation", "action": "an Action", "http_action": "an HttpAction"}


@final
class Function(Generic[P, R]):
    """A function of the project. Calling it runs the plain body: no validation, no transaction of its own.

    `args` and `returns` are what the decorator was given (None when nothing was); `name` is the name it is exported
    under, and `has_name` tells whether the decorator gave it. `module` is its namespace, such as `ai/analytics`, once a
    loader has set it. `extensions` are what the decorator puts around the handler, and `consumed` the
    arguments that they take beside those of the handler.
    """

    __wrapped__: Callable[..., Any]

    def __init__(
        self,
        kind: Kind,
        visibility: Visibility,
        handler: Callable[Concatenate[Any, P], R],
        *,
        args: object = None,
        returns: object = None,
        name: str | None = None,
        extensions: Sequence[Extension] = (),
    ) -> None:
        self.kind: Final = kind
        self.visibility: Final = visibility
        innermost = inspect.unwrap(handler)
        self.is_async: Final = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(innermost)
        self.handler: Final = wrapped(handler, self.is_async, extensions) if extensions else handler
        self.extensions: Final = tuple(extensions)
        self.consumed: Final[Mapping[str, Validator]] = {
            name: validator for extension in extensions for name, validator in extension.args.items()
        }
        self.args: Final = args
        self.returns: Final = returns
        self.has_name: Final = name is not None
        self.module: str | None = None
        functools.update_wrapper(self, handler)
        self.name: str = getattr(handler, "__name__", "default") if name is None else name

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.handler(ctx, *args, **kwargs)

    @property
    def path(self) -> str:
        """The path it stands for: as registered, or from where it was defined when no loader has seen it."""
        module = self.module
        if module is None:
            module = self.handler.__module__.partition("functions.")[2].replace(".", "/") or self.handler.__module__
        return f"{module}:{self.name}"

    @property
    def __reactor_path__(self) -> str:
        """The path that clients send; see `client/address`."""
        return self.path

    def __repr__(self) -> str:
        return f"<{self.visibility} {self.kind.replace('_', ' ')} {self.path}>"


AnyReference = PathOrReference | Function[..., Any] | AnyTypedReference  # what names a function


class Decorator(Protocol[C]):
    """What a decorator called with options returns: it takes the function and keeps its parameters and result."""

    def __call__(self, handler: Callable[Concatenate[C, P], R], /) -> Function[P, R]: ...


class FunctionDecorator(Generic[C]):
    """Makes functions of one kind, bare (`@query`) or with options (`@query(args={...})`)."""

    def __init__(self, kind: Kind, visibility: Visibility, extensions: tuple[Extension, ...] = ()) -> None:
        self.kind, self.visibility = kind, visibility
        self.__name__ = kind if visibility == "public" else f"internal_{kind}"
        self._extensions = extensions

    @overload
    def extend(
        self,
        *,
        context: MakeMembers | None = None,
        args: Mapping[str, Any] | None = None,
        on_success: OnSuccess | None = None,
    ) -> "FunctionDecorator[C]": ...

    @overload
    def extend(
        self,
        *,
        ctx: type[D],
        context: MakeMembers | None = None,
        args: Mapping[str, Any] | None = None,
        on_success: OnSuccess | None = None,
    ) -> "FunctionDecorator[D]": ...

    @overload
    def extend(
        self,
        *,
        options: Sequence[str],
        context: MakeMembers,
        args: Mapping[str, Any] | None = None,
        on_success: OnSuccess | None = None,
    ) -> "OptionsDecorator[C]": ...

    @overload
    def extend(
        self,
        *,
        options: Sequence[str],
        ctx: type[D],
        context: MakeMembers,
        args: Mapping[str, Any] | None = None,
        on_success: OnSuccess | None = None,
    ) -> "OptionsDecorator[D]": ...

    def extend(
        self,
        *,
        ctx: type | None = None,
        context: MakeMembers | None = None,
        args: Mapping[str, Any] | None = None,
        on_success: OnSuccess | None = None,
        options: Sequence[str] = (),
    ) -> Any:
        """Return a decorator that does more: `user_query = query.extend(context=lambda ctx: {"user": ...})`.

        All of it runs as a part of the function, in its transaction, also when the function is called from Python.

        Args:
            context: gets `ctx` and returns a dict of further members of it, or None. May be `async def`, and members
                may be something to await, where the function is `async def`. What it raises, the function raises.
            args: validators of arguments that callers pass and `context` takes, as keywords. The handler gets one only
                if it has a parameter of that name.
            on_success: called with `ctx`, the handler's arguments as a dict, and its result, after it has returned.
            options: names of further options of the decorator: parameters of `context` which each function chooses,
                `@user_query(role="admin")`. One whose parameter has no default value must be given.
            ctx: a class that declares what members `ctx` has, for type checkers, and may have methods; it extends
                `QueryCtx` or another one. Its `__init__` is not called.

        Raises:
            TypeError: what is given can't be used so.
        """
        if args and self.kind == "http_action":
            raise TypeError("http_action.extend() takes no args=: a request has none")
        taken = [name for extension in self._extensions for name in extension.args]
        extension = Extension(context, args, ctx, on_success, options, taken, self._options)
        made = OptionsDecorator if options or self._options else FunctionDecorator
        return made(self.kind, self.visibility, (*self._extensions, extension))

    @property
    def _options(self) -> list[str]:
        return [name for extension in self._extensions for name in extension.options]

    @overload
    def __call__(self, handler: Callable[Concatenate[C, P], R], /) -> Function[P, R]: ...

    @overload
    def __call__(
        self, /, *, args: Mapping[str, Any] | Any = None, returns: Any = None, name: str | None = None
    ) -> Decorator[C]: ...

    def __call__(
        self,
        handler: Callable[..., Any] | None = None,
        /,
        *,
        args: Any = None,
        returns: Any = None,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Decorate `handler`, or return the decorator with these options.

        Raises:
            TypeError: what is decorated is no function, or an option is unknown, missing or of the wrong kind.
            ValueError: `name` can't be the name of a function.
        """

        def decorate(handler: Callable[..., Any], /) -> Function[..., Any]:
            self._check_handler(handler)
            extensions = [
                extension.configured({name: options[name] for name in extension.options if name in options})
                for extension in self._extensions
            ]
            return Function(
                self.kind, self.visibility, handler, args=args, returns=returns, name=name, extensions=extensions
            )

        for option in options:
            if option not in self._options:
                known = ", ".join([*self._options, "args", "returns", "name"])
                raise TypeError(f"@{self.__name__} has no option {option!r}; it has {known}")
        if name is not None:
            if not isinstance(name, str):
                raise TypeError(f"@{self.__name__}(name=...) takes a string, not {name!r}")
            problem = identifier_problem(name)
            if problem is not None:
                raise ValueError(f"@{self.__name__}(name={name!r}): {problem}")
        if self.kind == "http_action" and (args is not None or returns is not None):
            raise TypeError("@http_action takes a request and returns a response: it has no args= and returns=")
        return decorate if handler is None else decorate(handler)

    def _check_handler(self, handler: object) -> None:
        if isinstance(handler, Function):
            raise TypeError(f"@{self.__name__} on {handler!r}: it is decorated already")
        if isinstance(handler, type) or not callable(handler):
            raise TypeError(
                f"@{self.__name__} decorates a function, not {handler!r}; options are keywords, as in args={{…}}"
            )
        innermost = inspect.unwrap(handler)
        if inspect.isasyncgenfunction(innermost) or inspect.isgeneratorfunction(innermost):
            raise TypeError(f"@{self.__name__} on {innermost.__qualname__}: a function returns a value, it can't yield")

    def __repr__(self) -> str:
        return f"@{self.__name__}"


@final
class OptionsDecorator(FunctionDecorator[C]):
    """A decorator with options that `extend(options=...)` has added. What is given for them is checked when it is used.

    They are no secret of the function: its `context` gets them, callers never do.
    """

    if TYPE_CHECKING:  # it takes more of them, and does the same

        @overload
        def __call__(self, handler: Callable[Concatenate[C, P], R], /) -> Function[P, R]: ...

        @overload
        def __call__(
            self,
            /,
            *,
            args: Mapping[str, Any] | Any = None,
            returns: Any = None,
            name: str | None = None,
            **options: Any,
        ) -> Decorator[C]: ...

        def __call__(self, handler: Any = None, /, **options: Any) -> Any: ...

        def extend(self, **given: Any) -> "OptionsDecorator[Any]": ...


query: Final[FunctionDecorator[Any]] = FunctionDecorator("query", "public")
mutation: Final[FunctionDecorator[Any]] = FunctionDecorator("mutation", "public")
action: Final[FunctionDecorator[Any]] = FunctionDecorator("action", "public")
internal_query: Final[FunctionDecorator[Any]] = FunctionDecorator("query", "internal")
internal_mutation: Final[FunctionDecorator[Any]] = FunctionDecorator("mutation", "internal")
internal_action: Final[FunctionDecorator[Any]] = FunctionDecorator("action", "internal")
http_action: Final[FunctionDecorator[Any]] = FunctionDecorator("http_action", "public")
