"""Who calls: through every way to call a function of the application, and never beyond it."""

import pytest

from reactor.testing.deployment import MemoryDeployment

QUERIES = ["query_query"]
MUTATIONS = ["mutation_query", "mutation_mutation"]
ACTIONS = ["action_query", "action_mutation", "action_action"]


@pytest.mark.parametrize("function", [*QUERIES, *MUTATIONS, *ACTIONS])
async def test_it_goes_along_in_every_combination(deployment: MemoryDeployment, function: str) -> None:
    for caller, name in ((deployment, None), (deployment.with_identity({"name": "Alice"}), "Alice")):
        verb = getattr(caller, function.partition("_")[0])
        assert await verb(f"users:{function}") == name


@pytest.mark.parametrize("kind", ["query", "mutation", "action"])
async def test_it_goes_into_no_component(deployment: MemoryDeployment, kind: str) -> None:
    alice = deployment.with_identity({"name": "Alice"})
    assert await getattr(alice, kind)(f"users:{kind}_component") is None


async def test_it_is_there_when_a_component_is_called_directly(deployment: MemoryDeployment) -> None:
    counter = deployment.component("counter").with_identity({"name": "Alice"})
    assert await counter.query("counting:caller") == "Alice"
    assert await counter.mutation("counting:caller_of_mutation") == "Alice"
    assert await counter.action("counting:caller_of_action") == "Alice"


async def test_inline_functions_have_it(deployment: MemoryDeployment) -> None:
    alice = deployment.with_identity({"name": "Alice"})
    for verb in (alice.query, alice.mutation, alice.action, alice.run):
        identity = await verb(lambda ctx: ctx.auth.get_user_identity())
        assert identity["name"] == "Alice"  # type: ignore[index, call-overload]


async def test_what_is_missing_is_made_up(deployment: MemoryDeployment) -> None:
    def claims(ctx):  # type: ignore[no-untyped-def]
        return ctx.auth.get_user_identity()

    alice = await deployment.with_identity({"name": "Alice"}).query(claims)
    bob = await deployment.with_identity({"name": "Bob", "subject": "b", "issuer": "https://bob.test"}).query(claims)
    assert alice == await deployment.with_identity({"name": "Alice"}).query(claims)
    assert alice["issuer"] == "https://convex.test"  # type: ignore[index, call-overload]
    assert alice["tokenIdentifier"] == f"https://convex.test|{alice['subject']}"  # type: ignore[index, call-overload]
    assert bob["tokenIdentifier"] == "https://bob.test|b"  # type: ignore[index, call-overload]
