"""How data elements are written: VRs, lengths, byte order (PS3.5 section 7)."""

from __future__ import annotations

import re
from array import array
from typing import Final

__all__ = [
    "BIG_ENDIAN",
    "DEFLATED",
    "EXPLICIT",
    "IMPLICIT",
    "ITEM",
    "ITEM_END",
    "LONG",
    "SEQUENCE_END",
    "SHORT",
    "UNDEFINED",
    "WIDTH",
    "ZEROS",
    "any_bytes",
    "length_and_value",
    "little_endian",
]

IMPLICIT: Final = b"1.2.840.10008.1.2"
EXPLICIT: Final = b"1.2.840.10008.1.2.1"
BIG_ENDIAN: Final = b"1.2.840.10008.1.2.2"
DEFLATED: Final = frozenset(
    {b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.4.95", b"1.2.840.10008.1.2.4.205"}
)
"""Deflated Explicit VR Little Endian, and the two JPIP syntaxes that are deflated as well."""

SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs with a length of two bytes."""
LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs with two reserved bytes and a length of four."""

WIDTH: Final = {
    b"AT": 2, b"US": 2, b"SS": 2, b"OW": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"OF": 4, b"OL": 4,
    b"FD": 8, b"OD": 8, b"SV": 8, b"UV": 8, b"OV": 8,
}  # fmt: skip
"""Bytes of one number of the binary VRs; of AT, of one half of the tag."""

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
ZEROS: Final = bytes(8)
"""What is no element of a data set but padding, or a part of the file that was never written."""

_CODES: Final = {2: "H", 4: "I", 8: "Q"}


def little_endian(value: bytes, vr: bytes) -> bytes:
    """Turn the value field of a big endian element into little endian; text stays as it is."""
    width = WIDTH.get(vr)
    if width is None or len(value) % width:
        return value
    numbers = array(_CODES[width], value)
    numbers.byteswap()
    return numbers.tobytes()


def any_bytes(length: int) -> bytes:
    """Give a pattern of so many bytes; nothing is given back of them, which spares the engine to remember them."""
    return b".{%d}+" % length if length else b""


def length_and_value(width: int) -> bytes:
    """Give a pattern of a length in so many bytes, little endian, and a value of that length, where it is even and short."""
    ways = (
        re.escape(length.to_bytes(width, "little")) + b".{%d}+" % length
        for length in range(0, 66, 2)
    )
    return b"(?:" + b"|".join(ways) + b")"
