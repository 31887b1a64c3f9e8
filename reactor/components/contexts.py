"""The `ctx` that methods of components take: of the function that calls them.

In a query or mutation a call is a part of its transaction; in an action each call is a transaction of its own. A
`MutationCtx` is a `QueryCtx`, too.
"""

from typing import TypeAlias

from reactor import ActionCtx, MutationCtx, QueryCtx

ReadCtx: TypeAlias = QueryCtx | ActionCtx
WriteCtx: TypeAlias = MutationCtx | ActionCtx
