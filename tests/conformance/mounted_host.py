"""A host application with a deployment mounted in it, run by uvicorn as it comes. Arguments: framework port project."""

import asyncio
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from reactor import Deployment

framework, port, project = sys.argv[1:]
deployment = Deployment(project, data=Path(project) / "data")
app: FastAPI | Starlette
if framework == "fastapi":
    app = FastAPI(lifespan=deployment.lifespan)
    app.mount("/reactor", deployment.asgi())
else:
    app = Starlette(routes=[Mount("/inner/reactor", app=deployment.asgi())], lifespan=deployment.lifespan)


class Host(uvicorn.Server):
    """Says when it is ready."""

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        prefix = "/reactor" if framework == "fastapi" else "/inner/reactor"
        print(f"ready at http://127.0.0.1:{port}{prefix}", flush=True)


asyncio.run(Host(uvicorn.Config(app, port=int(port), log_level="warning")).serve())
