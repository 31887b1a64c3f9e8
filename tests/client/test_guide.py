"""The examples of the clients' page run, against the project that `reactor init` makes."""

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

from tests.servers import REACTOR, ROOT, Program, running, start_dev


def test_the_examples_run(tmp_path: Path) -> None:
    init = Program([*REACTOR, "init"], cwd=tmp_path)
    with running(init):
        assert init.finish() == 0, init.transcript()
    page = (ROOT / "docs/reference/client.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    server = start_dev(tmp_path, "--data", ":memory:")
    with running(server):
        names: dict[str, Any] = {}
        body = textwrap.indent(code.replace("http://127.0.0.1:3210", server.url), "    ")
        exec(compile(f"async def main():\n{body}", "client.md", "exec"), names)
        asyncio.run(names["main"]())
