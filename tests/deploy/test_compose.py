"""The compose file and `.env.example`: of the right form, and about the same variables as code and documentation."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from docs.environment_file import FILE, environment_file
from reactor.cli import database, settings
from reactor.cli.settings import read_settings
from reactor.limits import Limits, knobs
from reactor.server.credentials import DEFAULT_NAME
from tests.deploy.dockerfile import Image, read
from tests.servers import ROOT

COMPOSE = ROOT / "docker-compose.yml"
SETTING = re.compile(r"^#([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)
"""A line of `.env.example`, commented out as all are."""


@pytest.fixture(scope="module")
def compose() -> Any:
    return YAML(typ="safe").load(COMPOSE)


@pytest.fixture(scope="module")
def image() -> Image:
    return read(ROOT / "Dockerfile", sys.executable)


def checked(file: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the schema of the Compose specification, which the checker brings along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def test_compose_is_of_the_right_form(tmp_path: Path) -> None:
    done = checked(COMPOSE)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "health_check:"))
    assert checked(wrong).returncode == 1


def test_the_backend_is_our_image(compose: Any, image: Image) -> None:
    backend = compose["services"]["backend"]
    assert backend["build"] == "."
    assert backend["healthcheck"]["test"][1:] == image.health
    assert [volume.partition(":")[2] for volume in backend["volumes"]] == image.volumes
    assert [port.rpartition(":")[2] for port in backend["ports"]] == image.ports
    assert set(compose["volumes"]) == {"data"}


def test_the_dashboard_is_started_when_the_backend_is_healthy(compose: Any) -> None:
    dashboard = compose["services"]["dashboard"]
    assert "convex-dashboard" in dashboard["image"]
    assert dashboard["depends_on"] == {"backend": {"condition": "service_healthy"}}
    origin = compose["services"]["backend"]["environment"]["CONVEX_CLOUD_ORIGIN"]
    assert dashboard["environment"]["NEXT_PUBLIC_DEPLOYMENT_URL"] == origin


def test_the_image_gets_all_it_copies(image: Image) -> None:
    """`.dockerignore` leaves out everything that it does not name."""
    named = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name.partition("/")[0] for line in copied for name in line.split()} == named


def test_the_example_of_settings_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == environment_file(), "run `make docs`"


def test_the_example_has_every_variable(compose: Any) -> None:
    named = [name for name, _ in SETTING.findall(FILE.read_text(encoding="utf-8"))]
    assert len(named) == len(set(named))
    code = "".join(Path(module.__file__).read_text(encoding="utf-8") for module in (settings, database))
    asked = re.findall(r'"([A-Z][A-Z0-9_]+)"', code)
    limits = {knob.env for knob in knobs().values()}
    interpolated = re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text(encoding="utf-8"))
    application = application_variables()
    assert application
    assert set(named) == {*asked, *limits, *interpolated, *application}


def application_variables() -> set[str]:
    """What the application's pyproject.toml lets it read of the server's environment: constants of its code."""
    patterns = re.search(r"^env = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert patterns is not None
    starts = tuple(pattern.removesuffix("*") for pattern in re.findall(r'"(.*?)"', patterns[1]))
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "functions").rglob("*.py"))
    return {
        name for name in re.findall(r'^\w+: Final = "([A-Z][A-Z0-9_]+)"', code, re.MULTILINE) if name.startswith(starts)
    }


def test_the_example_says_what_is_so_without_it() -> None:
    """With every line of it in force a server starts, and its limits are the defaults."""
    found = dict(SETTING.findall(FILE.read_text(encoding="utf-8")))
    read = read_settings(found, needs_origins=True)
    assert read.limits == Limits()
    assert (read.cloud_origin, read.site_origin) == ("https://api.example.com", "https://site.example.com")
    assert read.instance_name == DEFAULT_NAME
    assert read_settings({}).limits == Limits()
