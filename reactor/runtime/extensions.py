"""What `query.extend(...)` puts around a handler: members of `ctx`, arguments and options, a step after success.

Owns `Extension`, one call of `extend`, and the wrapping. Promises that all of it runs as a part of the function, in its
transaction; that what refuses a caller keeps the handler from running at all; and that a wrapped handler looks like
itself: its signature, its place in the source, and whether it is `async def`. Used by `decorators`; the arguments are
declared and bound by `signature`.
"""

import copy
import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, final

from reactor.runtime.references import snake_case
from reactor.schema.validator import Validator

Members = Mapping[str, Any]
MakeMembers = Callable[..., Members | Awaitable[Members | None] | None]
OnSuccess = Callable[[Any, dict[str, Any], Any], Any]

_OURS: Final = "reactor."


@final
class Extension:
    """One call of `extend`. `args` are the arguments it takes away from what reaches the handler."""

    def __init__(
        self,
        context: MakeMembers | None,
        args: Mapping[str, Any] | None,
        ctx: type | None,
        on_success: OnSuccess | None,
        options: Sequence[str],
        taken: Sequence[str],
        taken_options: Sequence[str],
    ) -> None:
        """
        Args:
            taken: names of arguments that an earlier `extend` has declared.
            taken_options: names of options that one has.

        Raises:
            TypeError: what is given can't be used so.
        """
        for option, value in (("context", context), ("on_success", on_success)):
            if value is not None and not callable(value):
                raise TypeError(f"extend({option}=...) takes a function, not {value!r}")
        if ctx is not None and not isinstance(ctx, type):
            raise TypeError(f"extend(ctx=...) takes a class, not {ctx!r}")
        if args is not None and not isinstance(args, Mapping):
            raise TypeError(f"extend(args=...) takes a dict of validators, not {args!r}")
        self.args: dict[str, Validator] = dict(args or {})
        for name, validator in self.args.items():
            if not isinstance(validator, Validator):
                raise TypeError(f"extend(args=...): {name!r} needs a validator such as v.string(), not {validator!r}")
            if name in taken:
                raise TypeError(f"extend(args=...): argument {name!r} is declared by the decorator that is extended")
        if self.args and context is None:
            raise TypeError("extend(args=...) declares arguments for context=, which is missing")
        self.options = _checked_options(options, context, taken_options)
        self._given: Mapping[str, Any] = {}  # of the options, for one function
        self.context = context
        self.on_success = on_success
        self._ctx = ctx
        self._declared = () if ctx is None else tuple(_declared_members(ctx))
        self._parameters = {} if context is None else _parameters_for(context, self.args, self.options)
        self._types: dict[tuple[type, frozenset[str]], type] = {}

    @property
    def is_async(self) -> bool:
        """Whether only an `async def` handler can have it."""
        return any(map(inspect.iscoroutinefunction, (self.context, self.on_success)))

    def make_members(self, ctx: Any, args: Mapping[str, Any]) -> Any:
        """Return what `context=` gives, or something to await for it."""
        if self.context is None:
            return None
        given = {name: args[field] for field, name in self._parameters.items() if field in args}
        return self.context(ctx, **self._given, **given)

    def configured(self, options: Mapping[str, Any]) -> "Extension":
        """Return the extension of one function, which is decorated with these of its options.

        Raises:
            TypeError: one is missing that has no default value.
        """
        if not self.options:
            return self
        assert self.context is not None
        parameters = inspect.signature(self.context).parameters
        for name in self.options:
            if name not in options and name in parameters and parameters[name].default is inspect.Parameter.empty:
                raise TypeError(f"the option {name!r} of {self} has no default value, so the function must give it")
        own = copy.copy(self)
        own._given = options
        return own

    def extended(self, ctx: Any, members: Members) -> Any:
        """Return a `ctx` that has `members`, and everything that `ctx` has.

        Raises:
            TypeError: they can't be its members, or one is missing.
        """
        for name in members:
            if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
                raise TypeError(f"{self} gives {name!r}, which can't be the name of a member of ctx")
        for name in self._declared:
            if name not in members and not hasattr(ctx, name):
                assert self._ctx is not None
                raise TypeError(f"{self} gives no {name!r}, which {self._ctx.__name__} declares")
        if not members and self._ctx is None:
            return ctx
        base = type(ctx)
        key = base, frozenset(members)
        kind = self._types.get(key)
        if kind is None:
            kind = self._types[key] = _extended_type(base, self._ctx, members)
        new: Any = object.__new__(kind)
        for slot in _slots(base):
            if hasattr(ctx, slot):
                setattr(new, slot, getattr(ctx, slot))
        new.__dict__.update(getattr(ctx, "__dict__", {}))
        new.__dict__.update(members)
        return new

    def __str__(self) -> str:
        code = getattr(inspect.unwrap(self.context), "__code__", None) if self.context is not None else None
        return "extend(context=...)" + (f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else "")


def wrapped(handler: Callable[..., Any], is_async: bool, extensions: Sequence[Extension]) -> Callable[..., Any]:
    """Return `handler` with extensions around it, the first one outermost.

    Raises:
        TypeError: one of them has to be awaited, and `handler` is no `async def`.
    """
    split = _Split(handler, [name for extension in extensions for name in extension.args])
    if is_async:

        @functools.wraps(handler)
        async def run_async(ctx: Any, /, *positional: Any, **named: Any) -> Any:
            own, taken = split(named)
            passed: list[Any] = []
            for extension in extensions:
                members = await _known(extension.make_members(ctx, taken))
                members = {name: await _known(value) for name, value in _checked(extension, members).items()}
                ctx = extension.extended(ctx, members)
                passed.append(ctx)
            result = await handler(ctx, *positional, **own)
            for extension, its_ctx in zip(reversed(extensions), reversed(passed), strict=True):
                if extension.on_success is not None:
                    await _known(extension.on_success(its_ctx, dict(own), result))
            return result

        return run_async
    for extension in extensions:
        if extension.is_async:
            raise TypeError(
                f"{extension} is `async def`, so it needs an `async def` function: the plain one can't wait for it"
            )

    @functools.wraps(handler)
    def run(ctx: Any, /, *positional: Any, **named: Any) -> Any:
        own, taken = split(named)
        passed: list[Any] = []
        for extension in extensions:
            members = _checked(extension, extension.make_members(ctx, taken))
            for value in members.values():
                _refuse_awaitable(extension, value)
            ctx = extension.extended(ctx, members)
            passed.append(ctx)
        result = handler(ctx, *positional, **own)
        for extension, its_ctx in zip(reversed(extensions), reversed(passed), strict=True):
            if extension.on_success is not None:
                _refuse_awaitable(extension, extension.on_success(its_ctx, dict(own), result))
        return result

    return run


class _Split:
    """Tells the arguments of a handler from those that its extensions take."""

    def __init__(self, handler: Callable[..., Any], taken: Sequence[str]) -> None:
        parameters = inspect.signature(handler).parameters
        self._names = [(name, snake_case(name), parameter_of(name, parameters)) for name in taken]

    def __call__(self, named: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        own, taken = dict(named), {}
        for name, snake, wanted in self._names:
            given = name if name in own else snake
            if given in own:
                value = taken[name] = own.pop(given)
                if wanted is not None:
                    own[wanted] = value
        return own, taken


def parameter_of(argument: str, parameters: Mapping[str, Any]) -> str | None:
    """Return the parameter that an argument goes to, by its own or its snake_case name, or None."""
    return next((name for name in (argument, snake_case(argument)) if name in parameters), None)


async def _known(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _refuse_awaitable(extension: Extension, value: object) -> None:
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(f"{extension} gives something to await, and the function is a plain `def`, which can't wait")


def _checked(extension: Extension, members: Any) -> Members:
    _refuse_awaitable(extension, members)
    if members is None:
        return {}
    if not isinstance(members, Mapping):
        raise TypeError(f"{extension} must return a dict of members of ctx, or None, not {type(members).__name__}")
    return members


def _checked_options(options: Sequence[str], context: MakeMembers | None, taken: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the options that `context` takes.

    Raises:
        TypeError: they can't be its options.
    """
    if isinstance(options, str) or not all(isinstance(name, str) for name in options):
        raise TypeError(f"extend(options=...) takes a list of names, not {options!r}")
    if not options:
        return ()
    if context is None:
        raise TypeError("extend(options=...) names options for context=, which is missing")
    parameters = inspect.signature(context).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in options:
        if name in ("args", "returns", "name") or name in taken:
            raise TypeError(f"extend(options=...): the decorator has an option {name!r} already")
        if not (takes_all or name in parameters):
            raise TypeError(f"extend(options=...): option {name!r} has no parameter in context=")
    return tuple(options)


def _parameters_for(
    context: Callable[..., Any], args: Mapping[str, Validator], options: Collection[str]
) -> dict[str, str]:
    """Return the parameter of `context` for each of `args`.

    Raises:
        TypeError: one has none, or lacks a default value.
    """
    try:
        signature = inspect.signature(context)
    except ValueError:  # something built in, which does not say
        return {name: name for name in args}
    _, *parameters = signature.parameters.values() or (None,)
    by_name = {
        p.name: p
        for p in parameters
        if p is not None and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in options
    }
    takes_all = any(p is not None and p.kind is p.VAR_KEYWORD for p in parameters)
    found: dict[str, str] = {}
    for field, validator in args.items():
        name = parameter_of(field, by_name)
        if name is None and not takes_all:
            raise TypeError(f"extend(args=...): argument {field!r} has no parameter in context=")
        if name is not None and validator.is_optional and by_name[name].default is inspect.Parameter.empty:
            raise TypeError(f"extend(args=...): argument {field!r} is optional, so its parameter needs a default value")
        found[field] = name or field
    for name, parameter in by_name.items():
        if name not in found.values() and parameter.default is parameter.empty:
            raise TypeError(f"extend(context=...): parameter {name!r} has no argument in args= and no default value")
    return found


def _declared_members(kind: type) -> Iterator[str]:
    """Yield what a user's class says a `ctx` has, without what has a value in the class."""
    for base in kind.__mro__:
        if base is not object and not base.__module__.startswith(_OURS):
            for name in inspect.get_annotations(base):
                if not hasattr(kind, name):
                    yield name


def _extended_type(base: type, declared: type | None, members: Members) -> type:
    """Return a class of `ctx` objects with room for `members`, which go before what `base` has under these names."""
    if declared is None or issubclass(base, declared):
        bases: tuple[type, ...] = (base,)
    elif issubclass(declared, base):
        bases = (declared,)
    else:
        bases = (declared, base)
    replaced = {name for name in members if any(hasattr(kind, name) for kind in bases)}
    return type(base.__name__, bases, {name: _Member(name) for name in replaced})


class _Member:
    """A member in the place of something of the class, such as `db`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, ctx: Any, kind: type) -> Any:
        return self if ctx is None else ctx.__dict__[self._name]

    def __set__(self, ctx: Any, value: Any) -> None:
        ctx.__dict__[self._name] = value


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
