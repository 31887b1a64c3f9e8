"""reactor: a reactive document database server. These are the public names, all of them.

Each is imported when it is first used, so that `import reactor` costs nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request as Request
    from starlette.responses import Response as Response

    from reactor.auth.config import auth_config as auth_config
    from reactor.auth.config import custom_jwt as custom_jwt
    from reactor.auth.config import oidc as oidc
    from reactor.errors import ConvexError as ConvexError
    from reactor.errors import Error as Error
    from reactor.errors import ReactorError as ReactorError
    from reactor.runtime.actions.context import ActionCtx as ActionCtx
    from reactor.runtime.components.definitions import define_app as define_app
    from reactor.runtime.components.definitions import define_component as define_component
    from reactor.runtime.context import MutationCtx as MutationCtx
    from reactor.runtime.context import QueryCtx as QueryCtx
    from reactor.runtime.decorators import action as action
    from reactor.runtime.decorators import http_action as http_action
    from reactor.runtime.decorators import internal_action as internal_action
    from reactor.runtime.decorators import internal_mutation as internal_mutation
    from reactor.runtime.decorators import internal_query as internal_query
    from reactor.runtime.decorators import mutation as mutation
    from reactor.runtime.decorators import query as query
    from reactor.runtime.environment.mapping import env as env
    from reactor.runtime.http.router import http_router as http_router
    from reactor.runtime.jobs.crons import cron_jobs as cron_jobs
    from reactor.runtime.references import api as api
    from reactor.runtime.references import components as components
    from reactor.runtime.references import internal as internal
    from reactor.runtime.rules.declared import define_rules as define_rules
    from reactor.runtime.triggers.declared import Change as Change
    from reactor.runtime.triggers.declared import define_triggers as define_triggers
    from reactor.schema.definition import define_schema as define_schema
    from reactor.schema.definition import define_table as define_table
    from reactor.schema.pagination import pagination_opts_validator as pagination_opts_validator
    from reactor.schema.validators import v as v
    from reactor.server.app import Deployment as Deployment
    from reactor.values.types import Int64 as Int64
    from reactor.values.types import undefined as undefined

__all__ = [
    "ActionCtx",
    "Change",
    "ConvexError",
    "Deployment",
    "Error",
    "Int64",
    "MutationCtx",
    "QueryCtx",
    "ReactorError",
    "Request",
    "Response",
    "action",
    "api",
    "auth_config",
    "components",
    "cron_jobs",
    "custom_jwt",
    "define_app",
    "define_component",
    "define_rules",
    "define_schema",
    "define_table",
    "define_triggers",
    "env",
    "http_action",
    "http_router",
    "internal",
    "internal_action",
    "internal_mutation",
    "internal_query",
    "mutation",
    "oidc",
    "pagination_opts_validator",
    "query",
    "undefined",
    "v",
]

_HOMES = {
    "ActionCtx": "reactor.runtime.actions.context",
    "Change": "reactor.runtime.triggers.declared",
    "ConvexError": "reactor.errors",
    "Deployment": "reactor.server.app",
    "Error": "reactor.errors",
    "Int64": "reactor.values.types",
    "MutationCtx": "reactor.runtime.context",
    "QueryCtx": "reactor.runtime.context",
    "ReactorError": "reactor.errors",
    "Request": "starlette.requests",
    "Response": "starlette.responses",
    "action": "reactor.runtime.decorators",
    "api": "reactor.runtime.references",
    "auth_config": "reactor.auth.config",
    "components": "reactor.runtime.references",
    "cron_jobs": "reactor.runtime.jobs.crons",
    "custom_jwt": "reactor.auth.config",
    "define_rules": "reactor.runtime.rules.declared",
    "define_app": "reactor.runtime.components.definitions",
    "define_component": "reactor.runtime.components.definitions",
    "define_schema": "reactor.schema.definition",
    "define_table": "reactor.schema.definition",
    "define_triggers": "reactor.runtime.triggers.declared",
    "env": "reactor.runtime.environment.mapping",
    "http_action": "reactor.runtime.decorators",
    "http_router": "reactor.runtime.http.router",
    "internal": "reactor.runtime.references",
    "internal_action": "reactor.runtime.decorators",
    "internal_mutation": "reactor.runtime.decorators",
    "internal_query": "reactor.runtime.decorators",
    "mutation": "reactor.runtime.decorators",
    "oidc": "reactor.auth.config",
    "pagination_opts_validator": "reactor.schema.pagination",
    "query": "reactor.runtime.decorators",
    "undefined": "reactor.values.types",
    "v": "reactor.schema.validators",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return __all__


class _Facade(ModuleType):
    """This module: `components` is a public name of it, though it has a package of that name, too.

    The import system stores a package in its parent, where it would hide the name from then on.
    """

    @property
    def components(self) -> Any:
        """References to functions of mounted components. The package is for `from reactor.components import ...`."""
        return importlib.import_module(_HOMES["components"]).components

    @components.setter
    def components(self, package: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Facade
