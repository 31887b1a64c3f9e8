"""Declaring row rules: what a project may say, and where it is told what is wrong."""

from pathlib import Path

import pytest

from reactor.errors import PushError
from tests.runtime.projects import loaded

HEAD = """\
from reactor import define_rules, define_schema, define_table, v
schema = define_schema({"messages": define_table({"text": v.string()})})
"""


def files(rules: str) -> dict[str, str]:
    return {"schema.py": HEAD + rules, "functions/empty.py": ""}


@pytest.mark.parametrize(
    ("rules", "line", "text"),
    [
        ('rules = {"messages": {}}', None, "`rules` of a schema module must be made with define_rules({...})"),
        ("rules = define_rules([])", 3, "define_rules takes a dict of tables"),
        ('rules = define_rules({"messages": lambda ctx, doc: True})', 3, "the rules of table 'messages' are a dict"),
        (
            'rules = define_rules({\n    "mesages": {\n        "read": lambda ctx, doc: True}})',
            5,
            "there are rules for a table 'mesages' that the schema does not have. Did you mean 'messages'?",
        ),
        (
            'rules = define_rules({\n    "users": {}})',
            3,
            "there are rules for a table 'users' that the schema does not have. It has: messages.",
        ),
        (
            'rules = define_rules({"_storage": {"read": lambda ctx, doc: True}})',
            3,
            "rules are for tables of the schema, not for the system table '_storage'",
        ),
        (
            'rules = define_rules({"messages": {\n    "raed": lambda ctx, doc: True}})',
            4,
            "the rules of table 'messages' have no operation 'raed'. Did you mean 'read'?",
        ),
        (
            'rules = define_rules({"messages": {"modify": 1}})',
            3,
            "the rules of table 'messages' have no operation 'modify'. The operations are: delete, insert, read, ",
        ),
        (
            'rules = define_rules({"messages": {"read": True}})',
            3,
            "the read rule of table 'messages' is a function of (ctx, doc), not bool",
        ),
        (
            'def changed(ctx, doc):\n    return True\nrules = define_rules({"messages": {"update": changed}})',
            3,
            "the update rule of table 'messages' is called with (ctx, old, new), but it takes (ctx, doc)",
        ),
        (
            'rules = define_rules({"messages": {}}, user=lambda: None)',
            3,
            "user= is called with (ctx), but it takes ()",
        ),
    ],
)
def test_a_mistake_is_a_push_error_at_its_line(tmp_path: Path, rules: str, line: int | None, text: str) -> None:
    with pytest.raises(PushError) as refused, loaded(tmp_path, files(rules)):
        pass

    assert refused.value.line == line
    place = "schema.py: " if line is None else f"schema.py:{line}: "
    assert str(refused.value).startswith(place + text)


def test_a_rule_from_another_module_is_blamed_there(tmp_path: Path) -> None:
    project = files('from functions.rules import *\nrules = define_rules({"mesages": {"read": everybody}})')
    project["functions/rules.py"] = "\ndef everybody(ctx, doc):\n    return True\n"

    with pytest.raises(PushError, match=r"^functions/rules\.py:2: there are rules for a table 'mesages'"):
        with loaded(tmp_path, project):
            pass


def test_a_project_may_have_no_rules(tmp_path: Path) -> None:
    with loaded(tmp_path / "one", files("")) as project:
        assert project.rules is None
    with loaded(tmp_path / "two", {"functions/empty.py": ""}) as project:
        assert project.rules is None


def test_the_digest_follows_what_the_rules_import(tmp_path: Path) -> None:
    project = files('from helpers import yes\nrules = define_rules({"messages": {"read": yes}})')
    digests = []
    for helper in ("def yes(ctx, doc): return True", "def yes(ctx, doc): return True", "def yes(ctx, doc): return 1"):
        with loaded(tmp_path, {**project, "helpers.py": helper}) as found:
            assert found.rules is not None
            digests.append(found.rules.digest)

    assert digests[0] == digests[1] != digests[2]
