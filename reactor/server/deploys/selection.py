"""Which files of a project a deploy takes along.

Owns that choice: what the server needs to load the project, and nothing that only happens to lie beside it. That is
`pyproject.toml`, the schema, the folder of the functions, what these import of the project, and what
`[tool.reactor] deploy` names. Promises that no file whose name starts with a dot is among them (`.env`, `.git`,
`.reactor`), nor anything from outside of the project. Used by `reactor deploy`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from reactor.errors import InvalidArgument
from reactor.runtime.project import ProjectOptions
from reactor.runtime.sources import SourceTree

PYPROJECT: Final = "pyproject.toml"
GENERATED: Final = "_generated"  # of which only Python is of use to the server
_JUNK: Final = frozenset({"__pycache__", "node_modules"})
_JUNK_SUFFIXES: Final = frozenset({".pyc", ".pyo"})


def project_files(root: Path, options: ProjectOptions) -> dict[str, Path]:
    """Return the files to deploy, by their name below `root`, sorted.

    Raises:
        InvalidArgument: something of it is a link that leads out of the project, or is not there.
    """
    found: dict[str, Path] = {}
    wanted = [options.schema, options.functions, *_imported(root, options)]
    if (root / PYPROJECT).exists():
        wanted.append(PYPROJECT)
    for name in options.deploy:
        place = root / name
        if not place.exists() or place.resolve() == root or not place.resolve().is_relative_to(root):
            raise InvalidArgument(f"pyproject.toml: [tool.reactor] deploy names {name!r}, which is not in the project.")
        wanted.append(name)
    for name in wanted:
        for file in _below(root / name):
            _check_link(root, file)
            found[file.relative_to(root).as_posix()] = file
    return dict(sorted(found.items()))


def _imported(root: Path, options: ProjectOptions) -> Iterator[str]:
    """Yield the modules and packages at the top of the project that its code imports, at any depth.

    A package is taken whole: it may be a component, whose functions nobody imports, or have data beside its modules.
    """
    names = [Path(options.schema).with_suffix("").as_posix(), Path(options.functions).as_posix()]
    tops = {name.partition("/")[0] for name in names}
    tree = SourceTree(root, tops)
    waiting = [name.replace("/", ".") for name in names]
    waiting += [_module(root, file) for file in _below(root / options.functions) if file.suffix == ".py"]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            reached = tree.reachable(name)
        except (SyntaxError, OSError):
            continue  # the server says where
        waiting += reached.keys() - seen
        for module in reached:
            top = module.partition(".")[0]
            if top not in tops:
                tops.add(top)
                waiting += [_module(root, file) for file in _below(root / top) if file.suffix == ".py"]
    for top in sorted(tops):
        if (root / f"{top}.py").is_file():
            yield f"{top}.py"
        if (root / top).is_dir() and not any(name.startswith(f"{top}/") for name in names):
            yield top
    yield from (file.relative_to(root).as_posix() for file in tree.files)


def _module(root: Path, file: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _below(place: Path) -> Iterator[Path]:
    """Yield the files at or below a place that are no junk."""
    if place.is_dir():
        for entry in sorted(place.iterdir()):
            if entry.name.startswith(".") or entry.name in _JUNK:
                continue
            if entry.is_dir():
                if entry.is_symlink():
                    raise InvalidArgument(
                        f"{entry} is a link to a folder, which can't be deployed: put the folder itself there."
                    )
                yield from _below(entry)
            elif entry.suffix not in _JUNK_SUFFIXES and (GENERATED not in entry.parts or entry.suffix == ".py"):
                yield entry
    elif place.is_file():
        yield place


def _check_link(root: Path, file: Path) -> None:
    if not file.resolve().is_relative_to(root):
        raise InvalidArgument(f"{file} is a link that leads out of the project: put the file itself there.")
