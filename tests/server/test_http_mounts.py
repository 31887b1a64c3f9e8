"""HTTP routes of components: under which prefix they appear, who goes first, and on whose behalf they run."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from reactor.server.app import Deployment
from tests.runtime.projects import write

pytestmark = pytest.mark.asyncio

HTTP = """
from reactor import http_action, http_router
from starlette.responses import JSONResponse

@http_action
async def tell(ctx, request):
    identity = await ctx.auth.get_user_identity()
    return JSONResponse([{name!r}, request.url.path, ctx.env["CONVEX_SITE_URL"], identity is not None])

@http_action
async def stored(ctx, request):
    return JSONResponse([await ctx.run_mutation("data:add"), len(await ctx.run_query("data:all"))])

http = http_router(cors={cors})
http.route(path="/exact", method="GET", handler=tell)
http.route(path="/stored", method="POST", handler=stored)
http.route(path_prefix="/wide/", method="GET", handler=tell)
{more}
"""
DATA = """
from reactor import mutation, query

@mutation
async def add(ctx):
    return await ctx.db.insert("data", {})

@query
async def all(ctx):
    return await ctx.db.query("data").collect()
"""
COMPONENT = """
from reactor import define_component
{imports}
component = define_component(__name__)
{uses}
"""


def files(app: str) -> dict[str, str]:
    mounted = {
        "functions/app.py": f"from reactor import define_app\nimport hooks, quiet\n{app}",
        "functions/http.py": HTTP.format(
            name="app",
            cors=False,
            more='http.route(path="/hooks/own", method="GET", handler=tell)\n'
            'http.route(path_prefix="/hooks/", method="GET", handler=tell)\n'
            'http.route(path_prefix="/hooks/deep/er/", method="GET", handler=tell)',
        ),
        "functions/data.py": DATA,
        "hooks/__init__.py": COMPONENT.format(
            imports="import inner", uses='component.use(inner, http_prefix="/inner/")'
        ),
        "hooks/functions/http.py": HTTP.format(name="hooks", cors=True, more=""),
        "hooks/functions/data.py": DATA,
        "inner/__init__.py": COMPONENT.format(imports="", uses=""),
        "inner/functions/http.py": HTTP.format(name="inner", cors=False, more=""),
        "quiet/__init__.py": COMPONENT.format(imports="", uses=""),
        "quiet/functions/data.py": DATA,
    }
    return mounted


APP = """
app = define_app()
app.use(hooks, http_prefix="/hooks/")
app.use(hooks, name="again", http_prefix="/again/")
app.use(hooks, name="unseen")
app.use(quiet, http_prefix="/quiet/")
"""


@pytest_asyncio.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with Deployment(write(tmp_path, files(APP)), data=":memory:") as deployment:
        yield deployment


@pytest.mark.parametrize(
    ("path", "name", "seen", "prefix"),
    [
        ("/exact", "app", "/exact", ""),
        ("/hooks/exact", "hooks", "/exact", "/hooks"),
        ("/again/exact", "hooks", "/exact", "/again"),
        ("/hooks/wide/x/y", "hooks", "/wide/x/y", "/hooks"),
        ("/hooks/inner/exact", "inner", "/exact", "/hooks/inner"),
        ("/again/inner/wide/z", "inner", "/wide/z", "/again/inner"),
        ("/hooks/own", "app", "/hooks/own", ""),  # exact before every mount
        ("/hooks/deep/er/x", "app", "/hooks/deep/er/x", ""),  # a longer prefix before a shorter mount
    ],
)
async def test_who_answers(deployment: Deployment, path: str, name: str, seen: str, prefix: str) -> None:
    response = await deployment.fetch(path)
    answered, seen_path, site, _ = response.json()
    assert (answered, seen_path) == (name, seen)
    assert site == (await deployment.fetch("/exact")).json()[2] + prefix


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/hooks/nothing", "No matching routes found"),  # a mount wins the tie, and what it has not is not there
        ("/unseen/exact", "No matching routes found"),
        ("/quiet/exact", "This Convex deployment does not have HTTP actions enabled."),
        ("/hooks", "No matching routes found"),
    ],
)
async def test_what_nobody_answers(deployment: Deployment, path: str, text: str) -> None:
    response = await deployment.fetch(path)
    assert (response.status_code, response.text) == (404, text)


async def test_an_action_of_a_component_reaches_its_own_functions(deployment: Deployment) -> None:
    for path, count in (("/hooks/stored", 1), ("/again/stored", 1), ("/hooks/stored", 2), ("/stored", 1)):
        assert (await deployment.fetch(path, method="POST")).json()[1] == count


async def test_nobody_is_known_inside(deployment: Deployment) -> None:
    alice = deployment.with_identity({"name": "Alice"})
    assert (await alice.fetch("/exact")).json()[3] is True
    assert (await alice.fetch("/hooks/exact")).json()[3] is False


async def test_browsers_are_told_what_the_component_allows(deployment: Deployment) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    allowed = await deployment.fetch("/hooks/exact", method="OPTIONS", headers=asked)
    assert allowed.headers.get("access-control-allow-origin") == "*"
    refused = await deployment.fetch("/exact", method="OPTIONS", headers=asked)
    assert "access-control-allow-origin" not in refused.headers


async def test_a_prefix_of_the_application_moves_its_own_routes_only(tmp_path: Path) -> None:
    app = APP.replace("define_app()", 'define_app(http_prefix="/app/")')
    async with Deployment(write(tmp_path, files(app)), data=":memory:") as deployment:
        assert (await deployment.fetch("/app/exact")).json()[:2] == ["app", "/exact"]
        assert (await deployment.fetch("/hooks/exact")).json()[:2] == ["hooks", "/exact"]
        assert (await deployment.fetch("/exact")).status_code == 404
