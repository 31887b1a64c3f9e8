"""What the official command line asks on its way to a push, answered for the project that runs.

`npx convex codegen` sends JavaScript and writes types from what the server finds in it. Here the functions are Python,
and the server has them already: whatever is sent, the answer is the analysis of the running version. Promises that
nothing of this changes a deployment, and that a push ends with a line that says how to deploy Python. Used by the
router.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from reactor.codegen.names import camel_case
from reactor.limits import MAX_HTTP_BODY_BYTES
from reactor.runtime.environment.origins import Origins
from reactor.runtime.project import Project
from reactor.runtime.registry import RegisteredFunction
from reactor.server.backend import OpenBackend
from reactor.server.http.bodies import json_response, read_body
from reactor.server.http.errors import HttpError
from reactor.server.http.identity import admin_of

UDF_SERVER_VERSION: Final = "1.48.0"  # of the official client whose messages these are
UNSUPPORTED: Final = (
    "This deployment runs Python functions, so JavaScript can't be pushed to it, and nothing was changed. Deploy the "
    "Python project with `reactor deploy`, or develop it with `reactor dev`; `npx convex codegen` writes its types."
)

_TYPES: Final = {"query": "Query", "mutation": "Mutation", "action": "Action"}


class PushApi:
    """The handlers of `/api/get_config_hashes` and `/api/deploy2/…`, as Starlette endpoints."""

    def __init__(self, backend: OpenBackend, project: Callable[[], Project], origins: Origins) -> None:
        """`project` gives the running version."""
        self._backend = backend
        self._project = project
        self._origins = origins

    async def canonical_urls(self, request: Request) -> Response:
        """GET `/api/v1/get_canonical_urls`: where clients reach the deployment; a push begins by asking."""
        await admin_of(request, self._backend())
        return _json({"convexCloudUrl": self._origins.cloud, "convexSiteUrl": self._origins.site})

    async def config_hashes(self, request: Request) -> Response:
        """POST `/api/get_config_hashes`: what is deployed, for a push that sends only what is new. Nothing is."""
        await self._admit(request)
        return _json(
            {
                "config": {"functions": "convex/", "authInfo": []},
                "moduleHashes": [],
                "udfServerVersion": UDF_SERVER_VERSION,
                "nodeDependencies": [],
            }
        )

    async def start(self, request: Request) -> Response:
        """POST `/api/deploy2/start_push`: the analysis of what is being pushed. That is always what runs."""
        await self._admit(request)
        return _json(analysis(self._project()))

    async def refuse(self, request: Request) -> Response:
        """POST `/api/deploy2/finish_push`, and the steps on the way to it: pushing is not possible.

        Raises:
            HttpError: 400 `UnsupportedPush`.
        """
        await self._admit(request)
        raise HttpError(400, "UnsupportedPush", UNSUPPORTED)

    async def _admit(self, request: Request) -> None:
        await admin_of(request, self._backend())
        # Compressed modules, which nobody looks at: the key is in the header, too.
        await read_body(request, MAX_HTTP_BODY_BYTES)


def analysis(project: Project) -> dict[str, Any]:
    """Return the answer to `start_push` for a project, with functions and modules as TypeScript spells them."""
    no_exports = {"type": "branch", "branch": []}
    return {
        "environmentVariables": {},
        "externalDepsId": None,
        "componentDefinitionPackages": {},
        "appAuth": [],
        "analysis": {
            "": {
                "definition": {
                    "path": "",
                    "definitionType": {"type": "app"},
                    "childComponents": [],
                    "httpMounts": {},
                    "exports": no_exports,
                },
                "schema": project.schema.to_json() if project.schema.tables else None,
                "functions": _modules(project.registry.functions),
                "udfConfig": {
                    "serverVersion": UDF_SERVER_VERSION,
                    "importPhaseRngSeed": "",
                    "importPhaseUnixTimestamp": "0",
                },
            }
        },
        "app": {
            "definitionPath": "",
            "componentPath": "",
            "args": {},
            "childComponents": {},
            "httpRoutes": {"httpModuleRoutes": None, "mounts": []},
            "exports": {},
        },
        "schemaChange": {"allocatedComponentIds": {}, "schemaIds": {}, "indexDiffs": {}},
    }


def _modules(functions: Mapping[str, RegisteredFunction]) -> dict[str, Any]:
    modules: dict[str, Any] = {}
    for path, registered in sorted(functions.items()):
        if registered.kind not in _TYPES:
            continue
        module, _, name = path.rpartition(":")
        returns = registered.binder.returns
        file = "/".join(map(camel_case, module.split("/"))) + ".js"
        described = modules.setdefault(
            file, {"functions": [], "httpRoutes": None, "cronSpecs": None, "sourceMapped": None}
        )
        described["functions"].append(
            {
                "name": name if registered.function.has_name else camel_case(name),
                "pos": None,
                "udfType": _TYPES[registered.kind],
                "visibility": {"kind": registered.visibility},
                "args": json.dumps(registered.binder.args.to_json()),
                "returns": None if returns is None else json.dumps(returns.to_json()),
            }
        )
    return modules


def _json(value: Mapping[str, Any]) -> Response:
    return json_response(json.dumps(value).encode(), cache_control="no-store")
