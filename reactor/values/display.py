"""How a value prints inside an error text.

Owns the form that official servers use there (`{a: 1.0, b: [b"AQI="]}`), so that messages can be compared with theirs.
Used by validators, `db` argument checks and name rules.
"""

import unicodedata
from binascii import b2a_base64
from itertools import chain

from reactor.values.types import Undefined, Value

_ESCAPES = {"\0": "\\0", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}

# Marks that join the character before them although their category does not say so (Unicode Other_Grapheme_Extend).
_OTHER_EXTENDERS = frozenset(
    map(
        chr,
        chain(
            (0x09BE, 0x09D7, 0x0B3E, 0x0B57, 0x0BBE, 0x0BD7, 0x0CC0, 0x0CC2, 0x0CC7, 0x0CC8, 0x0CCA, 0x0CCB, 0x0CD5),
            (0x0CD6, 0x0D3E, 0x0D57, 0x0DCF, 0x0DDF, 0x1715, 0x1734, 0x1B35, 0x1B3B, 0x1B3D, 0x1B43, 0x1B44, 0x1BAA),
            (0x1BF2, 0x1BF3, 0x200C, 0x302E, 0x302F, 0xA953, 0xA9C0, 0xFF9E, 0xFF9F, 0x111C0, 0x11235, 0x1133E),
            (0x1134D, 0x11357, 0x114B0, 0x114BD, 0x115AF, 0x116B6, 0x11930, 0x1193D, 0x1D165, 0x1D166),
            range(0x1D16D, 0x1D173),
            range(0xE0020, 0xE0080),
        ),
    )
)


def display(value: Value | Undefined) -> str:
    """Return the text of a normalised value for an error message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return display_float(value)
    if isinstance(value, str):
        return display_string(value)
    if isinstance(value, int | Undefined):
        return str(value)
    if isinstance(value, bytes):
        return f'b"{b2a_base64(value, newline=False).decode()}"'
    if isinstance(value, list):
        return f"[{', '.join(map(display, value))}]"
    return f"{{{', '.join(f'{name}: {display(value[name])}' for name in sorted(value))}}}"


def display_float(number: float) -> str:
    """Return the shortest text that reads back as `number`: `1.0`, `1e16`, `1e-5`, `NaN`, `-inf`."""
    if number != number:
        return "NaN"
    text = repr(number)
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def display_string(text: str) -> str:
    """Return `text` in double quotes, with escapes for quotes, controls and marks."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join('\\"' if char == '"' else _escape(char) for char in text) + '"'


def display_char(char: str) -> str:
    """Return one character in single quotes, escaped like a string's."""
    return f"'{_escape(char)}'" if char != "'" else "'\\''"


def sendable(text: str) -> str:
    """Return `text` fit to be sent: a message about a string that is not valid Unicode must not be that itself."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    extends = char in _OTHER_EXTENDERS or unicodedata.category(char) in ("Mn", "Me")
    return f"\\u{{{ord(char):x}}}" if extends or not char.isprintable() else char
