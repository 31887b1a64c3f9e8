"""Document ids: table number and 16 internal bytes, as text.

Owns the text form (lower-case Crockford base32 of varint table number, internal id and checksum) and the making of new
ids. Promises that `decode_id` accepts exactly what `encode_id` prints. Used by `db`, validators and storage.
"""

from functools import lru_cache
from itertools import accumulate
from typing import Final

from reactor.errors import InvalidArgument
from reactor.ports import Clock, Rng

INTERNAL_ID_BYTES: Final = 16
_RANDOM_BYTES: Final = 14
_BLOCK_BYTES: Final = 4096 // _RANDOM_BYTES * _RANDOM_BYTES
_DAY_NS: Final = 24 * 60 * 60 * 10**9
_MAX_TABLE: Final = 2**32 - 1

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LETTERS = _ALPHABET.encode()
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_TO_DIGITS = bytes.maketrans(_LETTERS, b"0123456789abcdefghijklmnopqrstuv")

# Text length -> characters that hold the whole table number. Ids of one table differ at most in 4 bits of these.
_PREFIX_LENGTH = {31: 2, 32: 4, 34: 5, 36: 7, 37: 8}
_tables: dict[tuple[int, str], int] = {}
_MAX_KNOWN_TABLES = 200_000


def encode_id(table: int, internal: bytes) -> str:
    """Return the text of the id with these 16 internal bytes in table number `table`."""
    data = _varint(table) + internal
    data += _footer(data).to_bytes(2, "little")
    # Two characters at a time; the odd length of 31, 33 … bits is padded on the right.
    bits = len(data) * 8
    length = -(-bits // 5)
    width = (length + 1) // 2
    number = int.from_bytes(data, "big") << (width * 10 - bits)
    pairs = _PAIRS
    text = "".join([pairs[number >> shift & 1023] for shift in range(width * 10 - 10, -1, -10)])
    return text[:length]


def decode_id(text: str) -> tuple[int, bytes]:
    """Return the table number and the 16 internal bytes of an id.

    Raises:
        InvalidArgument: `text` is not an id, in just the form `encode_id` gives it.
    """
    length = len(text)
    if not 31 <= length <= 37:
        raise InvalidArgument(f"Unable to decode ID: Invalid ID length {length}")
    number = _number(text)
    count = length * 5 // 8
    padding = length * 5 - count * 8
    data = (number >> padding).to_bytes(count, "big")
    table, used = _read_varint(data)
    if count - used != INTERNAL_ID_BYTES + 2:
        raise InvalidArgument(f"Unable to decode ID: Invalid ID length {length}")
    body = data[:-2]
    footer = int.from_bytes(data[-2:], "little")
    expected = _footer(body)
    if footer != expected:
        raise InvalidArgument(f"Unable to decode ID: Invalid ID version {footer} (expected {expected})")
    # What would not print again as it came: set or superfluous padding, a table number with a zero group on top.
    if number & ((1 << padding) - 1) or padding > 4 or (used > 1 and data[used - 1] == 0):
        raise InvalidArgument(f"Unable to decode ID: Invalid ID length {length}")
    return table, body[used:]


def table_of(text: str) -> int:
    """Return the table number of an id without checking the rest of it.

    Raises:
        InvalidArgument: the part that holds the number is not that of an id.
    """
    length = len(text)
    key = (length, text[: _PREFIX_LENGTH.get(length, 0)])
    table = _tables.get(key)
    if table is None:
        if length not in _PREFIX_LENGTH:
            raise InvalidArgument(f"Unable to decode ID: Invalid ID length {length}")
        prefix = key[1]
        bits = len(prefix) * 5
        table, used = _read_varint((_number(prefix) >> bits % 8).to_bytes(bits // 8, "big"))
        if used != length * 5 // 8 - INTERNAL_ID_BYTES - 2:
            raise InvalidArgument(f"Unable to decode ID: Invalid ID length {length}")
        if len(_tables) >= _MAX_KNOWN_TABLES:
            _tables.clear()
        _tables[key] = table
    return table


class IdGenerator:
    """Makes new ids: 14 random bytes, then the day, so that ids of one day share no prefix but can be told apart."""

    def __init__(self, rng: Rng, clock: Clock) -> None:
        self._rng = rng
        self._clock = clock
        self._block = b""
        self._at = 0

    def next(self, table: int) -> str:
        """Return a fresh id in table number `table`."""
        at = self._at
        if at == len(self._block):
            self._block = self._rng.token_bytes(_BLOCK_BYTES)
            at = 0
        self._at = at + _RANDOM_BYTES
        day = self._clock.now_ns() // _DAY_NS & 0xFFFF
        return encode_id(table, self._block[at : self._at] + day.to_bytes(2, "big"))


@lru_cache(maxsize=1024)
def _varint(number: int) -> bytes:
    if not 1 <= number <= _MAX_TABLE:
        raise InvalidArgument(f"Table number {number} is not between 1 and {_MAX_TABLE}")
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def _read_varint(data: bytes) -> tuple[int, int]:
    """Return the number at the start of `data` and how many bytes hold it."""
    number = 0
    for position, byte in enumerate(data[:5]):
        number |= (byte & 127) << 7 * position
        if byte < 128:
            if not 1 <= number <= _MAX_TABLE:
                break
            return number, position + 1
    raise InvalidArgument("Unable to decode ID: Invalid table number")


def _number(text: str) -> int:
    """Return the base32 number `text` spells."""
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError:
        data = b"?"
    if data.translate(None, _LETTERS):
        raise InvalidArgument("Unable to decode ID: ID wasn't valid base32")
    return int(data.translate(_TO_DIGITS), 32)


def _footer(data: bytes) -> int:
    """Return the Fletcher-16 checksum of `data`, with both sums modulo 256."""
    return (sum(accumulate(data)) & 255) << 8 | sum(data) & 255
