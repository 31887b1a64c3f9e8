"""Projects written to disk for one test."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reactor.runtime.determinism import Ambient, ambient
from reactor.runtime.loader import ProjectLoader
from reactor.runtime.project import Project


def write(root: Path, files: dict[str, str]) -> Path:
    """Write `files`, by relative path, below `root`."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
    return root


@contextmanager
def loaded(root: Path, files: dict[str, str]) -> Iterator[Project]:
    """Load a project made of `files`, and release it."""
    project = ProjectLoader(write(root, files)).load()
    try:
        yield project
    finally:
        project.release()


@contextmanager
def inside(surroundings: Ambient) -> Iterator[Ambient]:
    """Run the block as part of an execution."""
    token = ambient.set(surroundings)
    try:
        yield surroundings
    finally:
        ambient.reset(token)
