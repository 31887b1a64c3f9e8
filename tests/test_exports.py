"""The public names are those of the design, each can be had, and having one loads no more than it needs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import reactor
import reactor.client
from reactor.runtime import references

# Everything the design makes public. Names of features that do not exist yet are not exported.
PUBLIC = frozenset(
    """define_schema define_table v query mutation action internal_query internal_mutation internal_action http_action
    api internal components env undefined Int64 Error ReactorError ConvexError QueryCtx MutationCtx ActionCtx Request
    Response http_router cron_jobs define_app define_component define_rules define_triggers Change auth_config oidc
    custom_jwt pagination_opts_validator Deployment""".split()
)
LATER: frozenset[str] = frozenset()


def test_the_public_names_are_the_designed_ones() -> None:
    assert set(reactor.__all__) == PUBLIC - LATER
    assert dir(reactor) == sorted(reactor.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC - LATER))
def test_each_name_can_be_had(name: str) -> None:
    assert getattr(reactor, name) is not None


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(reactor.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(reactor.__all__)


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tabel'"):
        reactor.tabel  # noqa: B018


def test_the_client_package_has_both_clients() -> None:
    assert set(reactor.client.__all__) == {"BlockingClient", "Client"}


@pytest.mark.parametrize("module", ["reactor", "reactor.testing.plugin"])
def test_importing_it_loads_nothing_of_reactor(module: str) -> None:
    """pytest imports the plugin wherever reactor is installed, also for projects that don't use it."""
    code = f"import {module}, sys; print(*sorted(m for m in sys.modules if m.startswith('reactor.')))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert set(loaded) <= {"reactor.testing", "reactor.testing.plugin"}


def test_the_client_loads_no_engine() -> None:
    code = "import reactor.client, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    heavy = ("reactor.engine", "reactor.runtime", "reactor.server", "reactor.storage", "starlette", "uvicorn")
    assert not [name for name in loaded if name.startswith(heavy)]


def test_the_package_of_components_does_not_hide_the_references() -> None:
    package = importlib.import_module("reactor.components")
    assert package.__name__ == "reactor.components"
    assert reactor.components is references.components
