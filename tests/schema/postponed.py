"""Classes and functions whose annotations are strings, as this import makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NotRequired, Required, TypedDict

import msgspec

from reactor.schema.validators import v
from reactor.values.types import Int64

if TYPE_CHECKING:
    from reactor.runtime.context import QueryCtx


class Options(TypedDict):
    name: str
    limit: NotRequired[int]


class Partial(TypedDict, total=False):
    name: Required[str]
    limit: int


@dataclass
class Point:
    x: int
    y: float = 0.0


class Line(msgspec.Struct):
    start: Point
    end: Point | None = None
    length: Int64 | None = None


def handler(ctx: QueryCtx, line: Line, channel: Annotated[str, v.id("channels")], names: list[str] | None) -> Options:
    raise AssertionError("only its annotations are read")


def lost(ctx: QueryCtx, thing: DoesNotExist) -> None:  # type: ignore[name-defined]  # noqa: F821
    raise AssertionError("only its annotations are read")
