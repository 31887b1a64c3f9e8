"""The name and secret of an instance, from which its admin keys are made.

Owns `<data>/credentials/`. Promises that a secret is readable by its owner only, that what was made up once is used
again, and that given values are never written. Used by the composition root.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from reactor.auth.admin_key import NONCE_BYTES, SECRET_BYTES, check, check_instance, issue
from reactor.auth.identity import Identity, admin_identity
from reactor.errors import StorageError
from reactor.ports import Clock, Rng

DEFAULT_NAME: Final = "reactor"
FOLDER: Final = "credentials"


class Credentials(msgspec.Struct, frozen=True):
    """What admin keys are made from."""

    name: str
    secret: str

    def check_admin(self, key: str, attributes: Mapping[str, Any] | None) -> Identity:
        """Return the identity of an admin key, acting as the user with the given attributes.

        Raises:
            Forbidden: the key is not good here.
            InvalidArgument: the attributes can't be those of a user.
        """
        return admin_identity(attributes, read_only=check(key, self.name, self.secret).read_only)

    def admin_key(self, clock: Clock, rng: Rng, *, read_only: bool = False) -> str:
        """Return a new key; all keys of one secret stay good."""
        return issue(self.name, self.secret, clock.now_ns() // 1_000_000_000, rng.token_bytes(NONCE_BYTES), read_only)


def load_credentials(data: Path | None, name: str | None, secret: str | None, rng: Rng) -> Credentials:
    """Return the credentials: what is given, else what `data` keeps, else new ones, which `data` then keeps.

    Blocking. `data` is None when nothing may be written.

    Raises:
        InvalidArgument: a given or stored value is malformed.
        StorageError: the folder can't be read or written.
    """
    folder = None if data is None else data / FOLDER
    try:
        if name is None:
            name = _kept(folder, "instance_name", DEFAULT_NAME)
        if secret is None:
            secret = _kept(folder, "instance_secret", rng.token_bytes(SECRET_BYTES).hex())
    except OSError as error:
        raise StorageError(f"The credentials in {folder} can't be read or written: {error}") from error
    check_instance(name, secret)
    return Credentials(name, secret)


def _kept(folder: Path | None, file_name: str, default: str) -> str:
    if folder is None:
        return default
    file = folder / file_name
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        pass
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=file_name)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(default + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
    return default
