"""From the declared arguments of a function to the parameters of its handler, and back from its result.

Owns `Binder`, compiled once per function when a project is loaded. Promises that a mismatch between declaration and
handler is a `PushError` at the user's line, so that at run time binding can only fail on arguments that no validator
has checked. Used by `registry`; its `bind` is on the hot path of every call.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from reactor.errors import ArgumentsInvalid, PushError, SchemaInvalid
from reactor.runtime.decorators import Function
from reactor.runtime.extensions import parameter_of
from reactor.runtime.references import snake_case
from reactor.schema.annotations import AnnotationSpec, UnsupportedAnnotation, validator_from_annotation
from reactor.schema.containers import Object
from reactor.schema.rules import check_args_validator, check_returns_validator
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.types import Value

Bind = Callable[[dict[str, Any]], dict[str, Any]]
Convert = Callable[[Any], Any]


def source_of(function: Function[..., Any]) -> tuple[str | None, int | None]:
    """Return the file and line where a function's handler is defined."""
    code = getattr(inspect.unwrap(function.handler), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if isinstance(code, types.CodeType) else (None, None)


class Binder:
    """How one function is called: its validators, and the way of values into and out of its handler.

    `args` accepts the one arguments object; `returns` is None when nothing was declared. `bind` and `result` are
    attributes rather than methods, so that a function without conversions pays for none.
    """

    __slots__ = ("_function", "_path", "_signature", "args", "bind", "receive", "result", "returns")

    args: Validator
    returns: Validator | None
    bind: Bind
    """Return the keyword arguments for the handler, from arguments that `args` has accepted. May reuse the dict.

    Raises:
        ArgumentsInvalid: an argument has no parameter or a parameter no argument; only where `args` is `any`.
    """
    result: Convert
    """Return what the handler returned as a value: dataclasses and structs as objects where so declared."""
    receive: Convert
    """Return a result as another function of the project gets it: the reverse of `result`, integers as `int`."""

    def __init__(self, function: Function[..., Any], path: str) -> None:
        """Compile the binding of `function`, registered as `path`.

        Raises:
            PushError: declaration and handler don't fit, or an annotation is not supported.
        """
        self._function, self._path = function, path
        self._signature = inspect.signature(function.handler)
        self.args, self.returns = v.any(), None
        self.bind = self.result = self.receive = _as_is
        parameters = self._parameters()
        if function.kind == "http_action":
            if len([p for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]) != 1:
                raise self._error("an HTTP action takes two parameters, the context and the request")
            return
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        named = {name: p for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
        if function.args is None:
            self._bind_annotated(named, open_ended)
        else:
            self._bind_declared(named, open_ended)
        self._set_returns()

    def _error(self, text: str) -> PushError:
        file, line = source_of(self._function)
        return PushError(f"{self._path}: {text}", file=file, line=line)

    def _parameters(self) -> dict[str, inspect.Parameter]:
        """Return the handler's parameters after the context."""
        context, *others = self._signature.parameters.values() or (None,)
        if context is None or context.kind not in (context.POSITIONAL_ONLY, context.POSITIONAL_OR_KEYWORD):
            raise self._error("the first parameter of a function is its context, as in `def f(ctx, ...)`")
        for parameter in others:
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise self._error(f"arguments arrive as keywords, so `*{parameter.name}` would never receive any")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise self._error(f"arguments arrive as keywords, but parameter `{parameter.name}` is positional-only")
        return {parameter.name: parameter for parameter in others}

    @property
    def _context_name(self) -> str | None:
        """The name that no argument may have, because the context parameter takes it as a keyword too."""
        context = next(iter(self._signature.parameters.values()))
        return None if context.kind is context.POSITIONAL_ONLY else context.name

    # Arguments declared with `args=`: annotations are for type checkers only.

    def _bind_declared(self, parameters: Mapping[str, inspect.Parameter], open_ended: bool) -> None:
        self.args = args = self._declared_args()
        consumed = self._function.consumed
        if not isinstance(args, Object):
            if consumed:
                raise self._error(f"beside the arguments of extend(args=), args= must list all others, not be {args}")
            self.bind = self._open_binding(parameters, open_ended)
            return
        fields = args.fields
        renamed: dict[str, str] = {}
        for field, validator in fields.items():
            name = self._parameter_for(field, parameters, fields)
            if name is None:
                if not open_ended:
                    raise self._error(f"argument `{field}` has no parameter in the handler")
                if field == self._context_name:
                    raise self._error(
                        f"argument `{field}` has the name of the context parameter; write `def f({field}, /, ...)`"
                    )
                continue
            if validator.is_optional and parameters[name].default is inspect.Parameter.empty:
                raise self._error(f"argument `{field}` is optional, so parameter `{name}` needs a default value")
            if name != field:
                renamed[field] = name
        twice = min(fields.keys() & consumed.keys(), default=None)
        if twice is not None:
            raise self._error(f"argument `{twice}` is declared by extend(args=) already; leave it out of args=")
        if consumed:
            self.args = args = args.extend(consumed)
        taken = {renamed.get(field, field) for field in fields} | self._wanted(parameters).keys()
        for name, parameter in parameters.items():
            if name not in taken and parameter.default is parameter.empty:
                raise self._error(f"parameter `{name}` has no argument in `args=` and no default value")
        self.bind = _closed_binding(args.view if args.has_view else None, renamed, {})

    def _wanted(self, parameters: Mapping[str, inspect.Parameter]) -> dict[str, str]:
        """Return the parameters that get an argument which an extension takes, with the name of that."""
        wanted: dict[str, str] = {}
        for field, validator in self._function.consumed.items():
            name = parameter_of(field, parameters)
            if name is not None:
                if validator.is_optional and parameters[name].default is inspect.Parameter.empty:
                    raise self._error(f"argument `{field}` is optional, so parameter `{name}` needs a default value")
                wanted[name] = field
        return wanted

    def _declared_args(self) -> Validator:
        args = self._declared("args", self._function.args)
        try:
            check_args_validator(args)
        except SchemaInvalid as error:
            raise self._error(str(error)) from error
        return args

    def _declared(self, option: str, declared: object) -> Validator:
        """Return the validator given as an option of the decorator; a dict stands for an object."""
        try:
            validator = v.object(declared) if isinstance(declared, Mapping) else declared
        except SchemaInvalid as error:
            raise self._error(f"Error in {option} validator: {error}") from error
        if not isinstance(validator, Validator):
            raise self._error(f"{option}= takes a validator or a dict of validators, not {declared!r}")
        return validator

    def _parameter_for(
        self, field: str, parameters: Mapping[str, inspect.Parameter], fields: Mapping[str, Validator]
    ) -> str | None:
        snake = snake_case(field)
        has_snake = snake != field and snake in parameters and snake not in fields
        if field in parameters:
            if has_snake:
                raise self._error(f"argument `{field}` could go to parameter `{field}` or `{snake}`: keep one of them")
            return field
        if has_snake:
            rivals = [other for other in fields if other != field and snake_case(other) == snake]
            if rivals:
                raise self._error(f"arguments `{field}` and `{rivals[0]}` would both go to parameter `{snake}`")
            return snake
        return None

    # Arguments declared by annotations.

    def _bind_annotated(self, parameters: Mapping[str, inspect.Parameter], open_ended: bool) -> None:
        consumed, wanted = self._function.consumed, self._wanted(parameters)
        parameters = {name: parameter for name, parameter in parameters.items() if name not in wanted}
        specs = {name: self._annotation(name, parameter.annotation) for name, parameter in parameters.items()}
        if open_ended:
            if consumed:
                raise self._error("beside the arguments of extend(args=), give args= in place of **kwargs")
            for name, spec in specs.items():
                if spec.validator.kind != "any":
                    raise self._error(
                        f"parameter `{name}` is annotated, but beside **kwargs its type can't be declared: give args="
                    )
            self.bind = self._open_binding(parameters, True)
            return
        fields: dict[str, Validator] = {}
        converters: dict[str, Convert] = {}
        for name, parameter in parameters.items():
            spec = specs[name]
            fields[name] = spec.validator if parameter.default is parameter.empty else v.optional(spec.validator)
            if spec.convert is not None:
                converters[name] = spec.convert
        for field, validator in consumed.items():
            if validator.has_view:
                converters[field] = validator.view
        self.args = v.object({**fields, **consumed})
        try:
            check_args_validator(self.args)
        except SchemaInvalid as error:
            raise self._error(str(error)) from error
        # A converter starts from the value as it arrived and does the view's work too.
        self.bind = _closed_binding(None, {}, converters)

    def _annotation(self, name: str, annotation: Any) -> AnnotationSpec:
        """Return what an annotation declares; `name` is the parameter, or `return`."""
        if annotation is inspect.Parameter.empty:
            annotation = Any
        handler = inspect.unwrap(self._function.handler)
        local = _closed_over(handler)
        try:
            # Each annotation by itself: that of the context parameter may exist for type checkers only.
            holder = types.SimpleNamespace(__annotations__={name: annotation})
            hints = typing.get_type_hints(holder, getattr(handler, "__globals__", {}), local, include_extras=True)
        except Exception as error:
            place = "the return annotation" if name == "return" else f"the annotation of parameter `{name}`"
            raise self._error(f"{place}, {annotation!r}, can't be evaluated: {error}") from error
        try:
            return validator_from_annotation(hints[name])
        except (UnsupportedAnnotation, SchemaInvalid) as error:
            place = "the return annotation" if name == "return" else f"parameter `{name}`"
            raise self._error(f"{place}: {error}") from error

    # Where `args` is `any`, names meet parameters at each call.

    def _open_binding(self, parameters: Mapping[str, inspect.Parameter], open_ended: bool) -> Bind:
        required = frozenset(name for name, p in parameters.items() if p.default is p.empty)
        by_name = frozenset(parameters)
        context, path = self._context_name, self._path

        def bind(args: dict[str, Any]) -> dict[str, Any]:
            bound: dict[str, Any] = {}
            for field, value in args.items():
                name = field
                if name not in by_name:
                    snake = snake_case(field)
                    if snake in by_name and snake not in args:
                        name = snake
                    elif not open_ended:
                        raise ArgumentsInvalid(f"{path} takes no argument `{field}`.")
                if name == context:
                    raise ArgumentsInvalid(f"Argument `{name}` of {path} has the name of its context parameter.")
                bound[name] = value
            missing = required - bound.keys()
            if missing:
                raise ArgumentsInvalid(f"{path} needs the argument `{min(missing)}`.")
            return bound

        return bind

    # Results.

    def _set_returns(self) -> None:
        function = self._function
        if function.returns is not None:
            self.returns = self._declared("returns", function.returns)
            try:
                check_returns_validator(self.returns)
            except SchemaInvalid as error:
                raise self._error(str(error)) from error
            if self.returns.has_view:
                self.receive = self.returns.view
            return
        annotation = self._signature.return_annotation
        if function.args is None and annotation is not inspect.Signature.empty:
            spec = self._annotation("return", annotation)
            self.returns = spec.validator
            if spec.unconvert is not None:
                self.result = spec.unconvert
            if spec.convert is not None:
                self.receive = spec.convert


def _as_is(value: Any) -> Any:
    return value


def _closed_over(handler: Callable[..., Any]) -> dict[str, Any]:
    """Return what a handler made inside another function sees there, for annotations that are text."""
    closure = getattr(handler, "__closure__", None)
    if closure is None:
        return {}
    cells = zip(handler.__code__.co_freevars, closure, strict=True)
    return {name: cell.cell_contents for name, cell in cells if cell != types.CellType()}


def _closed_binding(view: Convert | None, renamed: Mapping[str, str], converters: Mapping[str, Convert]) -> Bind:
    """Return the binding of arguments whose names are all declared. They are decoded per call, so may be reused."""
    if view is None and not renamed and not converters:
        return _as_is
    pairs = tuple(converters.items())

    def bind(args: dict[str, Value]) -> dict[str, Any]:
        bound = args if view is None else view(args)
        if renamed:
            bound = {renamed.get(name, name): value for name, value in bound.items()}
        for name, convert in pairs:
            if name in bound:
                bound[name] = convert(bound[name])
        return bound

    return bind
