"""Triggers as a project or a component declares them: which functions run after which table has changed.

Owns `define_triggers`, `Change`, and the check against the schema. Promises that a mistake in them is a `PushError` at
the user's file and line. What they do is in `runtime/triggers/firing`. Used by the loader
(`docs/design/22-triggers.md`).
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from reactor.errors import PushError
from reactor.schema.definition import Schema
from reactor.values.names import suggestion

Place = tuple[str, int]  # file and line
Reaction = Callable[[Any, "Change"], Any]  # a trigger of the application; may be a coroutine function


class Change(msgspec.Struct, frozen=True):
    """What one write did to one document. Each trigger gets copies of its own.

    `old` is None for an insert, `new` for a delete.
    """

    table: str
    id: str
    operation: Literal["insert", "update", "delete"]
    old: dict[str, Any] | None
    new: dict[str, Any] | None


class Trigger:
    """One function of the application."""

    __slots__ = ("function", "is_async", "label")

    def __init__(self, function: Reaction, table: str) -> None:
        self.function = function
        innermost = inspect.unwrap(function)
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(innermost)
        self.label = f"trigger of {table}"  # by which its log lines are known

    def place(self, otherwise: Place) -> Place:
        """Return where the function stands in the source."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return otherwise if code is None else (code.co_filename, code.co_firstlineno)


class Triggers:
    """The triggers of one version of a project or component, by table. Made by `define_triggers`."""

    def __init__(self, tables: Mapping[str, tuple[Trigger, ...]], place: Place) -> None:
        self.tables = dict(tables)
        self._place = place

    def check(self, schema: Schema) -> None:
        """Check that every table named is one of `schema`.

        Raises:
            PushError: one is not.
        """
        for name, triggers in self.tables.items():
            if name in schema.tables:
                continue
            file, line = triggers[0].place(self._place) if triggers else self._place
            if name.startswith("_"):
                text = f"triggers are for tables of the schema, not for the system table {name!r}"
            else:
                hint = suggestion(name, schema.tables)
                text = f"there are triggers for a table {name!r} that the schema does not have. {hint}"
            raise PushError(text, file=file, line=line)


def define_triggers(tables: Mapping[str, Reaction | Sequence[Reaction]]) -> Triggers:
    """Define what runs after each change of a document. Export the result as `triggers`, beside the schema.

    A trigger is a function, plain or async, of `(ctx, change)`, where `ctx` is that of a mutation: `{"users": count}`,
    or `{"users": [count, log]}` for several, which run in this order. It runs in the transaction of the write, whoever
    wrote, and its own writes trigger again.

    Raises:
        PushError: something is no function of these parameters.
    """
    frame = sys._getframe(1)
    place = (frame.f_code.co_filename, frame.f_lineno)
    if not isinstance(tables, Mapping):
        raise PushError("define_triggers takes a dict of tables: {'messages': on_change}", file=place[0], line=place[1])
    return Triggers({name: _triggers(name, given, place) for name, given in tables.items()}, place)


def _triggers(table: str, given: Reaction | Sequence[Reaction], place: Place) -> tuple[Trigger, ...]:
    functions = given if isinstance(given, list | tuple) else [given]
    return tuple(_checked(table, function, place) for function in functions)


def _checked(table: str, function: object, place: Place) -> Trigger:
    if not callable(function):
        raise PushError(
            f"a trigger of table {table!r} is a function of (ctx, change), not {type(function).__name__}",
            file=place[0],
            line=place[1],
        )
    trigger = Trigger(function, table)
    signature = inspect.signature(function)
    try:
        signature.bind("ctx", "change")
    except TypeError:
        file, line = trigger.place(place)
        raise PushError(
            f"a trigger of table {table!r} is called with (ctx, change), but it takes {signature}", file=file, line=line
        ) from None
    return trigger
