"""Environment variables of the application that are numbers.

A wrong value is refused with the variable's name, and never replaced by a default: who sets a limit wants that limit.
"""

import re
from collections.abc import Mapping
from typing import Final

from reactor import ReactorError

_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


def number(
    variables: Mapping[str, str], name: str, default: float, least: float, most: float, *, whole: bool = False
) -> float:
    """Return the number that a variable holds, or `default` when it is not set.

    Raises:
        ReactorError: code `INVALID_SETTING`: it holds no number, or one that is out of bounds.
    """
    text = variables.get(name)
    if text is None:
        return default
    found = float(text) if _NUMBER.fullmatch(text) else None
    if found is None or not least <= found <= most or (whole and not found.is_integer()):
        kind = "a whole number" if whole else "a number"
        raise invalid_setting(name, text, f"{kind} from {least:.12g} to {most:.12g}")
    return found


def invalid_setting(name: str, value: str, wanted: str) -> ReactorError:
    """Return the error that a variable can't be used."""
    return ReactorError(
        {
            "code": "INVALID_SETTING",
            "variable": name,
            "message": f"The environment variable {name} must be {wanted}, not {value[:40]!r}.",
        }
    )
