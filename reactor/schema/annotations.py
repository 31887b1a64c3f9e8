"""Validators from Python annotations, and values in the types that the annotations promise.

Owns the list of supported annotations. Promises that an annotation means one shape, and that what it is delivered as
is what a type checker thinks it is: an `int` for `int`, an instance for a dataclass. Used by the binding of function
arguments and results.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from reactor.errors import ValidationError
from reactor.schema.validator import Validator
from reactor.schema.validators import v
from reactor.values.types import Int64, Value

SUPPORTED: Final = (
    "str, bool, bytes, None, float, int, Int64, Any, list[T], dict[str, T], Literal[...], unions such as T | None, "
    "TypedDict, dataclass, msgspec.Struct, and Annotated[T, v.…]"
)

Convert: TypeAlias = Callable[[Any], Any]


class AnnotationSpec(NamedTuple):
    """What an annotation means.

    `convert` turns a value as it arrives (not viewed) into what the annotation promises, `unconvert` does the reverse
    for a result; each is None where nothing has to be done.
    """

    validator: Validator
    convert: Convert | None = None
    unconvert: Convert | None = None


class UnsupportedAnnotation(ValueError):
    """The annotation has no validator. The message names it and lists those that have one."""

    def __init__(self, annotation: object, reason: str = "is not supported") -> None:
        self.annotation, self.reason = annotation, reason
        super().__init__(f"{_name(annotation)} {reason}. Supported annotations: {SUPPORTED}.")


def validator_from_annotation(annotation: object, names: Mapping[str, Any] | None = None) -> AnnotationSpec:
    """Return the meaning of an annotation; of a missing one (`Parameter.empty`) any value.

    Args:
        annotation: as found in a signature. A string is resolved first.
        names: where strings find their names: the globals of the function.

    Raises:
        UnsupportedAnnotation: it, or a part of it, has no validator, or names something that does not exist.
    """
    if isinstance(annotation, str):
        annotation = resolve(annotation, names or {})
    return _Reader(names or {}).read(annotation)


def resolve(annotation: str, names: Mapping[str, Any]) -> object:
    """Return what a string annotation stands for.

    Raises:
        UnsupportedAnnotation: a name in it does not exist.
    """
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, dict(names), include_extras=True)["it"]
    except Exception as error:
        raise UnsupportedAnnotation(annotation, f"can't be resolved: {error}") from error


def unconvert(value: object) -> object:
    """Return a result with each dataclass and `msgspec.Struct` in it as a dict."""
    if isinstance(value, msgspec.Struct):
        fields = {field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)}
        fields = {name: item for name, item in fields.items() if item is not msgspec.UNSET}
        return unconvert({**_tag(type(value)), **fields})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return unconvert({field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init})
    if isinstance(value, dict):
        return {name: unconvert(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [unconvert(item) for item in value]
    return value


_PLAIN: Final[dict[object, Callable[[], Validator]]] = {
    str: v.string,
    bool: v.boolean,
    bytes: v.bytes,
    None: v.null,
    type(None): v.null,
    float: v.float64,
    Int64: v.int64,
    Any: v.any,
    dict: v.any,
    list: v.any,
    typing.Dict: v.any,  # noqa: UP006
    typing.List: v.any,  # noqa: UP006
    Parameter.empty: v.any,
}


class _Reader:
    """Reads one annotation. `_open` holds the classes it is inside of, to find those that contain themselves."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._open: list[object] = []

    def read(self, annotation: Any) -> AnnotationSpec:
        if _is_hashable(annotation) and annotation in _PLAIN:
            return AnnotationSpec(_PLAIN[annotation]())
        if annotation is int:
            return _viewed(v.integer())
        if isinstance(annotation, typing.ForwardRef):
            annotation = annotation.__forward_arg__
        if isinstance(annotation, str):
            return self.read(resolve(annotation, self._names))
        if isinstance(annotation, typing.NewType):
            return self.read(annotation.__supertype__)
        if hasattr(annotation, "__value__"):  # `type X = …` of Python 3.12
            return self.read(annotation.__value__)
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated:
            return self._annotated(arguments)
        if origin is typing.Literal:
            return self._literal(annotation, arguments)
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments)
        if origin is list and len(arguments) == 1:
            return self._list(arguments[0])
        if origin is dict and len(arguments) == 2:
            return self._dict(annotation, *arguments)
        if isinstance(annotation, type) and origin is None:
            return self._class(annotation)
        raise UnsupportedAnnotation(annotation)

    def _annotated(self, arguments: tuple[Any, ...]) -> AnnotationSpec:
        for extra in arguments[1:]:
            if isinstance(extra, Validator):
                return _viewed(extra)
        return self.read(arguments[0])

    def _literal(self, annotation: object, values: tuple[Any, ...]) -> AnnotationSpec:
        specs = []
        for value in values:
            if value is not None and type(value) not in (str, bool, int):
                raise UnsupportedAnnotation(annotation)
            try:
                validator = v.null() if value is None else v.literal(value)
            except ValidationError as error:
                raise UnsupportedAnnotation(annotation, f"is not supported: {error}") from error
            specs.append(AnnotationSpec(validator, int if type(value) is int else None))
        return specs[0] if len(specs) == 1 else _union_of(specs)

    def _union(self, arguments: tuple[Any, ...]) -> AnnotationSpec:
        # The type of a missing field of a `msgspec.Struct`: its default makes the field optional.
        members = [argument for argument in arguments if argument is not msgspec.UnsetType]
        return _union_of([self.read(member) for member in members])

    def _list(self, argument: Any) -> AnnotationSpec:
        spec = self.read(argument)
        convert, undo = spec.convert, unconvert if spec.unconvert else None
        if convert is None:
            return AnnotationSpec(v.array(spec.validator), None, undo)
        return AnnotationSpec(v.array(spec.validator), lambda value: [convert(item) for item in value], undo)

    def _dict(self, annotation: object, key: Any, argument: Any) -> AnnotationSpec:
        keys, spec = self.read(key), self.read(argument)
        if keys.validator.kind not in ("string", "id"):
            raise UnsupportedAnnotation(annotation, "is not supported: the keys of a dict must be str")
        convert, undo = spec.convert, unconvert if spec.unconvert else None
        record = v.record(keys.validator, spec.validator)
        if convert is None:
            return AnnotationSpec(record, None, undo)
        return AnnotationSpec(record, lambda value: {name: convert(item) for name, item in value.items()}, undo)

    def _class(self, cls: type) -> AnnotationSpec:
        if cls in self._open:
            raise UnsupportedAnnotation(cls, "contains itself, which no validator can express")
        self._open.append(cls)
        try:
            if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
                return self._fields(cls, dict, _typed_dict_fields(cls), is_instance=False)
            if issubclass(cls, msgspec.Struct):
                return self._fields(cls, cls, _struct_fields(cls), is_instance=True)
            if dataclasses.is_dataclass(cls):
                return self._fields(cls, cls, _dataclass_fields(cls), is_instance=True)
        finally:
            self._open.pop()
        raise UnsupportedAnnotation(cls)

    def _fields(
        self, cls: type, build: Callable[..., Any], fields: "Iterator[_Field]", *, is_instance: bool
    ) -> AnnotationSpec:
        """Return the object with `fields`, delivered as `build(**{attribute: value})`."""
        tag = _tag(cls)
        shape: dict[str, Validator] = {name: v.literal(value) for name, value in tag.items()}
        conversions: dict[str, tuple[str, Convert | None]] = {}
        undo: Convert | None = unconvert if is_instance else None
        for field in fields:
            try:
                spec = self.read(field.annotation)
            except UnsupportedAnnotation as error:
                where = f"(field {field.attribute!r} of {cls.__name__})"
                raise UnsupportedAnnotation(error.annotation, f"{where} {error.reason}") from error
            shape[field.name] = spec.validator.optional() if field.is_optional else spec.validator
            conversions[field.name] = field.attribute, spec.convert
            undo = undo or spec.unconvert
        if not is_instance and not any(convert for _, convert in conversions.values()):
            return AnnotationSpec(v.object(shape), None, undo)

        def convert_fields(value: dict[str, Value]) -> object:
            parts: dict[str, object] = {}
            for name, item in value.items():
                if name not in tag:
                    attribute, convert = conversions[name]
                    parts[attribute] = item if convert is None else convert(item)
            return build(**parts)

        return AnnotationSpec(v.object(shape), convert_fields, undo)


class _Field(NamedTuple):
    name: str  # in the object
    attribute: str  # in Python
    annotation: Any
    is_optional: bool


def _typed_dict_fields(cls: Any) -> Iterator[_Field]:
    for name, hint in _hints(cls).items():
        is_optional = name not in cls.__required_keys__
        # Under `from __future__ import annotations` the class itself can't see these two; the resolved hint tells.
        while typing.get_origin(hint) in (typing.NotRequired, typing.Required):
            is_optional = typing.get_origin(hint) is typing.NotRequired
            (hint,) = typing.get_args(hint)
        yield _Field(name, name, hint, is_optional)


def _dataclass_fields(cls: Any) -> Iterator[_Field]:
    hints = _hints(cls)
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar):
            raise UnsupportedAnnotation(cls, f"is not supported: {name!r} is an InitVar, of which no value is kept")
    for field in dataclasses.fields(cls):
        if field.init:
            has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            yield _Field(field.name, field.name, hints[field.name], has_default)


def _struct_fields(cls: type[msgspec.Struct]) -> Iterator[_Field]:
    hints = _hints(cls)
    for field in msgspec.structs.fields(cls):
        yield _Field(field.encode_name, field.name, hints[field.name], not field.required)


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise UnsupportedAnnotation(cls, f"can't be resolved: {error}") from error


def _tag(cls: type) -> dict[str, Any]:
    """Return the field that tells a tagged `msgspec.Struct` from others, if it has one."""
    config = getattr(cls, "__struct_config__", None)
    return {config.tag_field: config.tag} if config is not None and config.tag is not None else {}


def _viewed(validator: Validator) -> AnnotationSpec:
    return AnnotationSpec(validator, validator.view if validator.has_view else None)


def _union_of(specs: list[AnnotationSpec]) -> AnnotationSpec:
    union = v.union(*(spec.validator for spec in specs))
    undo = unconvert if any(spec.unconvert for spec in specs) else None
    if not any(spec.convert for spec in specs):
        return AnnotationSpec(union, None, undo)

    def convert_member(value: Value) -> object:
        for spec in specs:
            if spec.validator.accepts(value, None):
                return value if spec.convert is None else spec.convert(value)
        return value  # fits nothing, as with a view

    return AnnotationSpec(union, convert_member, undo)


def _is_hashable(annotation: object) -> bool:
    try:
        hash(annotation)
    except TypeError:
        return False
    return True


def _name(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
