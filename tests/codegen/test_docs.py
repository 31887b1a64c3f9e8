"""The examples of the page about typed code are a project that loads, runs and is typed as the page says."""

import re
from pathlib import Path

import pytest

from reactor.codegen import files
from reactor.runtime.loader import ProjectLoader
from reactor.testing.deployment import MemoryDeployment
from tests.servers import ROOT

PAGE = ROOT / "docs" / "howto" / "typed-code.md"
SCHEMA = """
from reactor import define_schema, define_table, v

schema = define_schema({"channels": define_table({"name": v.string(), "topic": v.optional(v.string())})})
"""


@pytest.mark.asyncio
async def test_the_functions_of_the_page(tmp_path: Path) -> None:
    functions = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "messages.py").write_text(functions)
    (tmp_path / "schema.py").write_text(SCHEMA)
    files.begin(tmp_path)
    project = ProjectLoader(tmp_path).load()
    stub = files.generated_files(project, tmp_path)[tmp_path / "_generated" / "__init__.pyi"]
    assert "def channel(_self, /, *, id: ChannelsId) -> ChannelsDoc | None: ..." in stub
    async with MemoryDeployment(project, tmp_path) as deployment:
        channel = await deployment.mutation("messages:make_channel", {"name": "general"})
        found = await deployment.query("messages:channel", {"id": channel})
        assert isinstance(found, dict)
        assert found["name"] == "general"
