"""What a server reads from its environment: nothing set is ever ignored."""

from pathlib import Path

import pytest

from reactor.cli.settings import find_project, read_settings
from reactor.errors import InvalidArgument, PushError
from reactor.limits import Limits

ORIGINS = {"CONVEX_CLOUD_ORIGIN": "https://api.example.com", "CONVEX_SITE_ORIGIN": "https://example.com/http"}


def test_nothing_set_gives_the_defaults() -> None:
    settings = read_settings({})
    assert settings.limits == Limits()
    assert settings.instance_name is None
    assert settings.instance_secret is None
    assert not settings.redact_logs


def test_everything_is_read() -> None:
    settings = read_settings(
        {
            **ORIGINS,
            "INSTANCE_NAME": "mine",
            "INSTANCE_SECRET": "ab" * 32,
            "REDACT_LOGS_TO_CLIENT": "true",
            "REACTOR_PING_SECONDS": "5",
        },
        needs_origins=True,
    )
    assert (settings.instance_name, settings.instance_secret, settings.redact_logs) == ("mine", "ab" * 32, True)
    assert settings.limits.ping_seconds == 5
    assert (settings.cloud_origin, settings.site_origin) == tuple(ORIGINS.values())


def test_a_server_is_reached_where_it_listens_unless_the_environment_says_otherwise(tmp_path: Path) -> None:
    def origins(environ: dict[str, str], address: str | None = "http://127.0.0.1:4000") -> tuple[str, str]:
        deployment = read_settings(environ).deployment(tmp_path, ":memory:", address=address)
        return deployment.origins.cloud, deployment.origins.site

    assert origins({}, None) == ("http://127.0.0.1:3210", "http://127.0.0.1:3210/http")
    assert origins({}) == ("http://127.0.0.1:4000", "http://127.0.0.1:4000/http")
    assert origins(ORIGINS) == tuple(ORIGINS.values())
    assert origins({"CONVEX_CLOUD_ORIGIN": "https://api.example.com/"}) == (
        "https://api.example.com",
        "https://api.example.com/http",
    )


def test_the_deployment_name_stands_in_for_the_instance_name() -> None:
    assert read_settings({"CONVEX_DEPLOYMENT_NAME": "mine"}).instance_name == "mine"


@pytest.mark.parametrize("missing", sorted(ORIGINS))
def test_a_missing_origin_is_named(missing: str) -> None:
    environ = {name: value for name, value in ORIGINS.items() if name != missing}
    with pytest.raises(InvalidArgument, match=f"{missing} is not set"):
        read_settings(environ, needs_origins=True)
    read_settings(environ)


@pytest.mark.parametrize("value", ["example.com", "ftp://example.com", "http://", "https:///x"])
@pytest.mark.parametrize("variable", sorted(ORIGINS))
def test_an_origin_is_an_address(variable: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=variable):
        read_settings({**ORIGINS, variable: value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [("REDACT_LOGS_TO_CLIENT", "yes"), ("REACTOR_PING_SECONDS", "soon"), ("REACTOR_PING_SECONDS", "0")],
)
def test_a_malformed_value_is_named(variable: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{variable}='?{value}"):
        read_settings({variable: value})


def test_a_folder_without_a_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="reactor init"):
        find_project(tmp_path)


def test_a_project_may_lie_where_its_pyproject_says(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.reactor]\nfunctions = "backend"\n')
    (tmp_path / "backend").mkdir()
    assert find_project(tmp_path) == tmp_path.resolve()


def test_how_often_runs_are_repeated(tmp_path: Path) -> None:
    """The environment goes before the project, and `serve` repeats nothing."""
    assert read_settings({}).deployment(tmp_path, ":memory:", development=True).limits.determinism_sample == 50
    (tmp_path / "pyproject.toml").write_text("[tool.reactor]\ndeterminism_sample = 7\n")
    assert read_settings({}).deployment(tmp_path, ":memory:", development=True).limits.determinism_sample == 7
    settings = read_settings({"REACTOR_DETERMINISM_SAMPLE": "3"})
    assert settings.deployment(tmp_path, ":memory:", development=True).limits.determinism_sample == 3
    (tmp_path / "pyproject.toml").write_text("[tool.reactor]\ndeterminism_sample = -1\n")
    with pytest.raises(PushError, match="determinism_sample"):
        read_settings({}).deployment(tmp_path, ":memory:", development=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("development", [False, True])
async def test_only_development_repeats_runs(tmp_path: Path, development: bool) -> None:
    settings = read_settings({"REACTOR_DETERMINISM_SAMPLE": "1"})
    deployment = settings.deployment(tmp_path, ":memory:", development=development)
    await deployment.open(load=False)
    try:
        assert deployment._host is not None
        assert (deployment._host.sampler is not None) is development
    finally:
        await deployment.close()
