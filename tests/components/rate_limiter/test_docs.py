"""The project in docs/components/rate-limiter.md loads, and does what the page says."""

from pathlib import Path
from typing import Any

import pytest

from reactor.components.rate_limiter import FixedWindow
from reactor.errors import ReactorError
from tests.components.rate_limiter.calls import do, rows
from tests.projects import opened_page


@pytest.mark.asyncio
async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    async with opened_page("components/rate-limiter.md", tmp_path) as deployment:
        for _ in range(3):
            assert await deployment.mutation("messages:send", {"user": "ann", "body": "hi"}) is None
        assert await deployment.mutation("messages:send", {"user": "ann", "body": "hi"}) == 6000
        assert await deployment.mutation("messages:send", {"user": "bob", "body": "hi"}) is None

        await do(deployment, "limit", "signUp", count=99, config=FixedWindow(100, 3_600_000), throws=True)
        await deployment.mutation("messages:sign_up", {"name": "ann"})
        with pytest.raises(ReactorError) as failure:
            await deployment.mutation("messages:sign_up", {"name": "bob"})
        data: Any = failure.value.data
        assert set(data) == {"kind", "name", "retryAfter"}

        ordered = [await deployment.mutation("mails:order", {"to": "cid"}) for _ in range(5)]
        assert ordered == [0, 0, 0, 6000, 12_000]
        begin = deployment.clock.now_ms
        await deployment.advance(seconds=12)
        mails: Any = await deployment.run(lambda ctx: ctx.db.query("mails").collect())
        assert [mail["at"] - begin for mail in mails] == [0, 0, 0, 6000, 12_000]

        assert await deployment.action("answers:answer", {"question": "x" * 400}) == "42"
        assert sum(4000 - row["value"] for row in await rows(deployment) if row["name"] == "tokens") == 101

        ann = deployment.with_identity({"subject": "ann"})
        shown: Any = await ann.query("shown:getRateLimit", {"key": "bob"})
        assert shown["value"] == 0

        responses = [await deployment.fetch("/hook", method="POST") for _ in range(4)]
        assert [response.status_code for response in responses] == [200, 200, 200, 429]
        assert responses[-1].headers["Retry-After"] == "6"

        before = len(await rows(deployment))
        await deployment.advance(hours=2)
        await deployment.run_cron("forget idle keys")
        await deployment.finish_in_progress_scheduled_functions()
        kept = await rows(deployment)
        assert before > len(kept)
        assert {row["name"] for row in kept} == {"signUp"}
