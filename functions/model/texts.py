"""How long the texts may be that callers send to be stored, so that nobody fills the disk with a few calls."""

from collections.abc import Mapping
from typing import Final

from reactor import ReactorError

LENGTHS: Final[Mapping[str, int]] = {
    "provider": 64,
    "model": 128,
    "userId": 256,
    "fingerprint": 128,
    "ip": 64,
    "requestId": 128,
    "keyHash": 128,
    "apiKeyHash": 128,
    "name": 200,
}
"""Characters of what names something. A longer text would be another name if it were cut, so it is refused."""

NOT_EMPTY: Final = ("provider", "model", "requestId")  # requests that share an id would be one

ERROR_LENGTH: Final = 1000  # characters of an error that are kept
USER_AGENT_LENGTH: Final = 512


def require_names(texts: Mapping[str, str | None]) -> None:
    """Refuse names that are too long, and some that are empty. None is an absent argument.

    Raises:
        ReactorError: code `INVALID_TEXT`.
    """
    for name, text in texts.items():
        if text is None:
            continue
        if len(text) > LENGTHS[name]:
            raise _invalid(name, f"has {len(text)} characters, and {LENGTHS[name]} are allowed")
        if not text and name in NOT_EMPTY:
            raise _invalid(name, "is empty")


def _invalid(name: str, problem: str) -> ReactorError:
    return ReactorError({"code": "INVALID_TEXT", "argument": name, "message": f"{name} {problem}"})
