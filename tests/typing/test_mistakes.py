"""Type mistakes as tests: each marked line fails to check, for the marked reason, and no other line does."""

import re
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).with_name("functions.py")


def test_exactly_the_marked_lines_are_mistakes() -> None:
    expected = {
        (number, found.group(1))
        for number, line in enumerate(FILE.read_text(encoding="utf-8").splitlines(), 1)
        if (found := re.search(r"# expect: ([\w-]+)$", line))
    }
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary", str(FILE)]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    reported = {
        (int(found.group(1)), found.group(2))
        for found in re.finditer(r"functions\.py:(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE)
    }
    assert reported == expected, output
