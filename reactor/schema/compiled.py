"""Python source for a validator's fast check.

Owns the text and the objects of one generated function `accepts(value, tables) -> bool`. Promises that nothing from a
schema becomes code: names and literals enter as string constants or as objects bound to generated names. Whether the
fast check agrees with the precise one is a law under test. Used by `validators`.

For a flat object of ten fields the generated check takes half the time of one closure per field.
`msgspec.convert` would be as fast, but it takes an `Int64` for a number, can't tell -0.0 from 0.0, and knows no ids.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

VALUE: Final = "value"  # the parameter names of every generated function
TABLES: Final = "tables"

Check: TypeAlias = Callable[[Any, Any], bool]


class Compilable(Protocol):
    """A validator as the generator sees it."""

    is_optional: bool

    def condition(self, source: "Source", name: str) -> str:
        """Return an expression that is true when the variable `name` holds an accepted value."""


class Source:
    """One generated module: helper functions, and the objects they refer to."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._objects: dict[str, Any] = {"absent": object()}
        self._helpers: dict[int, str] = {}  # by identity of the validator, which outlives this source

    def constant(self, value: object) -> str:
        """Return a name bound to `value`."""
        name = f"k{len(self._objects)}"
        self._objects[name] = value
        return name

    def helper(self, owner: Compilable, body: Callable[[], Iterable[str]]) -> str:
        """Return the name of the function that checks `owner`, generating it the first time.

        A validator used in many places of a tree is compiled once: the code stays as small as the schema's source.
        """
        name = self._helpers.get(id(owner))
        if name is None:
            name = self._helpers[id(owner)] = f"f{len(self._helpers)}"
            lines = list(body())  # before our own lines: it may generate helpers of its own
            self._lines += [f"def {name}({VALUE}, {TABLES}):", *(f" {line}" for line in lines)]
        return name

    def build(self, condition: str) -> Check:
        """Return the compiled function whose result is `condition`."""
        self._lines += [f"def accepts({VALUE}, {TABLES}):", f" return {condition}"]
        exec(compile("\n".join(self._lines), "<validator>", "exec"), self._objects)
        direct = condition.removesuffix(f"({VALUE}, {TABLES})")
        check: Check = self._objects[direct if direct in self._helpers.values() else "accepts"]
        return check


def compile_check(validator: Compilable) -> Check:
    """Return the fast check of `validator`."""
    source = Source()
    return source.build(validator.condition(source, VALUE))


def call(helper: str, name: str) -> str:
    """Return the expression that applies a helper to a variable."""
    return f"{helper}({name}, {TABLES})"


def array_body(source: Source, element: Compilable, element_type: type | None) -> Iterable[str]:
    """Check every item; by the set of their types (two thirds of the time) where only the type matters."""
    yield f"if not isinstance({VALUE}, list): return False"
    if element_type is not None:
        yield f"if not {{*map(type, {VALUE})}} <= {source.constant({element_type})}: return False"
    else:
        yield f"for item in {VALUE}:"
        yield f" if not {element.condition(source, 'item')}: return False"
    yield "return True"


def record_body(source: Source, keys: Compilable, values: Compilable) -> Iterable[str]:
    """Check every key and every value."""
    yield f"if not isinstance({VALUE}, dict): return False"
    yield f"for key, item in {VALUE}.items():"
    yield f" if not {keys.condition(source, 'key')}: return False"
    yield f" if not {values.condition(source, 'item')}: return False"
    yield "return True"


def object_body(source: Source, fields: Sequence[tuple[str, Compilable]]) -> Iterable[str]:
    """Check each declared field, then that there are no others by counting.

    Give fields that are likely to differ first: a union of objects then drops a wrong member at its first test.
    """
    yield f"if not isinstance({VALUE}, dict): return False"
    required = [(name, field) for name, field in fields if not field.is_optional]
    if required:
        yield "try:"
        for position, (name, _) in enumerate(required):
            yield f" x{position} = {VALUE}[{name!r}]"
        yield "except KeyError: return False"
    for position, (_, field) in enumerate(required):
        if (condition := field.condition(source, f"x{position}")) != "True":
            yield f"if not {condition}: return False"
    yield f"count = {len(required)}"
    for name, field in fields:
        if field.is_optional:
            yield f"x = {VALUE}.get({name!r}, absent)"
            yield "if x is not absent:"
            if (condition := field.condition(source, "x")) != "True":
                yield f" if not {condition}: return False"
            yield " count += 1"
    yield f"return len({VALUE}) == count"
