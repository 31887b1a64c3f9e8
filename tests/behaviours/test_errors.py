"""The application's own errors, with their data, wherever they are raised and caught."""

from typing import Any

import pytest

from reactor.errors import ReactorError
from reactor.testing.deployment import MemoryDeployment

DATA = [{"code": "X", "list": [1.0, None, {"deep": True}]}, "text", 7.0, None, [1.0, "two"]]


@pytest.mark.parametrize("data", DATA, ids=repr)
@pytest.mark.parametrize(
    "function", ["query_query", "mutation_query", "mutation_mutation", "action_query", "action_mutation"]
)
async def test_data_is_intact_through_calls(deployment: MemoryDeployment, function: str, data: Any) -> None:
    with pytest.raises(ReactorError) as raised:
        await getattr(deployment, function.partition("_")[0])(f"failing:{function}", data=data)
    assert raised.value.data == data


@pytest.mark.parametrize("data", DATA, ids=repr)
async def test_data_is_intact_where_an_action_catches_it(deployment: MemoryDeployment, data: Any) -> None:
    assert await deployment.action("failing:action_action", data=data) == data


@pytest.mark.parametrize("verb", ["query", "mutation", "action", "run"])
@pytest.mark.parametrize("data", DATA, ids=repr)
async def test_data_is_intact_from_inline_functions(deployment: MemoryDeployment, verb: str, data: Any) -> None:
    async def inline(ctx: Any) -> None:
        raise ReactorError(data)

    with pytest.raises(ReactorError) as raised:
        await getattr(deployment, verb)(inline)
    assert raised.value.data == data


async def test_data_is_intact_in_inline_functions_that_catch(deployment: MemoryDeployment) -> None:
    async def inline(ctx: Any) -> Any:
        try:
            await ctx.run_mutation("failing:in_mutation", data={"code": 1})
        except ReactorError as error:
            return error.data

    for verb in (deployment.run, deployment.action):
        assert await verb(inline) == {"code": 1}


async def test_other_errors_are_raised_as_they_are(deployment: MemoryDeployment) -> None:
    with pytest.raises(ValueError, match="out of luck"):
        await deployment.mutation("jobs:fail")
    assert await deployment.query("messages:bodies") == []
