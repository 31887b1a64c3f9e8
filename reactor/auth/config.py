"""Which issuers a deployment takes tokens from: what `functions/auth_config.py` exports.

Owns the shape of that declaration and its rules. Promises that a value which is known when the file is loaded is
checked at the user's line, and one that comes from the environment when the project is pushed and whenever it is used,
so that a resolved `Provider` is always well-formed. Used by the loader and the authenticator.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from reactor.errors import AuthConfigInvalid

OIDC_ALGORITHMS: Final = ("RS256", "EdDSA")
CUSTOM_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")

WRONG_SHAPE: Final = "AuthConfigNotMatchingSchemaError"
MISSING_EXPORT: Final = "AuthConfigMissingExportError"
MISSING_VARIABLE: Final = "AuthConfigMissingEnvironmentVariable"
INSECURE: Final = "InsecureConfiguration"

# Issuers that sign tokens for everybody's applications alike: who does not look at `aud` lets all of them in.
_SHARED: Final = frozenset(
    """https://accounts.google.com https://appleid.apple.com https://www.facebook.com https://gitlab.com
    https://slack.com https://id.twitch.tv/oauth2 https://www.linkedin.com/oauth https://api.workos.com
    https://token.actions.githubusercontent.com https://login.microsoftonline.com/common/v2.0
    https://login.microsoftonline.com/organizations/v2.0 https://login.microsoftonline.com/consumers/v2.0
    https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0""".split()
)


@runtime_checkable
class Deferred(Protocol):
    """A text that is known only with the environment of the deployment, such as `env.ref("AUTH_DOMAIN")`."""

    def resolve(self, environment: Mapping[str, str], /) -> str:
        """Return the text.

        Raises:
            KeyError: a variable is not set; its `name`, or its only argument, is the name.
        """


Text = str | Deferred


class Provider(msgspec.Struct, frozen=True):
    """One issuer, with everything known.

    `issuer` is normalised (see `normal_issuer`). `jwks` is where its keys are: None for an OIDC provider, which says so
    in its discovery document. `application_id` is None when tokens for any audience are taken.
    """

    kind: Literal["oidc", "customJwt"]
    issuer: str
    algorithms: tuple[str, ...]
    application_id: str | None = None
    jwks: str | None = None

    def __str__(self) -> str:
        audience = f", application_id={self.application_id!r}" if self.application_id is not None else ""
        if self.kind == "oidc":
            return f"oidc(domain={self.issuer!r}{audience})"
        return f"custom_jwt(issuer={self.issuer!r}, algorithm={self.algorithms[0]!r}{audience})"


class Declared(msgspec.Struct, frozen=True):
    """One provider as it was written; made by `oidc` and `custom_jwt`."""

    kind: Literal["oidc", "customJwt"]
    fields: dict[str, Text]

    def resolve(self, environment: Mapping[str, str]) -> Provider:
        """Return the provider with the values that `environment` gives it.

        Raises:
            AuthConfigInvalid: a variable is not set, or gives something that can't be.
        """
        fields = {name: _resolved(name, value, environment) for name, value in self.fields.items()}
        application_id = fields.get("application_id")
        if application_id == "":
            raise AuthConfigInvalid(WRONG_SHAPE, "application_id is empty; leave it out to take tokens for anybody.")
        if self.kind == "oidc":
            return Provider("oidc", _checked_issuer("domain", fields["domain"]), OIDC_ALGORITHMS, application_id)
        issuer = _checked_issuer("issuer", fields["issuer"], url=False)
        if application_id is None and issuer in _SHARED:
            raise AuthConfigInvalid(
                INSECURE,
                f"{issuer} signs tokens for many applications: without application_id= a token made for any of them "
                "would be taken.",
            )
        algorithm = fields["algorithm"]
        if algorithm not in CUSTOM_ALGORITHMS:
            raise AuthConfigInvalid(
                WRONG_SHAPE, f"algorithm={algorithm!r} is not one of {', '.join(CUSTOM_ALGORITHMS)}."
            )
        return Provider("customJwt", issuer, (algorithm,), application_id, _checked_jwks(fields["jwks"]))


class AuthConfig(msgspec.Struct, frozen=True):
    """The providers of a deployment, in the order in which they are asked; made by `auth_config`."""

    providers: tuple[Declared, ...] = ()

    @property
    def is_deferred(self) -> bool:
        """Whether a value depends on the environment."""
        return any(not isinstance(value, str) for declared in self.providers for value in declared.fields.values())

    def resolve(self, environment: Mapping[str, str]) -> tuple[Provider, ...]:
        """Return the providers with the values that `environment` gives them.

        Raises:
            AuthConfigInvalid: a variable is not set, or gives something that can't be.
        """
        return tuple([declared.resolve(environment) for declared in self.providers])


def auth_config(providers: Sequence[Declared], /) -> AuthConfig:
    """Declare whose tokens a deployment takes: `auth = auth_config([oidc(...), custom_jwt(...)])`.

    A token belongs to the first provider with its issuer and one of its audiences.

    Raises:
        AuthConfigInvalid: this is no list of providers.
    """
    if not isinstance(providers, list | tuple):
        raise AuthConfigInvalid(
            WRONG_SHAPE, f"auth_config takes a list of oidc(...) and custom_jwt(...), not {type(providers).__name__}."
        )
    for position, provider in enumerate(providers):
        if not isinstance(provider, Declared):
            raise AuthConfigInvalid(
                WRONG_SHAPE,
                f"Provider {position} must be made with oidc(...) or custom_jwt(...), not {type(provider).__name__}.",
            )
    return AuthConfig(tuple(providers))


def oidc(*, domain: Text, application_id: Text) -> Declared:
    """Declare an OpenID Connect provider, whose keys are found through `{domain}/.well-known/openid-configuration`.

    Args:
        domain: the `iss` of its tokens; `https://` is added when there is no scheme.
        application_id: the `aud` of its tokens.

    Raises:
        AuthConfigInvalid: a value can't be right.
    """
    return _declared("oidc", domain=domain, application_id=application_id)


def custom_jwt(*, issuer: Text, jwks: Text, algorithm: Text, application_id: Text | None = None) -> Declared:
    """Declare an issuer of plain signed JWTs, each with a `kid`.

    Args:
        issuer: the `iss` of its tokens.
        jwks: where its keys are: an http(s) URL, a `data:` URI, or a file, relative to the project.
        algorithm: how it signs: RS256, ES256 or EdDSA; nothing else is taken.
        application_id: the `aud` of its tokens. Without it tokens for any audience are taken.

    Raises:
        AuthConfigInvalid: a value can't be right.
    """
    fields: dict[str, Any] = {"issuer": issuer, "jwks": jwks, "algorithm": algorithm}
    if application_id is not None:
        fields["application_id"] = application_id
    return _declared("customJwt", **fields)


def jwks_file(jwks: str) -> str | None:
    """Return the name of the file that keys are in, relative to the project, or None when they are elsewhere."""
    if jwks.startswith(("http:", "https:", "data:")):
        return None
    return unquote_to_bytes(urlsplit(jwks).path).decode("utf-8", "replace") if jwks.startswith("file://") else jwks


def normal_issuer(text: str) -> str:
    """Return an issuer in the form in which two are compared: with a scheme, without slashes at the end."""
    return (text if "://" in text else f"https://{text}").rstrip("/")


def _declared(kind: Literal["oidc", "customJwt"], **fields: Text) -> Declared:
    for name, value in fields.items():
        if not isinstance(value, Deferred | str):
            raise AuthConfigInvalid(WRONG_SHAPE, f"{name}= must be a string, not {type(value).__name__}.")
    declared = Declared(kind, fields)
    if all(isinstance(value, str) for value in fields.values()):
        declared.resolve({})
    return declared


def _resolved(name: str, value: Text, environment: Mapping[str, str]) -> str:
    if isinstance(value, str):
        return value
    try:
        found = value.resolve(environment)
    except KeyError as error:
        variable = getattr(error, "name", error.args[0])
        raise AuthConfigInvalid(
            MISSING_VARIABLE,
            f"{name}= needs the environment variable {variable}, which is not set. "
            f"Set it with: reactor env set {variable}=… (or in the server's process, listed in [tool.reactor] env)",
        ) from None
    if not isinstance(found, str):
        raise AuthConfigInvalid(WRONG_SHAPE, f"{name}= must give a string, not {type(found).__name__}.")
    return found


def _checked_issuer(name: str, text: str, *, url: bool = True) -> str:
    issuer = normal_issuer(text)
    if not text.strip() or (url and not is_http_url(issuer)):
        raise AuthConfigInvalid(
            WRONG_SHAPE, f"{name}={text!r} must be the address of an issuer, such as https://accounts.example.com."
        )
    return issuer


def _checked_jwks(text: str) -> str:
    if text.startswith(("http:", "https:")):
        good = is_http_url(text, query=True)
    elif text.startswith("data:"):
        try:
            good = isinstance(msgspec.json.decode(data_of(text), type=dict).get("keys"), list)
        except (ValueError, RecursionError):
            good = False
    elif "://" in text:
        good = text.startswith("file://")
    else:
        good = bool(text.strip()) and "\0" not in text
    if not good:
        raise AuthConfigInvalid(
            WRONG_SHAPE,
            f"jwks={text[:200]!r} must be an http(s) URL, a data: URI with a JWKS, or a file of the project.",
        )
    return text


def is_http_url(text: str, *, query: bool = False) -> bool:
    """Return whether `text` is an http(s) URL with a host, and without user, fragment or (unless allowed) query."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = parts.username is None and not parts.fragment and (query or not parts.query) and port != 0
    printable = text.isascii() and text.isprintable() and not set(text) & set(' "<>\\^`{|}')
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and printable


def data_of(uri: str) -> bytes:
    """Return the bytes in a `data:` URI.

    Raises:
        ValueError: it is none.
    """
    head, comma, body = uri.partition(",")
    if not comma:
        raise ValueError("a data: URI has a comma before its data")
    data = unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
