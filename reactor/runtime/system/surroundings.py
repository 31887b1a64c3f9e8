"""What a system function sees beside its arguments: its transaction, and the code and tables of one instance.

Promises that a look at the deployed version is recorded, so that a push reruns whoever looked. Used by the modules
beside it.
"""

from typing import Any

from reactor.runtime.components.scopes import Scope
from reactor.runtime.components.targets import find_scope
from reactor.runtime.documents import Documents
from reactor.runtime.versions import Version


def documents_of(ctx: Any) -> Documents:
    """Return the documents of the execution, with its transaction, its database and its pager."""
    documents: Documents = ctx._execution.documents
    return documents


def scope_of(ctx: Any, component: str | None = None) -> Scope:
    """Return the component instance that is asked about: the one named, else the one that the call is made in.

    Raises:
        FunctionNotFound: nothing is mounted there.
    """
    owner = ctx._execution.owner
    version: Version = owner.version
    transaction = documents_of(ctx).transaction
    version.depend_on_deployment(transaction)
    return find_scope(version, transaction, owner.call.component if component is None else component)
