"""Which version of the project runs at which timestamp.

Owns the deployed versions that some reader may still need. Promises that a run at timestamp T uses the version that was
deployed by the newest commit at or before T, so that a query at the durable timestamp never runs code whose deployment
is not durable yet. Used by whoever runs functions; filled by the push.
"""

from collections.abc import Mapping
from functools import partial

from reactor.engine.catalog import DEPLOYMENT
from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.errors import Unavailable
from reactor.runtime.components.scopes import Scope
from reactor.runtime.environment.mapping import TransactionEnvironment
from reactor.runtime.project import Project


class Version:
    """One deployed version: the loaded project, the scopes of its instances, and the row that runs of it depend on."""

    __slots__ = (
        "_deployment_index",
        "_deployment_key",
        "_holders",
        "_is_retired",
        "handles",
        "number",
        "places",
        "project",
        "root",
        "scopes",
        "ts",
    )

    def __init__(
        self,
        database: Database,
        project: Project,
        ts: int,
        number: int,
        deployment_key: bytes,
        module_keys: Mapping[str, Mapping[str, bytes]],
        handles: Mapping[tuple[str, str], str],
        built_in: Mapping[str, str],
    ) -> None:
        """Join what was loaded with what was pushed.

        Args:
            module_keys: by path of the component instance, the key of each namespace's row in `_modules`.
            handles: by path of the instance and of the function in it, the id of the function's handle.
            built_in: environment variables that nobody sets.
        """
        self.project = project
        self.ts = ts
        self.number = number
        self._deployment_key = deployment_key
        self._deployment_index = database.catalog.by_name[DEPLOYMENT].by_id.id
        self.handles = handles
        self.places = {handle: place for place, handle in handles.items()}
        variables = partial(TransactionEnvironment, defaults=project.env, built_in=built_in)
        self.scopes = {
            instance.path: Scope(database, instance, module_keys.get(instance.path, {}), variables)
            for instance in project.root.walk()
        }
        self.root = self.scopes[""]
        self._holders = 0  # actions under way that run its code
        self._is_retired = False

    def hold(self) -> None:
        """Keep the code loaded, also when another version is deployed, until `let_go`."""
        self._holders += 1

    def let_go(self) -> None:
        """Undo one `hold`."""
        self._holders -= 1
        if self._is_retired and not self._holders:
            self.project.release()

    def retire(self) -> None:
        """Release the code as soon as nobody holds it: no transaction can need it."""
        self._is_retired = True
        if not self._holders:
            self.project.release()

    def depend_on_deployment(self, transaction: Transaction) -> None:
        """Record that a run depends on which version is deployed."""
        transaction.reads.add_point(self._deployment_index, self._deployment_key)


class Versions:
    """The versions in use, oldest first."""

    def __init__(self) -> None:
        self._versions: list[Version] = []

    def add(self, version: Version) -> None:
        """Make `version` the one for everything from its timestamp on."""
        self._versions.append(version)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was pushed yet."""
        return not self._versions

    def latest(self) -> Version:
        """Return the version that mutations run.

        Raises:
            Unavailable: nothing was pushed yet.
        """
        if not self._versions:
            raise Unavailable("No project has been pushed to this deployment yet.")
        return self._versions[-1]

    def newest_defaults(self) -> Mapping[str, str] | None:
        """Return what stands in for unset environment variables at present, or None when nothing was pushed yet."""
        return self._versions[-1].project.env if self._versions else None

    def at(self, ts: int) -> Version:
        """Return the version deployed at `ts`; before the first one, the first one.

        Raises:
            Unavailable: nothing was pushed yet.
        """
        versions = self._versions
        if not versions:
            return self.latest()
        position = len(versions) - 1
        while position and versions[position].ts > ts:
            position -= 1
        return versions[position]

    def retire(self, before_ts: int) -> list[Version]:
        """Drop and return the versions that no reader at or after `before_ts` can need."""
        retired: list[Version] = []
        while len(self._versions) > 1 and self._versions[1].ts <= before_ts:
            retired.append(self._versions.pop(0))
        return retired

    def close(self) -> None:
        """Release every version."""
        for version in self._versions:
            version.project.release()
        self._versions.clear()
