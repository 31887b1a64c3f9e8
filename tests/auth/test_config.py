"""Providers: what can be declared, and that what can't is refused where it is written."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reactor.auth.config import AuthConfig, Declared, auth_config, custom_jwt, oidc
from reactor.errors import AuthConfigInvalid, PushError
from reactor.runtime.loader import ProjectLoader

CUSTOM = {"issuer": "https://issuer.example", "jwks": "https://issuer.example/keys", "algorithm": "ES256"}
EMPTY_JWKS = "data:text/plain;base64," + base64.b64encode(b'{"keys":[]}').decode()


class Variable:
    """What `env.ref("NAME")` is to a provider."""

    def __init__(self, name: str) -> None:
        self.name = name

    def resolve(self, environment: Mapping[str, str], /) -> str:
        if self.name not in environment:
            raise Missing(self.name)
        return environment[self.name]


class Missing(KeyError):
    """Says more than the name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no {name}: set it")


def test_issuers_are_normalised_and_keep_their_order() -> None:
    config = auth_config([oidc(domain="one.example/", application_id="app"), custom_jwt(**CUSTOM)])
    first, second = config.resolve({})
    assert (first.kind, first.issuer, first.application_id, first.jwks) == ("oidc", "https://one.example", "app", None)
    assert (second.kind, second.issuer, second.algorithms) == ("customJwt", CUSTOM["issuer"], ("ES256",))
    assert second.jwks == CUSTOM["jwks"]


def test_a_value_may_come_from_the_environment() -> None:
    config = auth_config([oidc(domain=Variable("DOMAIN"), application_id=Variable("APP"))])
    assert config.resolve({"DOMAIN": "a.example", "APP": "x"})[0].issuer == "https://a.example"
    with pytest.raises(AuthConfigInvalid, match="domain= needs the environment variable DOMAIN, which") as refused:
        config.resolve({"APP": "x"})
    assert refused.value.rule == "AuthConfigMissingEnvironmentVariable"
    with pytest.raises(AuthConfigInvalid, match="domain='ftp://x'"):
        config.resolve({"DOMAIN": "ftp://x", "APP": "x"})


WRONG: dict[str, Callable[[], object]] = {
    "no list": lambda: auth_config("providers"),  # type: ignore[arg-type]
    "a dict": lambda: auth_config([{"domain": "https://x", "applicationID": "y"}]),  # type: ignore[list-item]
    "no text": lambda: oidc(domain=7, application_id="x"),  # type: ignore[arg-type]
    "empty domain": lambda: oidc(domain="", application_id="x"),
    "another scheme": lambda: oidc(domain="file:///etc", application_id="x"),
    "a user": lambda: oidc(domain="https://user@x.example", application_id="x"),
    "a query": lambda: oidc(domain="https://x.example?a=b", application_id="x"),
    "a line break": lambda: oidc(domain="https://x.example/\r\nHost: y", application_id="x"),
    "a port": lambda: oidc(domain="https://x.example:99999", application_id="x"),
    "empty application": lambda: oidc(domain="https://x.example", application_id=""),
    "algorithm": lambda: custom_jwt(**{**CUSTOM, "algorithm": "HS256"}),
    "none": lambda: custom_jwt(**{**CUSTOM, "algorithm": "none"}),
    "jwks scheme": lambda: custom_jwt(**{**CUSTOM, "jwks": "ftp://x/keys"}),
    "jwks url": lambda: custom_jwt(**{**CUSTOM, "jwks": "https://"}),
    "jwks data": lambda: custom_jwt(**{**CUSTOM, "jwks": "data:application/json,{}"}),
    "jwks without data": lambda: custom_jwt(**{**CUSTOM, "jwks": "data:application/json"}),
    "jwks garbled": lambda: custom_jwt(**{**CUSTOM, "jwks": "data:;base64,%%%"}),
    "jwks empty": lambda: custom_jwt(**{**CUSTOM, "jwks": " "}),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_what_can_not_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(AuthConfigInvalid) as refused:
        make()
    assert refused.value.rule == "AuthConfigNotMatchingSchemaError"


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com/"])
def test_an_issuer_for_everybody_needs_an_application(issuer: str) -> None:
    with pytest.raises(AuthConfigInvalid, match="application_id=") as refused:
        custom_jwt(**{**CUSTOM, "issuer": issuer})
    assert refused.value.rule == "InsecureConfiguration"
    assert isinstance(custom_jwt(**{**CUSTOM, "issuer": issuer}, application_id="mine"), Declared)


PUSHES: list[tuple[str, str]] = [
    ("x = 1\n", r"functions/auth_config\.py: AuthConfigMissingExportError: it must export `auth`"),
    ("auth = []\n", r"functions/auth_config\.py: .*must export `auth`, made with auth_config"),
    (
        "from reactor import auth_config, oidc\n\nauth = auth_config([oidc(domain='', application_id='x')])\n",
        r"functions/auth_config\.py:3: AuthConfigNotMatchingSchemaError: domain=''",
    ),
    (
        "from reactor import auth_config, custom_jwt\nauth = auth_config([\n    custom_jwt(issuer='https://gitlab.com',\n"
        "               jwks='https://gitlab.com/k', algorithm='RS256')])\n",
        r"functions/auth_config\.py:3: InsecureConfiguration: https://gitlab\.com",
    ),
    (
        "from reactor import auth_config, custom_jwt\n"
        "auth = auth_config([custom_jwt(issuer='https://x.example', jwks='keys.json', algorithm='RS256')])\n",
        r"functions/auth_config\.py: AuthConfigNotMatchingSchemaError: jwks='keys\.json': there is no such file",
    ),
]


def load(folder: Path, source: str | None, **files: str) -> AuthConfig | None:
    (folder / "functions").mkdir()
    if source is not None:
        (folder / "functions" / "auth_config.py").write_text(source)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    project = ProjectLoader(folder).load()
    try:
        return project.auth
    finally:
        project.release()


@pytest.mark.parametrize(("source", "message"), PUSHES)
def test_a_push_names_file_and_line(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(PushError, match=message):
        load(tmp_path, source)


def test_a_project_exports_its_providers(tmp_path: Path) -> None:
    source = (
        "from reactor import auth_config, custom_jwt\n"
        f"auth = auth_config([custom_jwt(issuer='a', jwks='keys.json', algorithm='RS256'),\n"
        f"                    custom_jwt(issuer='b', jwks={EMPTY_JWKS!r}, algorithm='EdDSA')])\n"
    )
    config = load(tmp_path, source, keys_json='{"keys": []}')
    assert config is not None
    assert [provider.issuer for provider in config.resolve({})] == ["https://a", "https://b"]


def test_without_the_module_there_are_none(tmp_path: Path) -> None:
    assert load(tmp_path, None) is None


def test_providers_are_shown_without_surprises() -> None:
    declared: list[Any] = [oidc(domain="https://a.example", application_id="x"), custom_jwt(**CUSTOM)]
    assert [str(provider) for provider in auth_config(declared).resolve({})] == [
        "oidc(domain='https://a.example', application_id='x')",
        "custom_jwt(issuer='https://issuer.example', algorithm='ES256')",
    ]
