"""What docs/tutorial.md says to type is typed here, and what it says will happen, happens."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import httpx

from tests.servers import REACTOR, ROOT, Program, Server, running, start_dev

TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
RETURNED = "    return await ctx.db.query("


def section(title: str) -> str:
    return re.split(r"^## \d+\. ", TEXT.split(f". {title}\n")[1], flags=re.MULTILINE)[0]


def code(title: str, language: str) -> str:
    found = re.search(rf"^```{re.escape(language)}\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    assert found is not None, f"no block of {language!r} in {title!r}"
    return found[1]


class Newcomer:
    """Somebody who reads the page, with a server on other ports than the page's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: Server | None = None

    def type(self, line: str) -> Program:
        """Start what one line of shell says."""
        for address, ours in self._addresses():
            line = line.replace(address, ours)
        command, *args = shlex.split(line)
        if command == "pytest":
            plain = {"PYTEST_ADDOPTS": ""}
            return Program([sys.executable, "-m", "pytest", "-q", *args], cwd=self.folder, env=plain)
        return Program([*REACTOR, *args] if command == "reactor" else [command, *args], cwd=self.folder)

    def done(self, line: str) -> list[str]:
        """Type a line, wait until it has ended well, and return what it printed."""
        program = self.type(line)
        with running(program):
            assert program.finish() == 0, f"{line}\n{program.transcript()}"
        return program.out

    def save(self, file: str, text: str) -> None:
        """Write a file of the project, and wait until it is served."""
        assert self.server is not None
        seen = len(self.server.out)
        (self.folder / file).write_text(text, encoding="utf-8")
        self.server.wait_for_line("Loaded in", after=seen)

    def save_module(self, title: str, file: str) -> None:
        self.save(file, code(title, f"python {file}"))

    def _addresses(self) -> list[tuple[str, str]]:
        if self.server is None:
            return []
        return [("http://127.0.0.1:3210", self.server.url), ("http://127.0.0.1:3211", self.server.site_url)]


def test_every_step_of_the_tutorial(tmp_path: Path) -> None:
    someone = Newcomer(tmp_path)
    install, create, start = code("Create a project and start it", "sh").splitlines()
    assert (install, start) == ("pip install reactor-db", "reactor dev")
    someone.done(create.removesuffix(" && cd chat"))
    someone.folder = tmp_path / "chat"

    someone.server = start_dev(someone.folder)
    with running(someone.server):
        watch = someone.type(code("Watch a query", "sh").strip())
        with running(watch):
            assert watch.wait_for_line("[]") == 1
            someone.done(code("Change what it reads", "sh").strip())
            watch.wait_for_line('"body":"Hello"')

            messages = someone.folder / "functions" / "messages.py"
            before, line = messages.read_text(encoding="utf-8").split(RETURNED)
            after = line.partition("\n")[2]
            someone.save("functions/messages.py", before + code("Change the code", "python") + after)
            watch.wait_for_line('[{"author":"Ann","body":"Hello"}]')

            someone.save_module("Let something happen later", "functions/reminders.py")
            later = code("Let something happen later", "sh").strip()
            someone.done(later.replace('"seconds": 3', '"seconds": 0'))
            watch.wait_for_line("Tea is ready")

            someone.save_module("Reach the world", "functions/links.py")
            assert someone.done(code("Reach the world", "sh").strip()) == ['"reactor"']
            watch.wait_for_line(f"reactor: {someone.server.url}")

            someone.save_module("Answer the web", "functions/http.py")
            set_secret, call_hook = code("Answer the web", "sh").splitlines()
            someone.done(set_secret)
            assert httpx.post(f"{someone.server.site_url}/hook", json={}, trust_env=False).status_code == 403
            assert shutil.which("curl"), "the page uses curl"
            someone.done(call_hook)
            watch.wait_for_line("Build 7 has passed")

            someone.save_module("Know who is calling", "functions/members.py")
            someone.done(code("Know who is calling", "sh").strip())
            watch.wait_for_line('{"author":"Ben","body":"It is me"}')

    assert code("Test it", "sh").splitlines()[-1] == "pytest"
    assert any("1 passed" in line for line in someone.done("pytest"))
