"""The functions of one version of a project, by path.

Owns which functions a module exports, under which names, and how a typed path finds one: exactly, else folded. Promises
that no two functions answer to one spelling, and that lookups cost a dict probe once a spelling has been seen.
Used by `loader` (which fills it), and by `scopes` for whoever runs functions.
"""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple

from reactor.errors import PushError
from reactor.runtime.decorators import Function, Kind, Visibility
from reactor.runtime.references import FunctionPath, identifier_problem, parse_path
from reactor.runtime.signature import Binder, source_of

MAX_SPELLINGS: Final = 4096  # spellings remembered beside the canonical ones, so that clients can't grow the memory
MAX_SPELLING_LENGTH: Final = 200

_SPEC_TYPES: Final = {"query": "Query", "mutation": "Mutation", "action": "Action"}


class RegisteredFunction(NamedTuple):
    """A function of this version. `path` is canonical; `digest` changes when anything its module imports does.

    `component` is the path of the component instance it runs in, empty for the application; `label` is what logs and
    reports call the function: its path, behind that of the instance. `shown` is what official texts call it:
    `messages.js:send`.
    """

    path: str
    function: Function[..., Any]
    binder: Binder
    digest: str
    file: str | None
    line: int | None
    label: str
    shown: str
    component: str = ""

    @property
    def kind(self) -> Kind:
        return self.function.kind

    @property
    def visibility(self) -> Visibility:
        return self.function.visibility

    @property
    def place(self) -> str:
        return f"{self.path} ({self.file}:{self.line})"


class Registry:
    """All functions of a project. `functions` maps canonical paths, such as `ai/analytics:log_ai_request`."""

    def __init__(self) -> None:
        self.functions: dict[str, RegisteredFunction] = {}
        self._folded: dict[tuple[str, str], RegisteredFunction] = {}
        self._spellings: dict[str, RegisteredFunction] = {}

    def register(self, module: str, name: str, function: Function[..., Any], digest: str) -> None:
        """Add a function of namespace `module`. The same function under two spellings of one name counts once.

        Raises:
            PushError: the name is taken, its folded form is, or the function's declaration is wrong.
        """
        path = FunctionPath(module, name)
        file, line = source_of(function)
        problem = identifier_problem(name)
        if problem is not None:
            raise PushError(f"{path.canonical}: {problem}", file=file, line=line)
        rival = self._folded.get(path.folded)
        if rival is not None:
            if rival.function is function:
                return
            raise PushError(
                f"{path.canonical} and {rival.place} can't be told apart: paths are looked up without regard to case "
                "and inner underscores. Rename one, or give it name=",
                file=file,
                line=line,
            )
        if function.module is None:
            function.module = module
            function.name = name
        text = path.canonical
        shown = text.replace(":", ".js:")
        registered = RegisteredFunction(text, function, Binder(function, text), digest, file, line, text, shown)
        self._folded[path.folded] = registered
        self.functions[path.canonical] = registered

    def mounted(self, component: str) -> "Registry":
        """Return the same functions as those of one component instance."""
        registry = Registry()
        for folded, function in self._folded.items():
            function = function._replace(component=component, label=f"{component}/{function.path}")
            registry._folded[folded] = function
            registry.functions[function.path] = function
        return registry

    def lookup(self, text: str) -> RegisteredFunction | None:
        """Find what a client typed: the exact path, else the one that folds alike.

        Raises:
            ProtocolError: `text` is no path at all.
        """
        found = self.functions.get(text) or self._spellings.get(text)
        if found is not None:
            return found
        path = parse_path(text)
        found = self.functions.get(path.canonical) or self._folded.get(path.folded)
        if found is not None and len(text) <= MAX_SPELLING_LENGTH and len(self._spellings) < MAX_SPELLINGS:
            self._spellings[text] = found
        return found

    def spec(self) -> list[dict[str, Any]]:
        """Return the official `function-spec` entries by identifier. HTTP actions are listed by their routes."""
        entries = []
        for path, registered in sorted(self.functions.items()):
            kind = _SPEC_TYPES.get(registered.kind)
            if kind is None:
                continue
            module, _, name = path.rpartition(":")
            returns = registered.binder.returns
            entries.append(
                {
                    "args": registered.binder.args.to_json(),
                    "functionType": kind,
                    "identifier": f"{module}.js:{name}",
                    "returns": None if returns is None else returns.to_json(),
                    "visibility": {"kind": registered.visibility},
                }
            )
        return entries


def build_registry(
    namespaces: Mapping[str, ModuleType], home: Mapping[str, str], digests: Mapping[str, str]
) -> Registry:
    """Register what each namespace exports.

    `namespaces` maps `ai/analytics` to its module, `home` maps module names to namespaces, `digests` is by namespace.

    Raises:
        PushError: see `Registry.register`.
    """
    defined_at = {
        namespace: {id(value) for value in vars(module).values() if isinstance(value, Function)}
        for namespace, module in namespaces.items()
    }
    registry = Registry()
    for namespace, module in namespaces.items():
        for name, function in _exports(namespace, module, home, defined_at):
            registry.register(namespace, name, function, digests[namespace])
    return registry


def _exports(
    namespace: str, module: ModuleType, home: Mapping[str, str], defined_at: Mapping[str, set[int]]
) -> Iterable[tuple[str, Function[..., Any]]]:
    """Yield exported names and functions. What another namespace defines and exports is only imported here."""
    own: dict[str, Function[..., Any]] = {}
    for attribute, function in vars(module).items():
        if not isinstance(function, Function):
            continue
        owner = home.get(function.handler.__module__)
        if owner is not None and owner != namespace and id(function) in defined_at[owner]:
            continue
        own[attribute] = function
    # A function's own name goes first: another spelling bound to the same function is then its alias.
    for attribute, function in sorted(
        own.items(), key=lambda item: item[0] != getattr(item[1].handler, "__name__", None)
    ):
        yield (function.name if function.has_name else attribute), function
