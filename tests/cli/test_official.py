"""Every command and flag of the official command line is one of ours, or answered with what to do instead."""

import pytest

from docs.generate import official_commands
from reactor.cli.main import commands
from reactor.cli.official import COMMANDS, FLAGS, answer_to
from reactor.cli.target import find_target
from tests.servers import REACTOR, ROOT, Program, running

OURS = commands()
HIDDEN = ("--preview-name", "--deployment-name")  # in no help


@pytest.mark.parametrize(("command", "flags"), sorted(official_commands().items()))
def test_nobody_is_left_without_an_answer(command: str, flags: list[str]) -> None:
    if command not in OURS:
        is_group = any(name.startswith(f"{command} ") for name in OURS)
        assert is_group or "has no meaning here." in (answer_to(command.split(), OURS) or "")
        return
    assert answer_to(command.split(), OURS) is None
    for flag in (*flags, *HIDDEN):
        told = answer_to([*command.split(), flag, "x"], OURS)
        assert (told is None) == (flag in OURS[command]), flag
        assert told is None or (flag in told and FLAGS[flag] in told)


def test_our_own_words_go_through() -> None:
    for typed in ("", "--help", "run login", "env get login", "run a:b -- --prod", "nonsense"):
        assert answer_to(typed.split(), OURS) is None
    assert FLAGS["--prod"] in (answer_to(["data", "messages", "--prod=1"], OURS) or "")
    assert COMMANDS["deployment token"] in (answer_to(["deployment", "token", "create", "x"], OURS) or "")


@pytest.mark.parametrize("args", [("login",), ("data", "--prod"), ("deploy-key", "create")])
def test_it_is_one_message_and_the_code_of_a_wrong_option(args: tuple[str, ...]) -> None:
    program = Program([*REACTOR, *args], cwd=ROOT)
    with running(program):
        assert program.finish() == 2, program.transcript()
    assert (program.out, len(program.err), program.err[0].startswith("error: `")) == ([], 1, True)


def test_a_key_of_the_cloud_is_ignored_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {
        "CONVEX_DEPLOY_KEY": "prod:x|y",
        "CONVEX_SELF_HOSTED_URL": "http://127.0.0.1:1",
        "CONVEX_SELF_HOSTED_ADMIN_KEY": "k",
    }
    target = find_target(None, None, environ, ROOT)
    assert (target.url, target.admin_key) == ("http://127.0.0.1:1", "k")
    assert "CONVEX_DEPLOY_KEY is ignored" in capsys.readouterr().err
