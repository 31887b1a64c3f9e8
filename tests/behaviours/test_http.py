"""HTTP actions in tests: `fetch`."""

import pytest

from reactor.errors import InvalidArgument
from reactor.testing.deployment import MemoryDeployment


async def test_an_exact_route_with_a_body_in_json(deployment: MemoryDeployment) -> None:
    answer = await deployment.fetch("/messages?page=2", method="POST", json={"body": "posted"})
    assert answer.status_code == 201
    assert answer.json()["page"] == "2"
    assert await deployment.query("messages:bodies") == ["posted"]


async def test_a_query_from_an_http_action(deployment: MemoryDeployment) -> None:
    await deployment.mutation("messages:add", body="x")
    assert (await deployment.fetch("/messages")).json() == {"count": 1}


async def test_a_prefix_route_and_the_exact_one_below_it(deployment: MemoryDeployment) -> None:
    assert (await deployment.fetch("/below/some/where")).text == "GET /below/some/where"
    alice = deployment.with_identity({"name": "Alice"})
    assert (await alice.fetch("/below/exactly")).text == "Alice"


async def test_what_is_not_routed(deployment: MemoryDeployment) -> None:
    answer = await deployment.fetch("/nowhere")
    assert (answer.status_code, answer.text) == (404, "No matching routes found")
    assert (await deployment.fetch("/messages", method="DELETE")).status_code == 404


async def test_a_path_begins_with_a_slash(deployment: MemoryDeployment) -> None:
    with pytest.raises(InvalidArgument, match="must begin with '/'"):
        await deployment.fetch("messages")
