"""Tokens: true ones are taken, and nothing that differs from one in a byte, a claim or a header."""

import base64
import json
import string
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from reactor.auth.config import Provider
from reactor.auth.keys import KeySet, read_keys
from reactor.auth.token import NOT_A_JWT, read_token
from reactor.auth.verification import (
    NOT_VERIFIED,
    attributes_of,
    check_header,
    expires,
    find_key,
    missing_key,
    select_provider,
    verify,
)
from reactor.errors import Unauthenticated
from reactor.limits import MAX_TOKEN_BYTES
from tests.auth.issuer import jwks, private_key, public_jwk, sign

NOW = 1_800_000_000
NOW_NS = NOW * 10**9
ISSUER = "https://issuer.example"
OIDC = Provider("oidc", ISSUER, ("RS256", "EdDSA"), "app")
KINDS = ("RS256", "ES256", "EdDSA")
CUSTOM = {kind: Provider("customJwt", ISSUER, (kind,), "app", ISSUER + "/keys") for kind in KINDS}
ANY_AUDIENCE = Provider("customJwt", ISSUER, ("RS256",), None, ISSUER + "/keys")
KEYS = read_keys(jwks(*(public_jwk(kind) for kind in KINDS)))
CLAIMS = {"iss": ISSUER, "aud": "app", "sub": "ann", "exp": NOW + 60, "iat": NOW}


def accepted(text: str, providers: list[Provider], keys: KeySet = KEYS, now_ns: int = NOW_NS) -> dict[str, Any]:
    """Check a token as the authenticator does, and return its attributes."""
    token = read_token(text)
    provider = select_provider(token, providers)
    check_header(token, provider)
    key = find_key(token, provider, keys)
    if key is None:
        raise missing_key(token, provider)
    verify(token, provider, key, now_ns)
    return attributes_of(token, provider)


def refusal(text: str, providers: list[Provider], **options: Any) -> tuple[str, str]:
    with pytest.raises(Unauthenticated) as refused:
        accepted(text, providers, **options)
    assert str(refused.value).startswith(refused.value.summary)
    return refused.value.rule, str(refused.value)


@pytest.mark.parametrize(
    ("kind", "provider"), [("RS256", OIDC), ("EdDSA", OIDC), *CUSTOM.items(), ("RS256", ANY_AUDIENCE)]
)
def test_a_true_token_is_taken(kind: str, provider: Provider) -> None:
    attributes = accepted(sign(CLAIMS, kind), [provider])
    assert attributes == {"subject": "ann", "issuer": ISSUER, "tokenIdentifier": f"{ISSUER}|ann"}


def test_an_issuer_is_the_same_with_a_slash_at_its_end() -> None:
    assert accepted(sign({**CLAIMS, "iss": ISSUER + "/"}), [OIDC])["issuer"] == ISSUER + "/"


def test_the_first_provider_that_fits_is_taken() -> None:
    other = Provider("oidc", ISSUER, ("RS256",), "other")
    assert select_provider(read_token(sign(CLAIMS)), [other, OIDC, ANY_AUDIENCE]) is OIDC


def unsigned(claims: dict[str, Any], **header: Any) -> str:
    parts = [json.dumps({"typ": "JWT", **header}).encode(), json.dumps(claims).encode()]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def confused() -> str:
    """Signed with HS256, the text of the public key being the secret."""
    secret = private_key("RS256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = unsigned(CLAIMS, alg="HS256", kid="RS256-0").rstrip(".")
    signature = jwt.get_algorithm_by_name("HS256").sign(head.encode(), secret)
    return f"{head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in CLAIMS.items() if name != claim}


NO_PROVIDER = r"No auth provider found matching the given token: "
DECODE, VALIDATE = "Could not decode token. ", "Could not validate token: "
# name -> token, what an OIDC provider says, what a provider of plain JWTs says
BAD: dict[str, tuple[str, tuple[str, str], tuple[str, str]]] = {}


def bad(name: str, token: str, oidc: tuple[str, str], custom: tuple[str, str] | None = None) -> None:
    BAD[name] = (token, oidc, oidc if custom is None else custom)


unverified = ("Unauthenticated", NOT_VERIFIED)
bad("another issuer", sign({**CLAIMS, "iss": "https://evil.example"}), ("NoAuthProvider", NO_PROVIDER))
bad("another audience", sign({**CLAIMS, "aud": "theirs"}), ("NoAuthProvider", NO_PROVIDER))
bad("no audience", sign(without("aud")), ("NoAuthProvider", NO_PROVIDER))
bad("no issuer", sign(without("iss")), ("InvalidAuthHeader", "Missing issuer claim ('iss') in JWT payload."))
bad("alg none", unsigned(CLAIMS, alg="none", kid="RS256-0"), unverified, ("InvalidAuthHeader", DECODE))
bad("no alg", unsigned(CLAIMS, kid="RS256-0"), unverified, ("InvalidAuthHeader", DECODE))
bad("HS256 with the public key", confused(), unverified, ("InvalidAuthHeader", DECODE))
bad("expired", sign({**CLAIMS, "exp": NOW - 5}), unverified, ("InvalidAuthHeader", VALIDATE))
bad("no exp", sign(without("exp")), unverified, ("InvalidAuthHeader", VALIDATE))
bad("exp is no number", sign({**CLAIMS, "exp": True}), unverified, ("InvalidAuthHeader", VALIDATE))
bad("future nbf", sign({**CLAIMS, "nbf": NOW + 6}), unverified, ("InvalidAuthHeader", VALIDATE))
bad("nbf is no number", sign({**CLAIMS, "nbf": [1]}), unverified, ("InvalidAuthHeader", VALIDATE))
bad("no sub", sign(without("sub")), unverified, ("InvalidAuthHeader", VALIDATE))
bad("empty sub", sign({**CLAIMS, "sub": ""}), unverified, ("InvalidAuthHeader", VALIDATE))
bad("unknown kid", sign(CLAIMS, kid="new"), unverified, ("InvalidAuthHeader", DECODE + "The issuer has no key"))
bad("crit", sign(CLAIMS, crit=["exp"]), unverified, ("InvalidAuthHeader", DECODE))
bad("another key's signature", sign(CLAIMS, number=1, kid="RS256-0"), unverified, ("InvalidAuthHeader", VALIDATE))
bad("empty", "", ("InvalidAuthHeader", NOT_A_JWT))
bad("two parts", sign(CLAIMS).rpartition(".")[0], ("InvalidAuthHeader", NOT_A_JWT))
bad("four parts", sign(CLAIMS) + ".x", ("InvalidAuthHeader", NOT_A_JWT))
bad("padding", sign(CLAIMS) + "==", ("InvalidAuthHeader", NOT_A_JWT))
bad("a line break", sign(CLAIMS) + "\n", ("InvalidAuthHeader", NOT_A_JWT))
bad("an array", "W10.W10.eA", ("InvalidAuthHeader", NOT_A_JWT))
bad("no JSON", "eHh4.eHh4.eA", ("InvalidAuthHeader", NOT_A_JWT))
bad(
    "nesting", f"W10.{base64.urlsafe_b64encode(b'[' * 6000).rstrip(b'=').decode()}.eA", ("InvalidAuthHeader", NOT_A_JWT)
)
bad(
    "oversized",
    sign({**CLAIMS, "x": "y" * MAX_TOKEN_BYTES}),
    ("InvalidAuthHeader", f"Could not parse JWT payload. The token is larger than {MAX_TOKEN_BYTES} bytes"),
)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_with_its_text(name: str) -> None:
    text, *expected = BAD[name]
    for provider, (rule, start) in zip((OIDC, CUSTOM["RS256"]), expected, strict=True):
        found_rule, found = refusal(text, [provider])
        assert found_rule == rule
        assert found.startswith(start)


def test_an_oidc_token_is_for_one_audience() -> None:
    both = sign({**CLAIMS, "aud": ["app", "other"]})
    assert refusal(both, [OIDC]) == ("Unauthenticated", f"{NOT_VERIFIED} Its audience must be 'app' and nobody else.")
    assert accepted(both, [CUSTOM["RS256"]])["subject"] == "ann"
    assert accepted(sign({**CLAIMS, "aud": ["app"]}), [OIDC])["subject"] == "ann"


def test_a_key_signs_in_one_way_only() -> None:
    """The token can't choose: not among the algorithms of a provider, and not among those of a key."""
    for kind in KINDS:
        for other in KINDS:
            if kind != other:
                assert refusal(sign(CLAIMS, kind), [CUSTOM[other]])[1].startswith(DECODE.rstrip(". "))
                assert refusal(sign(CLAIMS, kind, kid=f"{other}-0"), [CUSTOM[kind]])[1].startswith(DECODE)


def test_without_a_kid_the_key_must_be_the_only_one() -> None:
    text = sign(CLAIMS, kid=None)
    assert accepted(text, [OIDC])["subject"] == "ann"
    two = read_keys(jwks(public_jwk("RS256"), public_jwk("RS256", 1)))
    assert "not exactly one" in refusal(text, [OIDC], keys=two)[1]
    assert refusal(text, [CUSTOM["RS256"]]) == (
        "InvalidAuthHeader",
        "Could not decode token. Its header has no 'kid', which names the key.",
    )


def test_no_provider_tells_what_there_is() -> None:
    text = sign({**CLAIMS, "aud": ["x", "y"]})
    assert refusal(text, []) == (
        "NoAuthProvider",
        "No auth provider found matching the given token (no providers configured). Check functions/auth_config.py.",
    )
    assert refusal(text, [OIDC])[1] == (
        "No auth provider found matching the given token: it has iss='https://issuer.example' and aud=['x', 'y'], and "
        "the configured providers are [oidc(domain='https://issuer.example', application_id='app')]. "
        "Check functions/auth_config.py."
    )


def test_verification_itself_checks_issuer_and_audience() -> None:
    """Whatever the selection has let through."""
    token = read_token(sign(CLAIMS))
    key = KEYS.keys[0]
    for provider, message in [
        (
            Provider("customJwt", "https://b", ("RS256",), None, "x"),
            "Invalid issuer: https://issuer.example != https://b",
        ),
        (Provider("customJwt", ISSUER, ("RS256",), "b", "x"), "Invalid audience: b not in ['app']"),
        (Provider("oidc", "https://b", ("RS256",), "app"), f"{NOT_VERIFIED} It was issued by somebody else."),
    ]:
        with pytest.raises(Unauthenticated) as refused:
            verify(token, provider, key, NOW_NS)
        assert str(refused.value) == message


@pytest.mark.parametrize(("provider", "leeway"), [(OIDC, 0), (CUSTOM["RS256"], 5)])
def test_the_last_moment_of_a_token(provider: Provider, leeway: int) -> None:
    text = sign({**CLAIMS, "exp": NOW + 10, "nbf": NOW})
    last_ns = (NOW + 10 + leeway) * 10**9
    assert expires(read_token(text), provider) == last_ns
    accepted(text, [provider], now_ns=last_ns - 1)
    refusal(text, [provider], now_ns=last_ns)
    accepted(text, [provider], now_ns=(NOW - 5) * 10**9)
    refusal(text, [provider], now_ns=(NOW - 5) * 10**9 - 1)


@pytest.mark.parametrize("exp", [NOW + 0.5, 1e300, 10**30])
def test_any_number_can_be_a_time(exp: float) -> None:
    accepted(sign({**CLAIMS, "exp": exp}), [OIDC])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PROVIDERS = [OIDC, *CUSTOM.values(), ANY_AUDIENCE]
TRUE = {kind: sign(CLAIMS, kind) for kind in KINDS}
CHARACTERS = string.ascii_letters + string.digits + "-_.=+/ \n"


@given(st.sampled_from(KINDS), st.data())
def test_no_text_that_differs_from_a_true_token_is_taken(kind: str, data: st.DataObject) -> None:
    """Flipped, dropped, added or swapped characters."""
    text = TRUE[kind]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 3)))
    mutated = text[:start] + data.draw(st.text(CHARACTERS, max_size=3)) + text[end:]
    if mutated != text:
        refusal(mutated, PROVIDERS)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_that_mean_nothing_are_no_part_of_a_token(kind: str) -> None:
    """The last character of each part may have some: with others of these the token would have a second text."""
    parts = TRUE[kind].split(".")
    for position in range(3):
        for character in string.ascii_letters + string.digits + "-_":
            other = [*parts]
            other[position] = other[position][:-1] + character
            if other != parts:
                refusal(".".join(other), PROVIDERS)


@given(
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5u"]) | st.text(), JSON),
    st.dictionaries(st.sampled_from(["iss", "aud", "sub", "exp", "nbf"]) | st.text(), JSON),
)
def test_no_signature_holds_for_another_header_or_claim(
    kind: str, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    text = TRUE[kind]
    signature = text.rpartition(".")[2]
    mutated = unsigned({**CLAIMS, **claims}, **{"alg": kind, "kid": f"{kind}-0", **header})
    if mutated != text.rpartition(".")[0] + ".":
        refusal(mutated + signature, PROVIDERS)


@given(st.text() | st.binary().map(bytes.hex) | st.text(CHARACTERS))
def test_no_text_can_do_anything_but_be_refused(text: str) -> None:
    refusal(text, PROVIDERS)


@given(st.dictionaries(st.text(max_size=20), JSON, max_size=6))
def test_whatever_else_a_true_token_claims_its_user_is_the_one_of_sub_and_iss(claims: dict[str, Any]) -> None:
    token = read_token(sign({**claims, **CLAIMS}))
    for provider in (OIDC, CUSTOM["RS256"]):
        with suppress(Unauthenticated):  # a claim of the wrong type
            attributes = attributes_of(token, provider)
            assert attributes["tokenIdentifier"] == f"{ISSUER}|ann"
            assert (attributes["issuer"], attributes["subject"]) == (ISSUER, "ann")
