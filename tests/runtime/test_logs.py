"""Tests of log lines: their shape, their limits, and what `print` and `logging` do where."""

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.limits import MAX_LOG_LINE_BYTES, MAX_LOG_LINES
from reactor.runtime.determinism import Ambient, install
from reactor.runtime.logs import OVERFLOW, TRUNCATED, LogBuffer, console, level_name, record_text
from tests.runtime.projects import inside, loaded


def test_lines_past_the_limit_are_replaced_by_one() -> None:
    log = LogBuffer()
    for number in range(2 * MAX_LOG_LINES):
        log.add("LOG", str(number))
    assert len(log) == MAX_LOG_LINES
    assert log.lines[-2:] == ("[LOG] '254'", OVERFLOW)
    assert OVERFLOW == "[ERROR] Log overflow (maximum 256). Remaining log lines omitted."


@given(st.text(), st.sampled_from(["", "a", "é", "😀"]))
def test_every_line_is_bounded_and_can_be_sent(text: str, filler: str) -> None:
    log = LogBuffer()
    log.add("WARN", text + filler * MAX_LOG_LINE_BYTES)
    (line,) = log.lines
    body = line.removeprefix("[WARN] ").removesuffix(TRUNCATED)
    assert len(body.encode()) <= MAX_LOG_LINE_BYTES
    assert line.endswith(TRUNCATED) == bool(filler)
    if not filler:
        assert body == f"'{text}'"


def test_a_lone_surrogate_leaves_as_a_question_mark() -> None:
    log = LogBuffer()
    log.add("LOG", "a\ud800b")
    assert log.lines == ("[LOG] 'a?b'",)


@pytest.fixture
def log() -> Iterator[LogBuffer]:
    install()
    buffer = LogBuffer()
    with inside(Ambient("action", 10**18, buffer)):
        yield buffer


def test_print_makes_a_line(log: LogBuffer) -> None:
    print_ = console(lambda: log)
    print_("a", 1, None, sep="-")
    print_("no newline", end="")
    print_()
    print_("oops", file=sys.stderr)
    print_("two\nlines", file=sys.stdout)
    assert log.lines == ("[LOG] 'a-1-None'", "[LOG] 'no newline'", "[LOG] ''", "[ERROR] 'oops'", "[LOG] 'two\nlines'")


def test_print_to_a_file_or_outside_is_plain(log: LogBuffer, capsys: pytest.CaptureFixture[str]) -> None:
    target = io.StringIO()
    console(lambda: log)("to a file", file=target)
    console(lambda: None)("plain", "words", end="!")
    assert (target.getvalue(), log.lines, capsys.readouterr().out) == ("to a file\n", (), "plain words!")


def test_printing_in_a_function_of_a_project(tmp_path: Path, log: LogBuffer) -> None:
    with loaded(tmp_path, {"functions/m.py": "def check():\n    print('hello')\n"}) as project:
        project.modules["functions.m"].check()
    assert log.lines == ("[LOG] 'hello'",)


def test_logging_at_every_level_in_user_code(tmp_path: Path, log: LogBuffer) -> None:
    source = """
        import logging
        log = logging.getLogger(__name__)
        other = logging.getLogger("anything")
        quiet = logging.getLogger("reactor_tests_quiet")
        quiet.setLevel(logging.ERROR)

        def check():
            logging.debug("a %s", 1)
            logging.info("b")
            log.debug("c")
            other.warning("d")
            quiet.warning("not this")
            try:
                1 / 0
            except ZeroDivisionError:
                log.exception("e")
    """
    with loaded(tmp_path, {"functions/m.py": source}) as project:
        project.modules["functions.m"].check()
    *lines, failed = log.lines
    assert lines == ["[DEBUG] 'a 1'", "[INFO] 'b'", "[DEBUG] 'c'", "[WARN] 'd'"]
    assert failed.startswith("[ERROR] 'e\nTraceback")
    assert failed.endswith("ZeroDivisionError: division by zero'")


def test_a_bad_format_string_gives_its_parts() -> None:
    record = logging.LogRecord("x", logging.ERROR, "file", 1, "%d", ("no number",), None)
    assert record_text(record) == "%d ('no number',)"


def test_libraries_are_heard_at_their_own_level(log: LogBuffer) -> None:
    logger = logging.getLogger("reactor_tests_library")
    logger.info("not heard")
    logger.warning("heard")
    assert log.lines == ("[WARN] 'heard'",)


def test_what_the_engine_logs_is_for_the_operator(log: LogBuffer, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("reactor.engine").warning("not for clients")
    assert log.lines == ()
    assert [record.getMessage() for record in caplog.records] == ["not for clients"]


def test_disabled_logging_stays_disabled(tmp_path: Path, log: LogBuffer) -> None:
    source = "import logging\ndef check():\n    logging.info('x')\n"
    with loaded(tmp_path, {"functions/m.py": source}) as project:
        logging.disable(logging.INFO)
        try:
            project.modules["functions.m"].check()
        finally:
            logging.disable(logging.NOTSET)
    assert log.lines == ()


def test_logging_does_not_look_at_the_frozen_clock(caplog: pytest.LogCaptureFixture) -> None:
    install()
    surroundings = Ambient("query", 10**18, LogBuffer())
    with inside(surroundings):
        logging.getLogger("reactor_tests_clock").warning("x")
    assert not surroundings.looked_at_clock
    assert caplog.records[-1].created > 1.5e9


def test_logging_outside_of_executions_is_untouched(caplog: pytest.LogCaptureFixture) -> None:
    install()
    with caplog.at_level(logging.INFO):
        logging.getLogger("reactor_tests_outside").info("plain")
    assert [record.getMessage() for record in caplog.records] == ["plain"]


@pytest.mark.parametrize(("level", "name"), [(0, "DEBUG"), (10, "DEBUG"), (20, "INFO"), (35, "WARN"), (50, "ERROR")])
def test_levels_have_names(level: int, name: Any) -> None:
    assert level_name(level) == name
