"""`_system/cli/…` on code: the functions and routes that are deployed, and where clients reach them.

Used by `system_functions`.
"""

from collections.abc import Mapping
from typing import Any, Final

from reactor.runtime.decorators import Function, internal_query
from reactor.runtime.environment.documents import CLOUD_URL, SITE_URL
from reactor.runtime.system.surroundings import documents_of, scope_of
from reactor.schema.validators import v

ANY: Final = {"type": "any"}  # where nothing is declared


@internal_query(args={"componentId": v.optional(v.nullable(v.string()))})
def describe_functions(ctx: Any, component_id: str | None = None) -> Any:
    """Return the official `function-spec` entries of the application, or of the component mounted at `componentId`."""
    scope = scope_of(ctx, component_id)
    functions = [{**entry, "returns": entry["returns"] or ANY} for entry in scope.registry.spec()]
    routes = scope.instance.http
    return functions + ([] if routes is None else routes.spec())


@internal_query(args={})
def cloud_url(ctx: Any) -> str:
    """Return the address of the API."""
    return documents_of(ctx).environment()[CLOUD_URL]


@internal_query(args={})
def site_url(ctx: Any) -> str:
    """Return the address of HTTP actions."""
    return documents_of(ctx).environment()[SITE_URL]


MODULE_FUNCTIONS: Final[Mapping[str, Function[..., Any]]] = {
    "_system/cli/modules:apiSpec": describe_functions,
    "_system/cli/convexUrl:cloudUrl": cloud_url,
    "_system/cli/convexUrl:siteUrl": site_url,
}
