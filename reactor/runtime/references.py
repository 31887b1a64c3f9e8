"""How functions are named: paths as clients type them, and references as Python code writes them.

Owns the syntax of `module/path:function`, folding (`rateLimiting` finds `rate_limiting`), and `api`, `internal`,
`components`. Promises that a path from a client raises `ProtocolError` or parses, and nothing else.
Used by `registry` (lookup), `context` (server-side calls) and `server` (requests).
"""

import re
from typing import Any, Final, NamedTuple, final

from reactor.errors import InvalidArgument, NotSupported, ProtocolError
from reactor.limits import MAX_IDENTIFIER_LENGTH

_COMPONENT: Final = re.compile(r"[A-Za-z0-9_.]+")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INNER_UNDERSCORE: Final = re.compile(r"(?<=[^_])_+(?=[^_])")
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UPPER: Final = "".join(map(chr, range(ord("A"), ord("Z") + 1)))
_LOWER: Final = str.maketrans(_UPPER, _UPPER.lower())


class FunctionPath(NamedTuple):
    """A parsed path. `str()` gives the form that error texts show: `messages:send`, or `messages` for `default`."""

    module: str
    function: str

    @property
    def canonical(self) -> str:
        """The form that keys registries and caches: always with the function's name."""
        return f"{self.module}:{self.function}"

    @property
    def is_system(self) -> bool:
        """Whether the path needs an administrator: everything below `_system/`."""
        return self.module.startswith("_system/")

    @property
    def folded(self) -> tuple[str, str]:
        """What two paths have in common that name one function in different spellings."""
        return fold(self.module), fold(self.function)

    def __str__(self) -> str:
        return self.module if self.function == "default" else self.canonical


def fold(name: str) -> str:
    """Return `name` in ASCII lower case without inner underscores; of a module path, each component folds by itself."""
    if "/" in name:
        return "/".join(map(fold, name.split("/")))
    return _INNER_UNDERSCORE.sub("", name.translate(_LOWER))


def snake_case(name: str) -> str:
    """Return the Python spelling of a camelCase name: `userId` is `user_id`, `apiKeyID` is `api_key_id`."""
    return _WORD_START.sub("_", name).lower()


def identifier_problem(name: str) -> str | None:
    """Return why `name` can't be the name of a function, or None when it can."""
    if len(name) > MAX_IDENTIFIER_LENGTH:
        return f"the name is too long ({len(name)} > maximum {MAX_IDENTIFIER_LENGTH})"
    if not _IDENTIFIER.fullmatch(name):
        return "the name may only hold letters, digits and underscores, and must not start with a digit"
    return "the name must not be only underscores" if not name.strip("_") else None


def component_problem(name: str) -> str | None:
    """Return why `name` can't be one part of a module path, or None when it can."""
    if len(name) > MAX_IDENTIFIER_LENGTH:
        return f"a part of the module path is too long ({len(name)} > maximum {MAX_IDENTIFIER_LENGTH})"
    if not _COMPONENT.fullmatch(name):
        return "parts of a module path may only hold letters, digits, underscores and dots"
    if not any(map(str.isalnum, name)):
        return "each part of a module path needs a letter or a digit"
    return None


def parse_path(text: str) -> FunctionPath:
    """Parse what a client typed: `messages:send`, `messages.js:send`, or `messages` for `messages:default`.

    Raises:
        ProtocolError: `BadConvexFunctionIdentifier`; the message repeats the path and says what is wrong with it.
    """
    module, colon, function = text.rpartition(":")
    if not colon:
        module, function = text, "default"
    module = module.removesuffix(".js")
    problem = _module_problem(module) or identifier_problem(function)
    if problem is not None:
        shown = text if len(text) <= 200 else text[:200] + "…"
        raise ProtocolError(
            "BadConvexFunctionIdentifier", f"{shown} is not a valid path to a Convex function. Reason: {problem}."
        )
    return FunctionPath(module, function)


def author_path(path: str) -> str:
    """Return a path as the author of the function spells it: `messages:send` for `messages.js:send`."""
    return path.removesuffix(":default").replace(".js:", ":").removesuffix(".js")


def _module_problem(module: str) -> str | None:
    if not module:
        return "the module path is empty"
    if module.startswith("/"):
        return "module paths are relative"
    if module.startswith("_deps/"):
        return "the path is reserved"
    *folders, last = module.split("/")
    for part in (*folders, last):
        if ".." in part:
            return "module paths must not hold '..'"
        problem = component_problem(part)
        if problem is not None:
            return problem
    return f"the extension '.{last.rpartition('.')[2]}' is not supported" if "." in last else None


@final
class FunctionReference:
    """A function by name, resolved when it is called: `api.messages.send` is `messages:send`.

    Attributes go one level deeper, so `internal.ai.analytics.report` is `ai/analytics:report`.
    """

    __slots__ = ("_parts", "_root")

    def __init__(self, root: str, parts: tuple[str, ...] = ()) -> None:
        self._root, self._parts = root, parts

    def __getattr__(self, name: str) -> "FunctionReference":
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        return FunctionReference(self._root, (*self._parts, name))

    @property
    def __reactor_path__(self) -> str:
        """The path that clients send; see `client/address`."""
        return _reference_path(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FunctionReference):
            return NotImplemented
        return (self._root, self._parts) == (other._root, other._parts)

    def __hash__(self) -> int:
        return hash((self._root, self._parts))

    def __repr__(self) -> str:
        return ".".join((self._root, *self._parts))

    def __call__(self, *args: object, **kwargs: object) -> Any:
        raise TypeError(
            f"{self!r} is a reference; call it with ctx.run_query, ctx.run_mutation or ctx.run_action"
            f"{_how_to_import(self)}"
        )


def _how_to_import(reference: FunctionReference) -> str:
    """Return what to tell whoever got a reference by `import reactor.components.name as name`, which can't work."""
    if reference._root != "components" or not reference._parts:
        return ""
    return f". The package of a component is imported as `from reactor.components import {reference._parts[0]}`"


PathOrReference = str | FunctionReference  # of a function about which type checkers know nothing

api: Final = FunctionReference("api")
internal: Final = FunctionReference("internal")
components: Final = FunctionReference("components")


def function_path(function: Any) -> str:
    """Return the path that a string, a reference or a decorated function stands for. Strings pass as typed.

    Raises:
        InvalidArgument: it is none of these, or a reference that names no function.
        NotSupported: a reference to a component's function.
    """
    if isinstance(function, str):
        return function
    if isinstance(function, FunctionReference):
        return _reference_path(function)
    path = getattr(function, "path", None)
    if isinstance(path, str):
        return path
    raise InvalidArgument(
        f"{function!r} names no function: give api.module.name, internal.module.name, a decorated function, "
        "or a string such as 'messages:send'"
    )


def component_function(function: object) -> tuple[str, str] | None:
    """Return the child component and the path in it that a reference such as `components.limiter.limits.check` names.

    None for everything that is no reference to a component's function.

    Raises:
        InvalidArgument: the reference ends before it names a function.
    """
    if not isinstance(function, FunctionReference) or function._root != "components":
        return None
    parts = function._parts
    if len(parts) < 3:
        raise InvalidArgument(
            f"a reference to a component's function has the form components.name.module.function, but this one is "
            f"{function!r}"
        )
    return parts[0], "/".join(parts[1:-1]) + ":" + parts[-1]


def _reference_path(reference: FunctionReference) -> str:
    if reference._root == "components":
        raise NotSupported(f"{reference!r}: only functions of who mounts a component can call it, clients can't")
    if len(reference._parts) < 2:
        raise InvalidArgument(
            f"a reference has the form {reference._root}.module.function, but this one is {reference!r}"
        )
    return "/".join(reference._parts[:-1]) + ":" + reference._parts[-1]
