"""The source files of one version of a project: where a module is, what it says, and what it imports.

Owns the mapping from module names to files. Each file is read once and compiled from what was read, never from a cache,
so a module's digest is of exactly the code that runs, also when it is imported long after the file was edited. Promises
not to run any of it. Used by `importing` (which runs it) and `loader`.
"""

import ast
import hashlib
import importlib.machinery
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Final, NamedTuple

from reactor.runtime.datetimes import route_clock_calls

_NEVER_OURS: Final = frozenset({*sys.stdlib_module_names, *sys.builtin_module_names, "reactor"})


class SourceModule(NamedTuple):
    """One module of the project. A folder without `__init__.py` has no file and no code.

    `folder` is where submodules are looked up. A module `ai.py` beside a folder `ai/` has both: `functions/ai.py` and
    `functions/ai/analytics.py` are two namespaces, though plain Python would not find the second.
    """

    name: str
    file: Path | None
    folder: Path | None
    is_package: bool
    code: CodeType | None
    digest: bytes
    imports: frozenset[str]


class SourceTree:
    """The modules below one project directory, named as user code names them: `schema`, `functions.messages`.

    `always` are the top-level names that are the project's whatever else has them.
    """

    def __init__(self, root: Path, always: Iterable[str]) -> None:
        self.root = root
        self._modules: dict[str, SourceModule | None] = {}
        self._owned: dict[str, bool] = dict.fromkeys(always, True)
        self._observed: dict[str, set[str]] = {}
        self._read_files: set[Path] = set()

    def owns(self, top: str) -> bool:
        """Whether a top-level name is the project's own. The standard library and reactor are never shadowed.

        As in plain Python, a module or package of the project hides an installed one of its name, but a mere folder,
        such as `redis/` for data, gives way to it.
        """
        answer = self._owned.get(top)
        if answer is None:
            answer = self._owned[top] = top not in _NEVER_OURS and self._is_here(top)
        return answer

    def _is_here(self, top: str) -> bool:
        place = self.root / top
        if (self.root / f"{top}.py").is_file() or (place / "__init__.py").is_file():
            return True
        if not place.is_dir():
            return False
        try:
            installed = importlib.machinery.PathFinder.find_spec(top)
        except (ImportError, ValueError):
            return True
        if installed is None or installed.origin is not None:
            return installed is None
        return next(place.rglob("*.py"), None) is not None  # a folder against a folder

    def resolve(self, name: str) -> str | None:
        """Return the module of this tree that an absolute import of `name` means, or None when it means another."""
        return name if self.owns(name.partition(".")[0]) else None

    def find(self, name: str) -> SourceModule | None:
        """Return the module of that name, reading it on first use, or None when the project has none.

        Raises:
            SyntaxError: it can't be compiled.
            OSError: its file can't be read.
        """
        if name in self._modules:
            return self._modules[name]
        # A module that can't be compiled is not remembered: an optional import may be tried again.
        found = self._read(name) if self.owns(name.partition(".")[0]) else None
        self._modules[name] = found
        return found

    def _read(self, name: str) -> SourceModule | None:
        place = self.root.joinpath(*name.split("."))  # the root itself is the module with the empty name
        init = place / "__init__.py"
        is_package = init.is_file()
        file = init if is_package else place.with_name(place.name + ".py")
        folder = place if place.is_dir() else None
        if not is_package and not file.is_file():
            return None if folder is None else SourceModule(name, None, folder, True, None, b"", frozenset())
        self._read_files.add(file)
        data = file.read_bytes()
        try:
            tree = ast.parse(data, str(file))
        except (SyntaxError, ValueError) as error:
            if isinstance(error, SyntaxError) and error.filename is not None:
                raise
            line = data.partition(b"\0")[0].count(b"\n") + 1  # a null byte, for which Python gives no place
            raise SyntaxError(str(error), (str(file), line, 1, "")) from error
        imports = self._imported(tree, name, name if is_package else name.rpartition(".")[0])
        code = compile(route_clock_calls(tree, data), str(file), "exec", dont_inherit=True)
        return SourceModule(name, file, folder, is_package, code, hashlib.sha256(data).digest(), imports)

    def tree(self, name: str) -> ast.Module | None:
        """Return what a module was compiled from; None when the project has none, or it is another one by now."""
        module = self._modules.get(name)
        if module is None or module.file is None:
            return None
        try:
            data = module.file.read_bytes()
        except OSError:
            return None
        return ast.parse(data, str(module.file)) if hashlib.sha256(data).digest() == module.digest else None

    def _imported(self, tree: ast.Module, name: str, package: str) -> frozenset[str]:
        """Return the modules of this tree that the module `name`, which is in `package`, may import."""
        found = _imports(tree, package)
        resolved = (imported if is_relative else self.resolve(imported) for imported, is_relative in found)
        return frozenset(module for module in resolved if module is not None)

    def note_import(self, importer: str, imported: str) -> None:
        """Remember an import that was seen at run time and may not be visible in the source."""
        self._observed.setdefault(importer, set()).add(imported)

    def reachable(self, name: str) -> dict[str, SourceModule]:
        """Return the module and all project modules it imports, at any depth and from any place in their code.

        Raises:
            SyntaxError: one of them can't be compiled.
            OSError: one of them can't be read.
        """
        found: dict[str, SourceModule] = {}
        waiting = [name]
        while waiting:
            module = self.find(waiting.pop())
            if module is None or module.name in found:
                continue
            found[module.name] = module
            waiting += _with_parents(module.name)
            for imported in (*module.imports, *self._observed.get(module.name, ())):
                waiting += _with_parents(imported)
        return found

    def digest(self, name: str) -> str:
        """Return the digest of the module and of everything of the project that it imports.

        Raises:
            SyntaxError: one of these can't be compiled.
            OSError: one of these can't be read.
        """
        total = hashlib.sha256()
        for reached, module in sorted(self.reachable(name).items()):
            total.update(reached.encode() + b"\0" + module.digest)
        return total.hexdigest()

    @property
    def files(self) -> frozenset[Path]:
        """Every file that was read, also those that can't be compiled."""
        return frozenset(self._read_files)


class ComponentTree(SourceTree):
    """The modules of one component: those of its package, named as if its folder were a project of its own.

    Code of the component reaches them by relative imports, by the package's name, and `schema` and `functions` without
    it. All other names mean what they mean to `outer`, the project that the folder is in; None when it is installed.
    """

    def __init__(self, root: Path, package: str, outer: SourceTree | None) -> None:
        super().__init__(root, ())
        self._package = package
        self._outer = outer
        self._outside: dict[str, set[str]] = {}  # what a module imports of the project

    def owns(self, top: str) -> bool:
        """Whether a name is a module of the component; `find` asks for these only."""
        return True

    def resolve(self, name: str) -> str | None:
        """Return the module of this tree that an absolute import of `name` means, or None when it means another."""
        if name == self._package:
            return ""
        if name.startswith(self._package + "."):
            return name.removeprefix(self._package + ".")
        return name if name.partition(".")[0] in ("schema", "functions") else None

    def _imported(self, tree: ast.Module, name: str, package: str) -> frozenset[str]:
        if self._outer is not None:
            absolute = {imported for imported, is_relative in _imports(tree, package) if not is_relative}
            self._outside[name] = {imported for imported in absolute if self.resolve(imported) is None}
        return super()._imported(tree, name, package)

    def reachable(self, name: str) -> dict[str, SourceModule]:
        """Return the module, the package's `__init__`, and all modules of the component that these import.

        Raises:
            SyntaxError: one of them can't be compiled.
            OSError: one of them can't be read.
        """
        return super().reachable("") | super().reachable(name)

    def digest(self, name: str) -> str:
        """Return the digest of the module and of everything of the component and its project that it imports.

        Raises:
            SyntaxError: one of these can't be compiled.
            OSError: one of these can't be read.
        """
        own = super().digest(name)
        outer = self._outer
        if outer is None:
            return own
        total = hashlib.sha256(own.encode())
        outside = {imported for reached in self.reachable(name) for imported in self._outside.get(reached, ())}
        for imported in sorted(outside):
            if outer.resolve(imported) is not None:
                total.update(imported.encode() + b"\0" + outer.digest(imported).encode())
        return total.hexdigest()


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _imports(tree: ast.Module, package: str) -> Iterator[tuple[str, bool]]:
    """Yield the names that any import statement may mean, however deeply nested, and whether it was a relative one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package
            for _ in range(node.level - 1):
                base = base.rpartition(".")[0]
            parts = ([base] if node.level and base else []) + ([node.module] if node.module else [])
            origin, is_relative = ".".join(parts), node.level > 0
            if origin or is_relative:
                yield origin, is_relative
            yield from ((".".join((*parts, alias.name)), is_relative) for alias in node.names)
