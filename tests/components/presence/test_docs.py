"""The project in docs/components/presence.md loads, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from reactor import ReactorError
from tests.projects import opened_page


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    async with opened_page("components/presence.md", tmp_path) as deployment:
        args = {"roomId": "r", "userId": "ann", "sessionId": "s", "interval": 10_000}
        with pytest.raises(ReactorError):
            await deployment.mutation("presence:heartbeat", args)
        ann = deployment.with_identity({"subject": "ann"})
        tokens: Any = await ann.mutation("presence:heartbeat", args)
        async with deployment.subscribe("presence:list", roomToken=tokens["roomToken"]) as live:
            assert await live.next() == [{"userId": "ann", "online": True, "lastDisconnected": 0}]
            await deployment.mutation("presence:disconnect", sessionToken=tokens["sessionToken"])
            (user,) = await live.next()
            assert not user["online"]
