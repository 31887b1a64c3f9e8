"""What fields, tables and indexes may be called.

Owns the name rules and their error texts, and what is said of a name that nothing has. Used wherever a name enters:
documents, schema, index paths, calls.
"""

import difflib
import re
from collections.abc import Collection

from reactor.errors import ValidationError
from reactor.limits import MAX_FIELD_NAME_BYTES, MAX_IDENTIFIER_LENGTH
from reactor.values.display import display_char, sendable

_IDENTIFIER = re.compile(r"(?!_*\Z)[A-Za-z_][A-Za-z0-9_]*\Z")
_FIELD_NAME = re.compile(r"(?!\$)[ -~]*\Z")


def check_field_name(name: str) -> None:
    """Check the name of an object field.

    Raises:
        ValidationError: it starts with `$`, is longer than 1024 bytes, or has a character other than printable ASCII.
    """
    if len(name) <= MAX_FIELD_NAME_BYTES and _FIELD_NAME.match(name):
        return
    if name.startswith("$"):
        raise ValidationError(f"Field name {sendable(name)} starts with '$', which is reserved.")
    for char in name:
        if not " " <= char <= "~":
            raise ValidationError(
                f"Field name {sendable(name)} has invalid character {display_char(char)}: "
                "Field names can only contain non-control ASCII characters"
            )
    raise ValidationError(f"Field name is too long ({len(name)} > maximum {MAX_FIELD_NAME_BYTES})")


def check_identifier(text: str) -> None:
    """Check a table name, index name, validator key or part of a field path.

    Raises:
        ValidationError: it is not `[A-Za-z_][A-Za-z0-9_]*`, longer than 64, or underscores only.
    """
    if len(text) <= MAX_IDENTIFIER_LENGTH and _IDENTIFIER.match(text):
        return
    if not text:
        raise ValidationError("Identifier cannot be empty")
    if not (text[0] == "_" or (text[0].isascii() and text[0].isalpha())):
        raise ValidationError(
            f"Invalid first character {display_char(text[0])} in {sendable(text)}: "
            "Identifiers must start with an alphabetic character or underscore"
        )
    for char in text:
        if not (char == "_" or (char.isascii() and char.isalnum())):
            raise ValidationError(
                f"Identifier {sendable(text)} has invalid character {display_char(char)}: "
                "Identifiers can only contain alphanumeric characters or underscores"
            )
    if len(text) > MAX_IDENTIFIER_LENGTH:
        raise ValidationError(f"Identifier is too long ({len(text)} > maximum {MAX_IDENTIFIER_LENGTH})")
    raise ValidationError(f"Identifier {sendable(text)} cannot have exclusively underscores")


def parse_field_path(text: str) -> tuple[str, ...]:
    """Split `a.b.c` into its identifiers; dots at either end do not count.

    Raises:
        ValidationError: nothing is left, or a part is no identifier.
    """
    trimmed = text.strip(".")
    if not trimmed:
        raise ValidationError(f"Empty path {sendable(text)}")
    parts = tuple(trimmed.split("."))
    for part in parts:
        check_identifier(part)
    return parts


def suggestion(name: str, known: Collection[str], before_all: str = "It has") -> str:
    """Return the sentence for who asked for `name`, which is none of `known`: the nearest of them, or else all."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"{before_all}: {', '.join(sorted(known)) or 'none'}."
