"""Loading components: each definition once, below a private package of its own, mounted as often as somebody uses it.

Owns the packages of one load that are not the application's. Promises that a component which is imported by a project
runs again as its folder is now, and that two mounts share code but nothing else. Used by the loader.
"""

import sys
from pathlib import Path

from reactor.errors import PushError
from reactor.runtime.components.definitions import (
    EXPORTED,
    AppDefinition,
    ComponentDefinition,
    Instance,
    Mount,
    check_mount,
    child_path,
)
from reactor.runtime.importing import PrivatePackage, public_names
from reactor.runtime.jobs.crons import Crons
from reactor.runtime.parts import Part, import_module, load_part
from reactor.runtime.project import Project
from reactor.runtime.sources import ComponentTree


class ComponentLoader:
    """The components of one load: each is imported once, and mounted as often as somebody uses it."""

    def __init__(self, project: PrivatePackage) -> None:
        self._loaded: dict[Path, tuple[ComponentDefinition, Part]] = {}
        self._homes: dict[str, PrivatePackage | None] = {project.name: project}  # whose modules a package may import
        self._crons: dict[str, Crons | None] = {}  # by path of the instance
        self.packages: list[PrivatePackage] = []

    def mount_all(self, project: Project) -> None:
        """Mount what the application uses, and what that uses."""
        if project.app is not None:
            self._mount(project.root, project.app, [])
        project.mounted(self.packages, self._crons)

    def _mount(self, parent: Instance, user: AppDefinition, above: list[Path]) -> None:
        for mount in user.mounts.values():
            path = child_path(parent.path, mount.name)
            definition, part = self._load(mount)
            check_mount(mount, path, definition.env, above)
            registry = part.registry.mounted(path)
            child = Instance(path, part.schema, registry, parent, mount, definition.env, part.http, part.triggers)
            parent.children[mount.name] = child
            self._crons[path] = part.crons
            self._mount(child, definition, [*above, mount.component.folder])

    def _load(self, mount: Mount) -> tuple[ComponentDefinition, Part]:
        """Import a component below a private package of its own.

        Its `__init__` runs again there, so that what it declares is what its folder says now.
        """
        folder = mount.component.folder
        found = self._loaded.get(folder)
        if found is not None:
            return found
        outer = self._homes.get(mount.component.package.partition(".")[0])
        name = public_names(mount.component.package)
        sources = ComponentTree(folder, name, None if outer is None else outer.sources)
        package = PrivatePackage(sources, outer)
        self.packages.append(package)
        self._homes[package.name] = outer
        package.begin()
        definition = getattr(sys.modules[package.name], EXPORTED, None)
        if not isinstance(definition, ComponentDefinition):
            place = str(folder / "__init__.py")
            raise PushError(f"it must export `{EXPORTED}`, made with define_component(__name__)", file=place)
        part = load_part(folder / "functions", "schema", "functions", package)
        schema = package.sources.find("schema")
        if schema is not None and schema.file is not None and hasattr(import_module("schema", package), "rules"):
            raise PushError("a component has no row rules: its data is behind its functions", file=str(schema.file))
        found = self._loaded[folder] = definition, part
        return found

    @property
    def function_folders(self) -> list[Path]:
        """Where each component that is mounted has its functions."""
        return [folder / "functions" for folder in self._loaded]

    @property
    def files(self) -> frozenset[Path]:
        """Every file of a component that was read."""
        return frozenset(file for package in self.packages for file in package.sources.files)

    def forget(self) -> None:
        """Leave nothing behind."""
        for package in self.packages:
            package.forget()
