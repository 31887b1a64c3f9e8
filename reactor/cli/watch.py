"""Telling when a project changed.

Owns the comparison of what is on disk with what was loaded. Promises that no edit is missed, also one made while a
reload is running or while the notifier is being moved to other folders: the operating system's events only say when to
look, and a look compares contents. Saving a file unchanged is no edit. Used by `dev`.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from watchfiles import awatch

_LOOK_MS: Final = 1000  # how often to look without an event: file systems without events, moved notifiers
_RACY_NS: Final = 2_000_000_000  # a file this young may change again without a new modification time
_LONGEST_DEBOUNCE: Final = 20  # times the quiet time, for an editor or a generator that never stops writing
_SKIPPED: Final = frozenset({"node_modules", "__pycache__"})


class Stamp(NamedTuple):
    """A file as it was: cheap facts to compare first, and its content."""

    facts: tuple[int, int, int]
    digest: bytes
    is_racy: bool


Stamps = dict[Path, Stamp]


def look(files: Iterable[Path], before: Stamps) -> Stamps:
    """Return the stamps of those of `files` that exist, reading only what may differ from `before`."""
    stamps: Stamps = {}
    for file in files:
        try:
            status = file.stat()
            facts = (status.st_mtime_ns, status.st_size, status.st_ino)
            known = before.get(file)
            if known is not None and known.facts == facts and not known.is_racy:
                stamps[file] = known
                continue
            is_racy = time.time_ns() - status.st_mtime_ns < _RACY_NS
            stamps[file] = Stamp(facts, hashlib.blake2b(file.read_bytes(), digest_size=16).digest(), is_racy)
        except OSError:
            continue  # gone, or unreadable: as good as absent
    return stamps


def differs(a: Stamps, b: Stamps) -> bool:
    """Return whether any file appeared, vanished or has other content."""
    return a.keys() != b.keys() or any(a[file].digest != b[file].digest for file in a)


def python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files below `folder`, leaving out hidden folders, virtual environments and packages of npm."""
    for at, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if name not in _SKIPPED
            and not name.startswith(".")
            and not os.path.exists(os.path.join(at, name, "pyvenv.cfg"))
        ]
        yield from (Path(at, name) for name in files if name.endswith(".py"))


class ProjectWatch:
    """What one project looks like on disk, compared with what it looked like when it was last loaded.

    `sources` are the files that the running version was made from, also outside of the project. Until there is one, and
    while the last edit is broken, every Python file of the project counts, too: the one that mends it may not have been
    imported yet.
    """

    def __init__(self, project: Path, debounce_ms: float) -> None:
        self._project = project
        self._folders = frozenset({project / "functions"})  # each file in them counts, also a new one
        self._debounce_ms = max(1, int(debounce_ms))
        self._sources: frozenset[Path] = frozenset()
        self._is_broken = True
        self.has_loaded = False
        self._loaded: Stamps = {}
        self._seen: Stamps = {}

    def before_load(self) -> None:
        """Take down what is on disk; what changes from here on is an edit after this load."""
        # Every file, since what the load will import is not known before it ran.
        self._seen = look({*python_files(self._project), self._project / "pyproject.toml"}, self._seen)

    def after_load(self, sources: Iterable[Path], folders: Iterable[Path]) -> None:
        """Say what the load that began with `before_load` was made from, and which folders hold functions."""
        self.has_loaded = True
        self._folders = frozenset(folders)
        self._end_load(frozenset(sources), is_broken=False)

    def after_failure(self, sources: Iterable[Path]) -> None:
        """Say that the load that began with `before_load` failed, and what it had read by then."""
        self._end_load(frozenset(sources), is_broken=True)

    def _end_load(self, sources: frozenset[Path], *, is_broken: bool) -> None:
        self._sources, self._is_broken = sources, is_broken
        outside = sources - self._seen.keys()
        self._loaded = self._seen | look(outside, {})

    def is_current(self) -> bool:
        """Return whether the disk still holds what was last loaded."""
        files = self._files()
        now = look(files, self._loaded)
        if differs(now, {file: stamp for file, stamp in self._loaded.items() if file in files}):
            return False
        self._loaded |= now  # same contents, but stamps that have aged need no second reading
        return True

    async def changed(self) -> None:
        """Return once the disk differs from what was last loaded and has been quiet for the debounce time."""
        while not await asyncio.to_thread(self.is_current):
            if await self._is_quiet():
                return
        async for _ in self._events():
            if not await asyncio.to_thread(self.is_current):
                return

    def _files(self) -> set[Path]:
        if self._is_broken:
            return {*self._sources, *python_files(self._project), self._project / "pyproject.toml"}
        functions = (file for folder in self._folders for file in python_files(folder))
        return {*self._sources, *functions, self._project / "pyproject.toml"}

    async def _is_quiet(self) -> bool:
        files = self._files()
        before = await asyncio.to_thread(look, files, {})
        await asyncio.sleep(self._debounce_ms / 1000)
        return not differs(before, await asyncio.to_thread(look, self._files(), {}))

    async def _events(self) -> AsyncIterator[object]:
        folders = {file.parent for file in self._files()} | {self._project, *self._folders}
        notifier = awatch(
            *sorted(folder for folder in folders if folder.is_dir()),
            watch_filter=None,
            debounce=self._debounce_ms * _LONGEST_DEBOUNCE,
            step=self._debounce_ms,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        async for event in notifier:
            yield event
