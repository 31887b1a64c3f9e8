"""Read rules that are conjunctions of equalities: asked once about all documents instead of about each.

Owns which rules can be asked so, how they are asked, and what part of which index is left by the answer. A rule such as
`lambda ctx, doc: ctx.user is not None and doc["owner"] == ctx.user["_id"]` is called with a symbol for the document,
which notes what its fields are compared to. That is right only for code that does nothing else with the document, so
the loader looks at the source first: a test such as `doc["owner"] is None` could not be noticed by a symbol. Promises
that the answer means exactly what the rule says of each document, and that a range read instead of another one has the
same order. Used by the loader and by `runtime/rules/ruled` (`docs/design/19-row-rules.md`).
"""

import ast
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from reactor.engine.query import Bound
from reactor.errors import ValidationError
from reactor.values.keys import encode_value_key
from reactor.values.stored import normalise
from reactor.values.types import Value

Path = tuple[str, ...]


# What the source says.


def is_conjunction(function: Callable[..., Any], tree: ast.Module) -> bool:
    """Whether a function `(ctx, doc)`, defined in the module of `tree`, uses `doc` for equalities that must all hold.

    Tests that have nothing to do with `doc` may stand before them. False when in doubt.
    """
    code = getattr(function, "__code__", None)
    if type(function) is not types.FunctionType or code is None or hasattr(function, "__wrapped__"):
        return False
    node = _definition(code, tree)
    if node is None:
        return False
    parameters = node.args
    if len(parameters.posonlyargs) + len(parameters.args) != 2:
        return False
    if parameters.vararg or parameters.kwonlyargs or parameters.kwarg:
        return False
    doc = (*parameters.posonlyargs, *parameters.args)[1].arg
    if isinstance(node, ast.Lambda):
        return _is_condition(node.body, doc)
    return all(_is_step(step, doc) for step in node.body)


def _definition(code: types.CodeType, tree: ast.Module) -> ast.Lambda | ast.FunctionDef | None:
    """Return what `code` was compiled from, if that can be told."""
    found: list[ast.Lambda | ast.FunctionDef] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            name = "<lambda>"
        elif isinstance(node, ast.FunctionDef) and not node.decorator_list:
            name = node.name
        else:
            continue
        if name == code.co_name and node.lineno == code.co_firstlineno:
            found.append(node)
    if len(found) > 1:  # lambdas on one line
        positions = set(code.co_positions())
        found = [node for node in found if isinstance(node, ast.Lambda) and _position(node.body) in positions]
    return found[0] if len(found) == 1 else None


def _position(node: ast.expr) -> tuple[int, int | None, int, int | None]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _is_step(step: ast.stmt, doc: str) -> bool:
    if _is_free(step, doc):
        return True
    if isinstance(step, ast.Return):
        return step.value is not None and _is_condition(step.value, doc)
    if isinstance(step, ast.If):
        return _is_free(step.test, doc) and all(_is_step(inner, doc) for inner in (*step.body, *step.orelse))
    return False


def _is_condition(node: ast.expr, doc: str) -> bool:
    if _is_free(node, doc):
        return True
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq) and _is_equality(node, doc)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitAnd) and all(_is_condition(side, doc) for side in (node.left, node.right))
    if isinstance(node, ast.IfExp):
        return _is_free(node.test, doc) and _is_condition(node.body, doc) and _is_condition(node.orelse, doc)
    if isinstance(node, ast.BoolOp):
        if isinstance(node.op, ast.And):
            return all(_is_condition(value, doc) for value in node.values)
        return all(_is_free(value, doc) for value in node.values[:-1]) and _is_condition(node.values[-1], doc)
    return False


def _is_equality(node: ast.Compare, doc: str) -> bool:
    left, (right,) = node.left, node.comparators
    return (_is_field(left, doc) and _is_free(right, doc)) or (_is_free(left, doc) and _is_field(right, doc))


def _is_field(node: ast.expr, doc: str) -> bool:
    if isinstance(node, ast.Subscript):
        return _is_name(node.slice) and _is_document_or_field(node.value, doc)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and not node.keywords
        and len(node.args) == 1
        and _is_name(node.args[0])
        and _is_document_or_field(node.func.value, doc)
    )


def _is_document_or_field(node: ast.expr, doc: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == doc) or _is_field(node, doc)


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_free(node: ast.AST, doc: str) -> bool:
    """Whether a part of the function has nothing to do with the document."""
    return not any(
        (isinstance(part, ast.Name) and part.id == doc) or (isinstance(part, ast.arg) and part.arg == doc)
        for part in ast.walk(node)
    )


# What the rule says.


class Conjunction(NamedTuple):
    """What a rule demands of a document."""

    equalities: Mapping[str, Value]  # by field path; none of the values is a number or a boolean
    rest: bool = False  # it demands something beside these


class Trial:
    """One call of a rule with a symbol for the document, and what came of it."""

    __slots__ = ("_open", "equalities", "is_contradiction", "rest")

    def __init__(self) -> None:
        self.equalities: dict[str, Value] = {}  # by field path; no numbers, no booleans
        self.rest = False  # it demands something beside these
        self.is_contradiction = False  # it demands two values of one field
        self._open = 0  # fields that were looked at and not compared yet

    @property
    def document(self) -> "Symbol":
        """What to call the rule with."""
        return Symbol(self, (), False)

    @property
    def is_whole(self) -> bool:
        """Whether everything that the rule did with the document was noticed."""
        return not self._open

    def look(self, path: Path) -> None:
        """Note that a field was looked at; what it was found in is only on the way there."""
        if len(path) == 1:
            self._open += 1

    def compare(self, path: Path, may_be_missing: bool, value: object) -> None:
        """Note that a field must equal `value`."""
        self._open -= 1
        # Python takes True, 1.0 and Int64(1) for equal, and a missing field that is read by `get` for None; an index
        # does not.
        if type(value) not in (str, bytes) and (value is not None or may_be_missing):
            self.rest = True
            return
        try:
            normal = normalise(value).value
        except ValidationError:  # which no document holds
            self.is_contradiction = True
            return
        name = ".".join(path)
        if self.equalities.setdefault(name, normal) != normal:
            self.is_contradiction = True


class Symbol:
    """Stands for a document, or a field of one, that nobody has chosen yet."""

    __slots__ = ("_may_be_missing", "_path", "_trial")

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, trial: Trial, path: Path, may_be_missing: bool) -> None:
        self._trial = trial
        self._path = path
        self._may_be_missing = may_be_missing

    def __getitem__(self, name: str) -> "Symbol":
        return self._field(name, self._may_be_missing)

    def get(self, name: str) -> "Symbol":
        """Return the symbol of a field that reads as None where there is none."""
        return self._field(name, True)

    def _field(self, name: str, may_be_missing: bool) -> "Symbol":
        path = (*self._path, name)
        self._trial.look(path)
        return Symbol(self._trial, path, may_be_missing)

    def __eq__(self, other: object) -> bool:
        self._trial.compare(self._path, self._may_be_missing, other)
        return True

    def __bool__(self) -> bool:
        raise TypeError("a field of a document that is not chosen yet is neither true nor false")


# Which part of an index is left.


class Reading(NamedTuple):
    """What to read instead: the fields of an index, the bounds on them, and which equalities these guarantee."""

    fields: tuple[str, ...]
    bounds: list[Bound]
    guaranteed: frozenset[str]


def best_reading(
    fields: tuple[str, ...], bounds: Sequence[Bound], demanded: Mapping[str, Value], indexes: Iterable[tuple[str, ...]]
) -> Reading | None:
    """Return how to read fewest documents of those that `bounds` select in an index over `fields`, in the same order.

    Bounds fit the index. `demanded` are the equalities that a document must satisfy, `indexes` the fields of those to
    choose from. None: no document can satisfy both.
    """
    given = {bound.field: bound.value for bound in bounds if bound.operator == "eq"}
    others = [bound for bound in bounds if bound.operator != "eq"]
    for name, value in demanded.items():
        if name in given and encode_value_key(given[name]) != encode_value_key(value):
            return None
    best = Reading(fields, list(bounds), frozenset(given.keys() & demanded.keys()))
    if not bounds and "_id" in demanded:
        return Reading((), [Bound("eq", "_id", demanded["_id"])], frozenset(("_id",)))
    fixed = {**demanded, **given}
    ranged = others[0].field if others else None
    if "_id" in given or ranged == "_id" or ranged in fixed:
        return best
    order = [field for field in fields if field not in fixed]
    for candidate in indexes:
        count = 0
        while count < len(candidate) and candidate[count] in fixed:
            count += 1
        head, tail = candidate[:count], candidate[count:]
        if not given.keys() <= set(head) or [field for field in tail if field not in fixed] != order:
            continue
        if ranged is not None and tail[0] != ranged:
            continue
        guaranteed = frozenset(demanded.keys() & set(head))
        if len(guaranteed) > len(best.guaranteed):
            best = Reading(candidate, [*[Bound("eq", name, fixed[name]) for name in head], *others], guaranteed)
    return best
