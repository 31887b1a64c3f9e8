"""The deployment as its own issuer: nobody gets a token unless the operator says so."""

from typing import Any

import jwt
import pytest

from reactor import ReactorError
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
    await deployment.env.set("AI_PUBLIC_LOGGING", "true")
    assert await deployment.query("issuer:viewer") is None
    await deployment.env.unset("AI_PUBLIC_LOGGING")
    ann = deployment.with_identity({"subject": "ann", "name": "Ann", "scope": "analytics:read"})
    assert await ann.query("issuer:viewer") == {"name": "Ann"}
    bob = deployment.with_identity({"subject": "bob", "scope": "analytics:read"})
    assert await bob.query("issuer:viewer") == {"name": "bob"}


async def test_a_token_has_the_scopes_of_the_page(deployment: MemoryDeployment) -> None:
    """It shows and logs the same when AI_PUBLIC_LOGGING is not set any more."""
    await deployment.env.set("AI_PUBLIC_LOGGING", "true")
    token = (await sign_in(deployment, {"name": "Ann"})).json()["token"]
    await deployment.env.unset("AI_PUBLIC_LOGGING")
    ann = deployment.with_identity(jwt.decode(token, options={"verify_signature": False}))
    assert (await ann.query("monitoring:dashboard"))["providers"] == []
    with pytest.raises(ReactorError, match="FORBIDDEN"):
        await ann.query("api_keys:list")
