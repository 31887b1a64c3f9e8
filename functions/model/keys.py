"""Keys of both kinds, those of the API and those of the embeddings service: one implementation over two tables.

Owns what a key looks like and what is stored of it: the SHA-256 of its text, and the first characters, to tell keys
apart. Promises that what is shown of a key holds no hash, that two documents never answer to one key, and that looking
for a key costs the same reads whether there is one. Used by `functions/access`,
`functions/api_keys` and `functions/embeddings/`.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

from functions.model.spans import DAY_MS
from reactor import ReactorError, undefined

SECRET_BYTES: Final = 32
PREFIX_LENGTH: Final = 8  # characters of a hash or a key that may be shown
POLICY_DAYS: Final = 30.0  # a key is replaced after this time: the rotation policy
GRACE_MS: Final = DAY_MS  # the old secret is good for this long after a rotation


@dataclass(frozen=True)
class KeyTable:
    """Where one kind of keys is kept, and under which names; `sign` begins the text of each of its keys."""

    name: str
    hash_field: str
    hash_index: str
    sign: str


API_KEYS: Final = KeyTable("apiKeys", "key", "by_key", "rk_")
EMBEDDING_KEYS: Final = KeyTable("embeddingApiKeys", "keyHash", "by_key_hash", "re_")
KEY_TABLES: Final = {table.name: table for table in (API_KEYS, EMBEDDING_KEYS)}


@dataclass(frozen=True)
class FoundKey:
    """A stored key. `is_previous` tells that it was found by the secret it had before its rotation."""

    document: dict[str, Any]
    is_previous: bool
    table: KeyTable

    @property
    def id(self) -> str:
        return str(self.document["_id"])

    @property
    def hash(self) -> str:
        """The hash of its present secret; the same key keeps one identity in no table by it, so it never leaves."""
        return str(self.document[self.table.hash_field])

    @property
    def prefix(self) -> str:
        """What people tell it by: the first characters of its text, or of its hash where the text was never seen."""
        return str(self.document.get("prefix", self.hash[:PREFIX_LENGTH]))


@dataclass(frozen=True)
class NewSecret:
    """A secret that is shown once, and what is stored of it."""

    text: str
    hash: str
    prefix: str


@dataclass(frozen=True)
class NewKey:
    """A key with a secret that nobody has seen. `expires_at` is None for one without an end."""

    id: str
    text: str
    prefix: str
    expires_at: float | None

    @property
    def answer(self) -> dict[str, Any]:
        """What its maker is told, once: `{id, key, prefix, expiresAt}`."""
        return {"id": self.id, "key": self.text, "prefix": self.prefix, "expiresAt": self.expires_at}


def hash_of(key: str) -> str:
    """Return what is stored of a key: it has 256 random bits, so it needs no salt and no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_secret(table: KeyTable) -> NewSecret:
    """Return a key that nobody has seen."""
    text = table.sign + secrets.token_urlsafe(SECRET_BYTES)
    return NewSecret(text, hash_of(text), text[:PREFIX_LENGTH])


async def find_key(ctx: Any, table: KeyTable, hash: str) -> FoundKey | None:
    """Return the key with this hash, or with this previous hash; valid or not.

    It reads one document, also when there is no such key.
    """
    present = await ctx.db.query(table.name).with_index(table.hash_index, **{table.hash_field: hash}).unique()
    previous = await ctx.db.query(table.name).with_index("by_previous_hash", previousHash=hash).unique()
    document = present or previous
    if document is None:
        await ctx.db.query(table.name).first()  # some other key, so that how long this takes tells nothing
    return None if document is None else FoundKey(document, present is None, table)


def is_expired(key: FoundKey, now: float) -> bool:
    """Tell whether its time is over: of the key, or of the secret it was found by."""
    end = key.document.get("previousExpiresAt", 0.0) if key.is_previous else key.document.get("expiresAt")
    return end is not None and now >= end


def is_valid(key: FoundKey | None, now: float) -> bool:
    """Tell whether a key that was looked for may be used."""
    return key is not None and key.document["active"] and not is_expired(key, now)


async def insert_key(ctx: Any, table: KeyTable, fields: dict[str, Any]) -> NewKey:
    """Store a new key with `fields`, and return it, this once.

    Raises:
        ReactorError: code `KEY_EXISTS`: there is one with that hash.
    """
    secret = new_secret(table)
    await _require_unused(ctx, table, secret)
    document = {
        table.hash_field: secret.hash,
        "prefix": secret.prefix,
        "createdAt": ctx.now(),
        "active": True,
        **fields,
    }
    id = await ctx.db.insert(table.name, document)
    return NewKey(id, secret.text, secret.prefix, fields.get("expiresAt"))


async def rotate_key(ctx: Any, table: KeyTable, id: str, grace_ms: float, lifetime_ms: float) -> NewKey:
    """Give a key a new secret, and return it, this once.

    The old secret stays good for `grace_ms`, and the one before that ends at once. A key that has an end gets a new
    one, `lifetime_ms` from now. The old secret never outlives the old end.

    Raises:
        ReactorError: code `NO_SUCH_KEY`, `KEY_REVOKED` or `KEY_EXISTS`.
    """
    key = await load_key(ctx, table, id)
    if not key.document["active"]:
        raise ReactorError({"code": "KEY_REVOKED", "message": f"The key {key.prefix}… is revoked; make another one."})
    secret = new_secret(table)
    await _require_unused(ctx, table, secret)
    now = ctx.now()
    end = key.document.get("expiresAt")
    fields = {
        table.hash_field: secret.hash,
        "prefix": secret.prefix,
        "rotatedAt": now,
        "alertedDays": undefined,
        "previousHash": key.hash,
        "previousExpiresAt": now + grace_ms if end is None else min(now + grace_ms, end),
    }
    if end is not None:
        fields["expiresAt"] = now + lifetime_ms
    await ctx.db.patch(id, fields)
    return NewKey(key.id, secret.text, secret.prefix, fields.get("expiresAt"))


async def revoke_key(ctx: Any, table: KeyTable, id: str) -> bool:
    """End a key with all of its secrets; return whether it was active.

    Raises:
        ReactorError: code `NO_SUCH_KEY`.
    """
    key = await load_key(ctx, table, id)
    if key.document["active"]:
        await ctx.db.patch(id, {"active": False})
    return bool(key.document["active"])


async def load_key(ctx: Any, table: KeyTable, id: str) -> FoundKey:
    """Return the key with this id.

    Raises:
        ReactorError: code `NO_SUCH_KEY`.
    """
    known = ctx.db.normalize_id(table.name, id)
    document = None if known is None else await ctx.db.get(known)
    if document is None:
        raise ReactorError({"code": "NO_SUCH_KEY", "message": f"There is no key with the id {id!r} in {table.name}."})
    return FoundKey(document, False, table)


def shown(key: FoundKey) -> dict[str, Any]:
    """Return what an administrator may see of a key: everything but the hashes."""
    hidden = {key.table.hash_field, "previousHash"}
    return {"prefix": key.prefix, **{field: value for field, value in key.document.items() if field not in hidden}}


async def _require_unused(ctx: Any, table: KeyTable, secret: NewSecret) -> None:
    if await find_key(ctx, table, secret.hash) is not None:
        raise ReactorError({"code": "KEY_EXISTS", "message": f"There is a key in {table.name} with that hash already."})
