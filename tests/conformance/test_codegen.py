"""Types for official clients, by the official command line against a real server: `npx convex codegen`."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import CONFORMANCE, ROOT, SHARED_KILL_AFTER_SECONDS, Program, Server, free_port, running, start_dev

OFFICIAL = ("node", CONFORMANCE / "node_modules" / "convex" / "bin" / "main.js")
HOW_TO_DEPLOY = "Deploy the Python project with `reactor deploy`"
USES = """
import { api, internal } from "./convex/_generated/api.js";
import type { Doc, Id } from "./convex/_generated/dataModel.js";
import type { FunctionArgs, FunctionReturnType } from "convex/server";

export const args: FunctionArgs<typeof api.messages.listBodies> = { channel: "x" as Id<"channels">, limit: 3 };
export const bodies: FunctionReturnType<typeof api.messages.listBodies> = ["x"];
export const likes: Doc<"messages">["likes"] = 3n;
export const notify = internal.messages.notify;
// @ts-expect-error
export const wrong: FunctionArgs<typeof api.messages.listBodies> = { chanel: "x" as Id<"channels"> };
// @ts-expect-error
export const table: Doc<"chanels"> | null = null;
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    source = ROOT / "tests" / "typing" / "app"
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    server = start_dev(project, "--data", ":memory:", kill_after=SHARED_KILL_AFTER_SECONDS)
    with running(server):
        yield server


@pytest.fixture
def target(server: Server, project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / ".reactor" / "dev.json").read_text())
    return found


@pytest.fixture
def front(tmp_path: Path) -> Path:
    (tmp_path / "package.json").write_text('{"dependencies": {"convex": "1.48.0"}}')
    settings = {"codegen": {"staticApi": True, "staticDataModel": True, "fileType": "js/dts"}}
    (tmp_path / "convex.json").write_text(json.dumps(settings))
    (tmp_path / "convex").mkdir()
    (tmp_path / "convex" / "schema.js").write_text("export default {};\n")  # that it is there is what counts
    (tmp_path / "node_modules").symlink_to(CONFORMANCE / "node_modules")
    return tmp_path


def official(front: Path, url: str, key: str, *args: str, code: int) -> str:
    environ = {"CONVEX_SELF_HOSTED_URL": url, "CONVEX_SELF_HOSTED_ADMIN_KEY": key, "CI": "1"}
    program = Program((*OFFICIAL, *args), cwd=front, env=environ)
    with running(program):
        assert program.finish() == code, program.transcript()
    return program.transcript()


def test_codegen_writes_whole_types(node: str, target: dict[str, Any], front: Path) -> None:
    official(front, target["url"], target["adminKey"], "codegen", code=0)
    (front / "uses.ts").write_text(USES)
    options = {"strict": True, "noEmit": True, "target": "es2022", "module": "esnext", "moduleResolution": "bundler"}
    (front / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": {**options, "types": []}, "files": ["uses.ts"]})
    )
    compiler = Program(("node", front / "node_modules" / "typescript" / "bin" / "tsc", "-p", "."), cwd=front)
    with running(compiler):
        assert compiler.finish() == 0, compiler.transcript()


def test_codegen_with_a_wrong_key(node: str, server: Server, front: Path) -> None:
    assert "deploy key is invalid" in official(front, server.url, "reactor|00", "codegen", code=1)
    assert "listBodies" not in (front / "convex" / "_generated" / "api.d.ts").read_text()


def test_codegen_with_the_server_away(node: str, front: Path) -> None:
    """It says that it tries again, six times; that takes half a minute, so it is not waited for."""
    environ = {
        "CONVEX_SELF_HOSTED_URL": f"http://127.0.0.1:{free_port()}",
        "CONVEX_SELF_HOSTED_ADMIN_KEY": "reactor|00",
    }
    program = Program((*OFFICIAL, "codegen"), cwd=front, env=environ)
    with running(program):
        program.wait_for_line("Retrying request", stream="err")
    assert "listBodies" not in (front / "convex" / "_generated" / "api.d.ts").read_text()


@pytest.mark.parametrize("command", [("deploy",), ("dev", "--once")], ids=" ".join)
def test_a_push_ends_with_how_to_deploy_python(
    node: str, target: dict[str, Any], front: Path, command: tuple[str, ...]
) -> None:
    assert HOW_TO_DEPLOY in official(front, target["url"], target["adminKey"], *command, code=1)


def test_over_http(target: dict[str, Any]) -> None:
    """Administrators only; whatever they send, nobody looks at it, and nothing changes."""
    paths = ("get_config_hashes", "deploy2/start_push", "deploy2/wait_for_schema", "deploy2/finish_push")
    with httpx.Client(base_url=target["url"], trust_env=False) as client:
        for path in paths:
            refused = client.post(f"/api/{path}", json={"adminKey": target["adminKey"]})
            assert (refused.status_code, refused.json()["code"]) == (403, "BadDeployKey"), path
        client.headers["Authorization"] = f"Convex {target['adminKey']}"
        for body in (b"", b"no brotli", b"{}"):
            analysed = client.post("/api/deploy2/start_push", content=body, headers={"Content-Encoding": "br"}).json()
            modules = analysed["analysis"][""]["functions"]
            assert [function["name"] for function in modules["deep/nested.js"]["functions"]] == ["getURL"]
        for path in ("wait_for_schema", "evaluate_push", "finish_push"):
            refused = client.post(f"/api/deploy2/{path}", json={})
            assert (refused.status_code, refused.json()["code"]) == (400, "UnsupportedPush")
            assert HOW_TO_DEPLOY in refused.json()["message"]
        urls = client.get("/api/v1/get_canonical_urls").json()
        assert urls == {"convexCloudUrl": target["url"], "convexSiteUrl": target["siteUrl"]}
