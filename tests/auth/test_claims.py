"""Claims to attributes: the table of names, and what is left out."""

from typing import Any

import pytest

from reactor.auth.claims import custom_attributes, oidc_attributes
from reactor.auth.identity import token_identity
from reactor.errors import Unauthenticated

TOKEN = {"iss": "https://i", "sub": "7", "aud": "app", "exp": 2, "iat": 1, "nbf": 1, "jti": "x", "fva": [1, 2]}
WHO = {"tokenIdentifier": "https://i|7", "subject": "7", "issuer": "https://i"}

TABLE = [
    ("name", "Ann", "name"),
    ("given_name", "Ann", "givenName"),
    ("family_name", "Lee", "familyName"),
    ("nickname", "A", "nickname"),
    ("preferred_username", "ann", "preferredUsername"),
    ("profile", "https://p", "profileUrl"),
    ("picture", "https://q", "pictureUrl"),
    ("website", "https://w", "websiteUrl"),
    ("email", "a@b", "email"),
    ("email_verified", True, "emailVerified"),
    ("gender", "f", "gender"),
    ("birthdate", "2000-01-01", "birthday"),
    ("zoneinfo", "UTC", "timezone"),
    ("locale", "en", "language"),
    ("phone_number", "+1", "phoneNumber"),
    ("phone_number_verified", False, "phoneNumberVerified"),
]


@pytest.mark.parametrize(("claim", "value", "name"), TABLE)
def test_a_known_claim_has_its_name(claim: str, value: Any, name: str) -> None:
    assert oidc_attributes({**TOKEN, claim: value}) == {**WHO, name: value}
    assert oidc_attributes({**TOKEN, claim: None}) == WHO
    with pytest.raises(Unauthenticated, match=f"'{claim}' must be a"):
        oidc_attributes({**TOKEN, claim: 7})
    assert custom_attributes({**TOKEN, claim: value}) == {**WHO, claim: value}


def test_claims_of_another_form() -> None:
    claims = {**TOKEN, "address": {"formatted": "here", "country": "x"}, "updated_at": 0, "email_verified": "true"}
    assert oidc_attributes(claims) == {
        **WHO,
        "address": "here",
        "updatedAt": "1970-01-01T00:00:00+00:00",
        "emailVerified": True,
    }
    assert oidc_attributes({**TOKEN, "updated_at": "2026-01-01T00:00:00Z"})["updatedAt"] == "2026-01-01T00:00:00Z"
    for wrong in (True, 10**30, []):
        with pytest.raises(Unauthenticated, match="'updated_at' must be a time"):
            oidc_attributes({**TOKEN, "updated_at": wrong})


def test_other_claims_are_visible_as_they_are() -> None:
    claims = {"org": {"id": 7, "roles": ["a"]}, "sid": "s", "azp": "z"}
    assert oidc_attributes({**TOKEN, "nonce": "n", "auth_time": 1, "at_hash": "h", **claims}) == {**WHO, **claims}


def test_plain_jwts_are_flattened() -> None:
    claims = {"properties": {"id": 7, "more": {"x": [1]}, "none": {}}, "properties.id": 8}
    assert custom_attributes({**TOKEN, **claims}) == {
        **WHO,
        "properties.id": 8,
        "properties.more.x": [1],
        "properties.none": {},
    }


def test_nothing_overrides_who_the_user_is() -> None:
    forged = {"tokenIdentifier": "https://i|1", "subject": "1", "issuer": "https://j", "emailVerified": True}
    assert oidc_attributes({**TOKEN, **forged}) == WHO
    assert custom_attributes({**TOKEN, **forged}) == {**WHO, "emailVerified": True}


@pytest.mark.parametrize("attributes", [oidc_attributes, custom_attributes])
def test_a_refreshed_token_is_the_same_identity(attributes: Any) -> None:
    first = token_identity(attributes({**TOKEN, "name": "Ann", "a": 1}), 1)
    second = token_identity(attributes({"a": 1, "name": "Ann", **TOKEN, "exp": 9, "iat": 8, "jti": "y", "nbf": 8}), 2)
    other = token_identity(attributes({**TOKEN, "name": "Ann", "a": 2}), 1)
    assert first.key == second.key != other.key
