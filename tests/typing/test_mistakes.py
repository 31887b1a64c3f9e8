"""Type mistakes as tests: each marked line fails to check, for the marked reasons, and no other line does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("name", ["custom", "functions", "platform", "queries"])
def test_exactly_the_marked_lines_are_mistakes(name: str) -> None:
    file = FOLDER / f"{name}.py"
    expected = {
        (number, reason)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if (found := re.search(r"# expect: ([\w,-]+)$", line))
        for reason in found.group(1).split(",")
    }
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary", str(file)]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    reported = {
        (int(found.group(1)), found.group(2))
        for found in re.finditer(rf"{name}\.py:(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE)
    }
    assert reported == expected, output
