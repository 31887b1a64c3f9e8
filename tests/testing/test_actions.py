"""Actions of a deployment under test: called from the test, in its process, as any identity."""

from pathlib import Path

import httpx
import pytest
import respx

from reactor.errors import InvalidArgument, ReactorError, Unavailable
from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.runtime.projects import write

FILES = {
    "schema.py": """
        from reactor import define_schema, define_table, v
        schema = define_schema({"notes": define_table({"text": v.string(), "owner": v.nullable(v.string())})})
    """,
    "functions/notes.py": """
        import asyncio, httpx, time
        from reactor import ActionCtx, ReactorError, action, internal_action, internal_mutation, query

        @internal_mutation
        async def keep(ctx, text: str):
            identity = await ctx.auth.get_user_identity()
            await ctx.db.insert("notes", {"text": text, "owner": identity and identity["name"]})

        @query
        async def notes(ctx) -> list[list[str | None]]:
            return [[note["text"], note["owner"]] for note in await ctx.db.query("notes").collect()]

        @internal_action
        async def fetch(ctx: ActionCtx, url: str) -> str:
            async with httpx.AsyncClient() as http:
                text = (await http.get(url)).text
            await ctx.run_mutation(keep, text=text)
            return text

        @action
        def fetch_plainly(ctx: ActionCtx, url: str) -> str:
            with httpx.Client() as http:
                text = http.get(url).text
            ctx.run_mutation(keep, text=text + TAIL)
            return text

        TAIL = "!"

        @action
        def refuse(ctx: ActionCtx, code: int):
            raise ReactorError({"code": code})

        @action
        async def times(ctx: ActionCtx) -> list[float]:
            return [ctx.now(), time.time() * 1000]

        @action
        async def forever(ctx: ActionCtx):
            await asyncio.sleep(1e6)
    """,
}


async def fake_get(self: httpx.AsyncClient, url: str) -> httpx.Response:
    return httpx.Response(200, text=f"mocked {url}")


@pytest.mark.asyncio
async def test_actions_run_in_the_process_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = ProjectLoader(write(tmp_path, FILES)).load()
    monkeypatch.setattr(httpx.AsyncClient, "get", fake_get)
    async with MemoryDeployment(project, tmp_path) as deployment:
        async with deployment.subscribe("notes:notes") as live:
            assert await live.next() == []
            assert await deployment.action("notes:fetch", {"url": "a"}) == "mocked a"
            assert await live.next() == [["mocked a", None]]
        await deployment.with_identity({"name": "Alice"}).action("notes:fetch", url="b")
        assert await deployment.query("notes:notes") == [["mocked a", None], ["mocked b", "Alice"]]
        with pytest.raises(ReactorError) as refused:
            await deployment.action("notes:refuse", code=3)
        assert refused.value.data == {"code": 3}
        deployment.clock.advance(days=365)
        virtual, real = await deployment.action("notes:times")
        assert virtual == deployment.clock.now_ns() / 1e6
        assert virtual != real
    project.release()


@pytest.mark.asyncio
async def test_a_library_that_mocks_http_applies_to_both_forms(tmp_path: Path, respx_mock: respx.MockRouter) -> None:
    project = ProjectLoader(write(tmp_path, FILES)).load()
    service = respx_mock.get("https://example.com/text").respond(text="mocked")
    async with MemoryDeployment(project, tmp_path) as deployment:
        assert await deployment.action("notes:fetch", url="https://example.com/text") == "mocked"
        assert await deployment.action("notes:fetch_plainly", url="https://example.com/text") == "mocked"
        scheduled = {"url": "https://example.com/text"}
        await deployment.run(lambda ctx: ctx.scheduler.run_after(1000, "notes:fetch", scheduled))
        await deployment.finish_all_scheduled_functions()
    assert service.call_count == 3
    project.release()


@pytest.mark.asyncio
async def test_a_module_of_the_project_can_be_patched(tmp_path: Path, respx_mock: respx.MockRouter) -> None:
    project = ProjectLoader(write(tmp_path, FILES)).load()
    respx_mock.get("https://example.com/text").respond(text="mocked")
    async with MemoryDeployment(project, tmp_path) as deployment:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deployment.module("functions.notes"), "TAIL", "?")
            await deployment.action("notes:fetch_plainly", url="https://example.com/text")
        await deployment.action("notes:fetch_plainly", url="https://example.com/text")
        assert await deployment.query("notes:notes") == [["mocked?", None], ["mocked!", None]]
        with pytest.raises(InvalidArgument, match=r"no module 'functions\.note'. Did you mean 'functions\.notes'"):
            deployment.module("functions.note")
    with MemoryDeployment(project, tmp_path).blocking() as blocking:
        assert blocking.module("functions.notes").TAIL == "!"
    project.release()


def test_actions_of_a_blocking_deployment(tmp_path: Path) -> None:
    project = ProjectLoader(write(tmp_path, FILES)).load()
    with MemoryDeployment(project, tmp_path).blocking() as deployment:
        with pytest.raises(ReactorError):
            deployment.action("notes:refuse", {"code": 3})
        with pytest.raises(TimeoutError):
            deployment.action("notes:forever", timeout=0.01)
    with pytest.raises(Unavailable):
        deployment.action("notes:refuse", {"code": 3})
    project.release()
