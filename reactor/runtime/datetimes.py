"""`datetime.now()` in user modules: frozen and in UTC inside queries and mutations, untouched elsewhere.

The methods of the C type `datetime` can't be replaced, and a look-alike class would break `type(x) is datetime`,
msgspec, pydantic and singledispatch. So user modules keep the real classes; when a module is compiled, each attribute
access named `now`, `today` or `utcnow` asks `clock_source` first who answers. Promises that line numbers, identity and
`isinstance` are as written. Used by `sources`, for user modules only: a library that calls `datetime.now()` sees the
real clock.
"""

import ast
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final

from reactor.runtime.determinism import frozen_ambient

HELPER: Final = "__reactor_clock__"  # the name under which user modules' builtins hold `clock_source`

_NAMES: Final = frozenset({"now", "today", "utcnow"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ClassClock:
    """Stands in for `datetime`, `date` or a subclass where their clock methods are looked up."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def now(self, tz: tzinfo | None = None) -> Any:
        """`datetime.now`."""
        moment = self._frozen()
        if moment is None:
            return self._inherited("now")(tz)
        return self._as_owner(moment.replace(tzinfo=None) if tz is None else moment.astimezone(tz))

    def utcnow(self) -> Any:
        """`datetime.utcnow`."""
        moment = self._frozen()
        return self._inherited("utcnow")() if moment is None else self._as_owner(moment.replace(tzinfo=None))

    def today(self) -> Any:
        """`datetime.today` and `date.today`."""
        moment = self._frozen()
        if moment is None:
            return self._inherited("today")()
        if issubclass(self._owner, datetime):
            return self._as_owner(moment.replace(tzinfo=None))
        return self._owner(moment.year, moment.month, moment.day)

    @staticmethod
    def _frozen() -> datetime | None:
        found = frozen_ambient()
        return None if found is None else _EPOCH + timedelta(microseconds=found.read_clock() // 1000)

    def _inherited(self, name: str) -> Any:
        # The builtin's own method, bound to the subclass: `super().now()` in an override must not come back here.
        base = datetime if issubclass(self._owner, datetime) else date
        return next(k.__dict__[name] for k in base.__mro__ if name in k.__dict__).__get__(None, self._owner)

    def _as_owner(self, moment: datetime) -> Any:
        if self._owner is datetime:
            return moment
        time_of_day = (moment.hour, moment.minute, moment.second, moment.microsecond)
        return self._owner(moment.year, moment.month, moment.day, *time_of_day, tzinfo=moment.tzinfo, fold=moment.fold)


_DATETIME: Final = ClassClock(datetime)
_DATE: Final = ClassClock(date)


def clock_source(owner: Any, name: str) -> Any:
    """Return where to look up attribute `name` of `owner`: a `ClassClock` for clock methods of dates, else `owner`."""
    if owner is datetime:
        return _DATETIME
    if isinstance(owner, type):
        if owner is date:
            return _DATE if name == "today" else owner
        return ClassClock(owner) if issubclass(owner, date) and _is_inherited(owner.__mro__, name) else owner
    if type(owner) is super:
        bound: Any = owner
        cls = bound.__self__
        if isinstance(cls, type) and issubclass(cls, date):
            following = cls.__mro__[cls.__mro__.index(bound.__thisclass__) + 1 :]
            return ClassClock(cls) if _is_inherited(following, name) else owner
    return owner


def _is_inherited(classes: tuple[type, ...], name: str) -> bool:
    return next((k in (datetime, date) for k in classes if name in k.__dict__), False)


class _Rewrite(ast.NodeTransformer):
    """Turns `x.now` into `__reactor_clock__(x, "now").now`, wherever it is evaluated at run time."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr in _NAMES and isinstance(node.ctx, ast.Load):
            helper = ast.copy_location(ast.Name(HELPER, ast.Load()), node.value)
            name = ast.copy_location(ast.Constant(node.attr), node.value)
            node.value = ast.copy_location(ast.Call(helper, [node.value, name], []), node.value)
        return node

    # Annotations may be kept as text or read by frameworks, and patterns allow plain names only.

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        returns, node.returns = node.returns, None
        self.generic_visit(node)
        node.returns = returns
        return node

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        node.kwd_patterns = [self.visit(pattern) for pattern in node.kwd_patterns]
        return node


def route_clock_calls(tree: ast.Module, source: bytes) -> ast.Module:
    """Rewrite `tree` in place so that its dates ask the ambient clock. A module that names none of it is left alone."""
    if not any(name.encode() in source for name in _NAMES):
        return tree
    rewritten: ast.Module = _Rewrite().visit(tree)
    return rewritten
