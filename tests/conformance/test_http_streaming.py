"""An answer that streams over HTTP while mutations store it: a reader who drops and comes back sees all of it."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ROOT, Program, Server, javascript, running, start_serve

GUIDE = (ROOT / "docs" / "howto" / "streaming.md").read_text(encoding="utf-8")
WORDS = [f"word{number} " for number in range(60)]
DROPPED_AFTER = 20
MODEL = f"""
import asyncio
from pathlib import Path

GATE = Path(__file__).parent / "gate"

async def parts_of(question):
    for number in range({len(WORDS)}):
        while number > {DROPPED_AFTER + 5} and not GATE.exists():
            await asyncio.sleep(0.01)
        yield f"word{{number}} "
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The project of the guide, with a model that stops until it is told to go on."""
    app = tmp_path / "app"
    files = dict(re.findall(r"^`([\w/]+\.py)`[^`]*?(?:`[^`]*`[^`]*)?:\n\n```python\n(.*?)```", GUIDE, re.M | re.S))
    files["functions/lib/model.py"] = MODEL
    assert set(files) == {"schema.py", "functions/answers.py", "functions/http.py", "functions/lib/model.py"}
    for name, text in files.items():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(text, encoding="utf-8")
    server = start_serve(app, "--data", tmp_path / "data")
    with running(server):
        yield server


def ask(server: Server) -> str:
    body = {"path": "answers:ask", "args": {"question": "Why?"}, "format": "json"}
    answer = httpx.post(f"{server.url}/api/mutation", json=body, trust_env=False).json()
    return str(answer["value"])


def watch(server: Server, answer: str) -> Program:
    return javascript("js_live", server.url, "answers:read", json.dumps({"answer": answer}))


def values(reader: Program) -> list[Any]:
    return [json.loads(line)["value"] for line in list(reader.out) if line.startswith("{")]


def test_a_reader_who_drops_in_the_middle_sees_all_of_it_later(server: Server) -> None:
    answer = ask(server)
    seen = ""
    with httpx.stream("POST", f"{server.site_url}/answer", json={"answer": answer}, trust_env=False) as response:
        assert response.status_code == 200
        for text in response.iter_text():
            seen += text
            if seen.count(" ") >= DROPPED_AFTER:
                break
    assert "".join(WORDS).startswith(seen), "in order, each once"

    reader = watch(server, answer)
    with running(reader):
        reader.wait_for(lambda _: values(reader), "a first result")
        assert values(reader)[0]["text"].startswith(seen), "what was seen is stored"
        assert not values(reader)[0]["is_done"]
        (server.cwd / "functions" / "lib" / "gate").touch()
        reader.wait_for(lambda _: values(reader)[-1]["is_done"], "the end of the answer")
        texts = [value["text"] for value in values(reader)]
    assert texts[-1] == "".join(WORDS)
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    again = httpx.post(f"{server.site_url}/answer", json={"answer": answer}, trust_env=False)
    assert again.status_code == 409


def test_a_reader_who_stays_gets_all_of_it_from_the_stream(server: Server) -> None:
    (server.cwd / "functions" / "lib" / "gate").touch()
    answer = ask(server)
    url = f"{server.site_url}/answer"
    response = httpx.post(url, json={"answer": answer}, headers={"origin": "https://app.example"}, trust_env=False)
    assert response.text == "".join(WORDS)
    assert response.headers["access-control-allow-origin"] == "*"
    reader = watch(server, answer)
    with running(reader):
        reader.wait_for(lambda _: values(reader) and values(reader)[-1]["is_done"], "the stored answer")
    assert values(reader)[-1]["text"] == "".join(WORDS)
