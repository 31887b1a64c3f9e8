"""How user modules import: each version of a project under a private package name, in one process.

Owns the one finder on `sys.meta_path` and the `__import__` of user modules, which maps `schema`, `functions` and the
other modules of the project to the version that the importing module belongs to. Promises that nothing of a project is
ever visible under its plain name, that imports behave as in plain Python (circular ones too, and inside functions), and
that `forget` leaves no trace of a version. Used by `loader`.
"""

import builtins
import importlib.abc
import importlib.machinery
import itertools
import logging
import re
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from reactor.runtime.datetimes import HELPER, clock_source
from reactor.runtime.determinism import PROJECT_PREFIX, current_log
from reactor.runtime.guard import facades
from reactor.runtime.logs import console
from reactor.runtime.sources import ComponentTree, SourceTree

Import = Callable[..., Any]  # what `__import__` is

_numbers: Final = itertools.count(1)
_PRIVATE: Final = re.compile(rf"{PROJECT_PREFIX}\d+\.")


def public_names(text: str) -> str:
    """Return `text` with module names as the user wrote them, without the private package in front."""
    return _PRIVATE.sub("", text)


class PrivatePackage(importlib.abc.Loader):
    """One version of a project, or of a component, in `sys.modules`: its sources, and the builtins of its modules.

    What its modules import and is not theirs, is looked up by `outer`, the package of the project that a component is
    a part of.
    """

    def __init__(self, sources: SourceTree, outer: "PrivatePackage | None" = None) -> None:
        self.name = f"{PROJECT_PREFIX}{next(_numbers)}"
        self.sources = sources
        self._running: list[str] = []
        self._builtins = dict(vars(builtins))
        self.import_: Import = self._user_import(builtins.__import__ if outer is None else outer.import_)
        self._builtins["__import__"] = self.import_
        self._builtins["print"] = console(current_log)
        self._builtins.update(facades())
        self._builtins[HELPER] = clock_source

    def begin(self) -> None:
        """Make the private package importable. A component's `__init__` runs."""
        spec = importlib.machinery.ModuleSpec(self.name, None, is_package=True)
        package = ModuleType(self.name)
        package.__spec__, package.__path__ = spec, [str(self.sources.root)]
        sys.modules[self.name] = package
        _versions[self.name] = self
        if isinstance(self.sources, ComponentTree):
            package.__file__ = str(self.sources.root / "__init__.py")
            self._run(package, "")

    def forget(self) -> None:
        """Remove every module of this version, and what the standard library remembers of them."""
        _versions.pop(self.name, None)
        prefix = self.name + "."
        for name in [name for name in sys.modules if name == self.name or name.startswith(prefix)]:
            del sys.modules[name]
        with logging._lock:  # type: ignore[attr-defined]
            loggers = logging.root.manager.loggerDict
            for name in [name for name in loggers if name == self.name or name.startswith(prefix)]:
                del loggers[name]
        # `Optional[UserClass]` sits in a cache of typing, and with it all that the class can reach.
        for clear in getattr(typing, "_cleanups", ()):
            clear()

    def modules(self) -> Iterator[tuple[str, ModuleType]]:
        """Yield the modules imported so far, by the names users know."""
        prefix = self.name + "."
        for name, module in list(sys.modules.items()):
            if name.startswith(prefix):
                yield name.removeprefix(prefix), module

    def spec(self, fullname: str) -> importlib.machinery.ModuleSpec:
        """Return how to import a module of this version.

        Raises:
            ModuleNotFoundError: the project has no such module.
        """
        name = fullname.removeprefix(self.name + ".")
        module = self.sources.find(name)
        if module is None:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        if self._running:
            self.sources.note_import(self._running[-1], name)
        origin = None if module.file is None else str(module.file)
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=origin, is_package=module.is_package)
        spec.has_location = origin is not None
        if module.is_package:
            spec.submodule_search_locations = [str(module.folder)]
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Use Python's own module objects."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module with the builtins of its version."""
        self._run(module, module.__name__.removeprefix(self.name + "."))

    def _run(self, module: ModuleType, name: str) -> None:
        source = self.sources.find(name)
        if source is None or source.code is None:
            return
        module.__dict__["__builtins__"] = self._builtins
        if source.folder is not None:
            module.__path__ = [str(source.folder)]
        self._running.append(source.name)
        try:
            exec(source.code, module.__dict__)
        finally:
            self._running.pop()

    def _user_import(self, import_other: Import) -> Import:
        package, resolve = self.name, self.sources.resolve

        def __import__(
            name: str,
            globals: Mapping[str, object] | None = None,
            locals: Mapping[str, object] | None = None,
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> ModuleType:
            if level == 0:
                own = resolve(name)
                if own is None:
                    return import_other(name, globals, locals, fromlist or (), 0)  # type: ignore[no-any-return]
                # `import a.b` binds `a`, or the component when that is its name.
                bound = f"{package}.{own.partition('.')[0]}" if own == name else package
                name = f"{package}.{own}" if own else package
            try:
                module = builtins.__import__(name, globals, locals, fromlist or (), level)
            except ImportError as error:
                error.msg = public_names(error.msg) if error.msg else error.msg
                error.name = public_names(error.name) if error.name else error.name
                error.args = tuple(public_names(part) if isinstance(part, str) else part for part in error.args)
                raise
            return module if fromlist or level else sys.modules[bound]

        return __import__


_versions: Final[dict[str, PrivatePackage]] = {}


class _Finder(importlib.abc.MetaPathFinder):
    """Answers for names below private packages, and for nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(PROJECT_PREFIX):
            return None
        version = _versions.get(fullname.partition(".")[0])
        return None if version is None else version.spec(fullname)


_finder: Final = _Finder()
_installing: Final = threading.Lock()


def install_finder() -> None:
    """Put the finder in place, once per process."""
    with _installing:
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)


def user_place(error: BaseException, files: frozenset[Path]) -> tuple[str | None, int | None]:
    """Return file and line of an error: of the wrong syntax, or the innermost line of the project it came through."""
    names = {str(file) for file in files}
    if isinstance(error, SyntaxError) and error.filename is not None and Path(error.filename).is_file():
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        # Only an error of compiling: one raised by `exec` or a parser in user code has a place of its own below.
        if trace is None or trace.tb_frame.f_code.co_filename not in names:
            return error.filename, error.lineno
    file = line = None
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name in names:
            file, line = name, trace.tb_lineno
        trace = trace.tb_next
    return file, line
