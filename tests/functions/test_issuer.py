"""The deployment as its own issuer: nobody gets a token unless the operator says so."""

from typing import Any

import jwt
import pytest

from reactor.testing.deployment import MemoryDeployment

pytestmark = pytest.mark.asyncio


async def sign_in(deployment: MemoryDeployment, body: Any) -> Any:
    return await deployment.fetch("/sign-in", method="POST", json=body)


@pytest.mark.parametrize("setting", [None, "", "false", "1"])
async def test_nobody_gets_a_token_unless_told(deployment: MemoryDeployment, setting: str | None) -> None:
    if setting is not None:
        await deployment.env.set("AI_PUBLIC_LOGGING", setting)
    answer = await sign_in(deployment, {"name": "Ann"})
    assert (answer.status_code, "AI_PUBLIC_LOGGING=true" in answer.text) == (404, True)


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "  "}, {"name": 7}, {"name": "x" * 41}, [], None, "Ann"])
async def test_what_is_no_name_is_refused(deployment: MemoryDeployment, body: Any) -> None:
    await deployment.env.set("AI_PUBLIC_LOGGING", "true")
    assert (await sign_in(deployment, body)).status_code == 400


async def test_a_token_is_signed_with_the_published_key(deployment: MemoryDeployment) -> None:
    await deployment.env.set("AI_PUBLIC_LOGGING", "true")
    token = (await sign_in(deployment, {"name": " Ann "})).json()["token"]
    found = (await deployment.fetch("/.well-known/openid-configuration")).json()
    published = (await deployment.fetch(found["jwks_uri"].removeprefix(found["issuer"]))).json()
    claims = jwt.decode(token, jwt.PyJWKSet.from_dict(published)["demo"], audience="dashboard", issuer=found["issuer"])
    assert (claims["sub"], claims["name"], claims["exp"] - claims["iat"]) == ("ann", "Ann", 3600)


async def test_viewer(deployment: MemoryDeployment) -> None:
    assert await deployment.query("issuer:viewer") is None
    ann = deployment.with_identity({"subject": "ann", "name": "Ann"})
    assert await ann.query("issuer:viewer") == {"name": "Ann"}
    assert await deployment.with_identity({"subject": "bob"}).query("issuer:viewer") == {"name": "bob"}
