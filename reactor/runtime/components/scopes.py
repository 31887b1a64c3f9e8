"""Scopes: what the code of one component instance can reach in one deployed version.

A `Scope` joins an instance of the loaded project with its tables in the database. It is made once per version, so that
a call looks nothing up that it could have found before. Promises that code reaches no function, table or schema of
another instance but through its own children. Used by `versions`, `documents` and whoever runs functions.
"""

from collections.abc import Callable, Mapping

from reactor.engine.catalog import MODULES, Namespace
from reactor.engine.database import Database
from reactor.engine.transaction import Transaction
from reactor.runtime.components.definitions import Instance, environment_of
from reactor.runtime.environment.mapping import Environment
from reactor.runtime.registry import RegisteredFunction

Variables = Callable[[Transaction], Environment]  # of the deployment, as a transaction sees them


class Scope:
    """One component instance in one version; the application itself has the empty path."""

    __slots__ = (
        "_module_index",
        "_module_keys",
        "_variables",
        "instance",
        "namespace",
        "path",
        "registry",
        "schema",
        "triggers",
    )

    def __init__(
        self, database: Database, instance: Instance, module_keys: Mapping[str, bytes], variables: Variables
    ) -> None:
        """`module_keys` has the key of each namespace's row in `_modules`, `variables` are those of the deployment."""
        self.instance = instance
        self.path = instance.path
        self.registry = instance.registry
        self.schema = instance.schema
        self.triggers = instance.triggers
        self.namespace: Namespace = database.catalog.namespace(instance.path)
        self._module_keys = module_keys
        self._variables = variables
        self._module_index = database.catalog.by_name[MODULES].by_id.id

    def depend_on_module(self, transaction: Transaction, function: RegisteredFunction) -> None:
        """Record that a run depends on the code of a function, its module's imports included."""
        transaction.reads.add_point(self._module_index, self._module_keys[function.path.rpartition(":")[0]])

    def environment(self, transaction: Transaction) -> Environment:
        """Return the environment variables the code here sees, in `transaction`, which records a look at one."""
        return environment_of(self.instance, self._variables(transaction))
