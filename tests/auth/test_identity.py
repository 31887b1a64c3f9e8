"""Identities: equal claims are equal, different ones never share a key."""

import pytest

from reactor.auth.identity import admin_identity, user_identity
from reactor.errors import InvalidArgument

ALICE = {"issuer": "https://me", "subject": "1", "name": "Alice"}


def test_missing_claims_are_made_up_reproducibly() -> None:
    alice, again, bob = (
        user_identity({"name": "Alice"}),
        user_identity({"name": "Alice"}),
        user_identity({"name": "Bob"}),
    )
    assert alice == again
    assert alice.claims is not None
    assert alice.claims["issuer"] == "https://convex.test"
    assert alice.claims["tokenIdentifier"] == f"https://convex.test|{alice.claims['subject']}"
    assert alice.key != bob.key


def test_keys_tell_identities_apart() -> None:
    identities = [
        admin_identity(),
        admin_identity(read_only=True),
        admin_identity(ALICE),
        admin_identity(ALICE, read_only=True),
        user_identity(ALICE),
        user_identity({**ALICE, "name": "Alicia"}),
    ]
    assert len({identity.key for identity in identities}) == len(identities)
    assert [identity.is_admin for identity in identities] == [True] * 4 + [False] * 2
    assert user_identity(ALICE).key == user_identity(dict(reversed(ALICE.items()))).key


@pytest.mark.parametrize("claims", [{"email": 7}, {"emailVerified": "yes"}, {"custom": object()}])
def test_claims_have_their_types(claims: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        user_identity(claims)


def test_acting_as_needs_a_user() -> None:
    with pytest.raises(InvalidArgument, match="tokenIdentifier"):
        admin_identity({"name": "who"})
