"""The generated files of a project: which there are, which are out of date, and writing them.

Promises that a file which is right already is not touched, that one is never half written, and that nothing else of the
project changes. Used by `reactor codegen` and `reactor dev`.
"""

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from reactor.codegen.python import runtime_module, stub
from reactor.codegen.typescript import API_JS, api_declarations, data_model_declarations
from reactor.errors import InvalidArgument
from reactor.runtime.project import Project, ProjectOptions, read_options

PYTHON: Final = "_generated"


def generated_files(project: Project, folder: Path) -> dict[Path, str]:
    """Return the text of every generated file of a loaded project in `folder`."""
    files = {**_runtime(folder, project.options), folder / PYTHON / "__init__.pyi": stub(project.root)}
    if project.options.typescript is not None:
        target = folder / project.options.typescript
        files |= {
            target / "api.d.ts": api_declarations(project.root),
            target / "api.js": API_JS,
            target / "dataModel.d.ts": data_model_declarations(project.root.schema),
        }
    return files


def begin(folder: Path) -> bool:
    """Write what functions import from `_generated` where it is missing: no project can be loaded without it.

    Returns whether it was missing.

    Raises:
        InvalidArgument: it can't be written.
        PushError: the options of the project can't be used.
    """
    if (folder / PYTHON / "__init__.py").is_file():
        return False
    write(_runtime(folder, read_options(folder)))
    return True


def stale(files: Mapping[Path, str]) -> list[Path]:
    """Return which of `files` are missing or hold another text."""
    return [file for file, text in files.items() if not _holds(file, text)]


def write(files: Mapping[Path, str]) -> list[Path]:
    """Write what is out of date, and return that.

    Raises:
        InvalidArgument: a file can't be written.
    """
    written = stale(files)
    for file in written:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
            try:
                new.write_text(files[file], encoding="utf-8", newline="\n")
                os.replace(new, file)
            except BaseException:
                new.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise InvalidArgument(f"The generated file {file} can't be written: {error}") from None
    return written


def named(files: Iterable[Path], folder: Path) -> list[str]:
    """Return the names of files as seen from the project."""
    return sorted(os.path.relpath(file, folder) for file in files)


def _runtime(folder: Path, options: ProjectOptions) -> dict[Path, str]:
    has_schema = (folder / options.schema).is_file()
    module = options.schema.removesuffix(".py").replace("/", ".") if has_schema else None
    return {folder / PYTHON / "__init__.py": runtime_module(module)}


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False
