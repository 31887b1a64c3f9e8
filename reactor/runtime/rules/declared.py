"""Row rules as a project declares them: who may read and write which documents of a table.

Owns `define_rules`, the shape of its argument, and the check against the schema. Promises that a mistake in them is a
`PushError` at the user's file and line. What the rules do is in `runtime/rules/ruled`. Used by projects and the loader
(`docs/design/19-row-rules.md`).
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from reactor.errors import PushError
from reactor.schema.definition import Schema
from reactor.values.names import suggestion

PARAMETERS: Final = MappingProxyType(
    {"read": ("ctx", "doc"), "insert": ("ctx", "doc"), "update": ("ctx", "old", "new"), "delete": ("ctx", "doc")}
)

Place = tuple[str, int]  # file and line
Verdict = Callable[..., Any]  # a rule of the application: true or false, or a coroutine of that


class Rule:
    """One function of the application, and what is known about it."""

    __slots__ = ("function", "is_async", "is_conjunction", "reported")

    def __init__(self, function: Verdict) -> None:
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)  # or found to be, when it is first called
        self.is_conjunction = False  # it can be asked about all documents at a time; the loader finds out
        self.reported: set[str] = set()  # failures that the operator was told about

    def place(self, otherwise: Place) -> Place:
        """Return where the function stands in the source."""
        code = getattr(self.function, "__code__", None)
        return otherwise if code is None else (code.co_filename, code.co_firstlineno)


class TableRules:
    """The rules of one table. What has no rule is denied."""

    __slots__ = ("delete", "insert", "name", "read", "update")

    def __init__(self, name: str, rules: Mapping[str, Rule]) -> None:
        self.name = name
        self.read = rules.get("read")
        self.insert = rules.get("insert")
        self.update = rules.get("update")
        self.delete = rules.get("delete")

    def all(self) -> list[Rule]:
        """Return the rules there are."""
        return [rule for rule in (self.read, self.insert, self.update, self.delete) if rule is not None]


class Rules:
    """The row rules of one version of a project. Made by `define_rules`."""

    def __init__(self, tables: Mapping[str, TableRules], user: Rule | None, place: Place) -> None:
        self.tables = dict(tables)
        self.user = user
        self.digest = ""  # of everything they depend on; the loader knows
        self._place = place

    def check(self, schema: Schema) -> None:
        """Check that every table named is one of `schema`.

        Raises:
            PushError: one is not.
        """
        for name, rules in self.tables.items():
            if name in schema.tables:
                continue
            own = rules.all()
            file, line = own[0].place(self._place) if own else self._place
            if name.startswith("_"):
                text = f"rules are for tables of the schema, not for the system table {name!r}"
            else:
                hint = suggestion(name, schema.tables)
                text = f"there are rules for a table {name!r} that the schema does not have. {hint}"
            raise PushError(text, file=file, line=line)


def define_rules(tables: Mapping[str, Mapping[str, Verdict]], *, user: Verdict | None = None) -> Rules:
    """Define who may read and write which documents. Export the result as `rules`, beside the schema.

    A table that is named here denies what it has no rule for; other tables are open. Rules are functions, plain or
    async, that return whether they allow: `read(ctx, doc)`, `insert(ctx, doc)`, `update(ctx, old, new)` and
    `delete(ctx, doc)`. Their `ctx` reads past the rules, and `ctx.user` is what `user(ctx)` has returned: the caller's
    claims unless it is given.

    Raises:
        PushError: an operation is unknown, or something is no function of these parameters.
    """
    frame = sys._getframe(1)
    place = (frame.f_code.co_filename, frame.f_lineno)
    if not isinstance(tables, Mapping):
        raise PushError(
            "define_rules takes a dict of tables: {'messages': {'read': ...}}", file=place[0], line=place[1]
        )
    defined = {}
    for name, functions in tables.items():
        if not isinstance(functions, Mapping):
            raise PushError(
                f"the rules of table {name!r} are a dict such as {{'read': lambda ctx, doc: ...}}, "
                f"not {type(functions).__name__}",
                file=place[0],
                line=place[1],
            )
        defined[name] = TableRules(
            name, {operation: _rule(name, operation, function, place) for operation, function in functions.items()}
        )
    loader = None if user is None else _checked(user, "user=", ("ctx",), place)
    return Rules(defined, loader, place)


def _rule(table: str, operation: str, function: Verdict, place: Place) -> Rule:
    parameters = PARAMETERS.get(operation)
    if parameters is None:
        file, line = Rule(function).place(place)
        hint = suggestion(operation, PARAMETERS, "The operations are")
        raise PushError(f"the rules of table {table!r} have no operation {operation!r}. {hint}", file=file, line=line)
    return _checked(function, f"the {operation} rule of table {table!r}", parameters, place)


def _checked(function: Verdict, what: str, parameters: tuple[str, ...], place: Place) -> Rule:
    if not callable(function):
        raise PushError(
            f"{what} is a function of ({', '.join(parameters)}), not {type(function).__name__}",
            file=place[0],
            line=place[1],
        )
    rule = Rule(function)
    signature = inspect.signature(function)
    try:
        signature.bind(*parameters)
    except TypeError:
        file, line = rule.place(place)
        raise PushError(
            f"{what} is called with ({', '.join(parameters)}), but it takes {signature}", file=file, line=line
        ) from None
    return rule
