"""Preamble, file meta information and transfer syntax (PS3.10 section 7)."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from converter.reading.encoding import (
    BIG_ENDIAN,
    DEFLATED,
    IMPLICIT,
    LONG,
    SHORT,
    UNDEFINED,
    ZEROS,
    length_and_value,
)
from converter.reading.result import HandOver, Refused

if TYPE_CHECKING:
    from converter.reading.cursor import Cursor

__all__ = [
    "MEDIA_STORAGE_DIRECTORY",
    "MUST_STAY",
    "TRANSFER_SYNTAX_UID",
    "begins_like_dicom",
    "read_start",
]

MEDIA_STORAGE_DIRECTORY: Final = b"1.2.840.10008.1.3.10"
_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
TRANSFER_SYNTAX_UID: Final = 0x00020010
MUST_STAY: Final = frozenset({_MEDIA_STORAGE_SOP_CLASS_UID, TRANSFER_SYNTAX_UID})
"""Elements that decide how what follows is read."""
_FIRST_GROUPS: Final = frozenset({0x0002, 0x0004, 0x0008})


def begins_like_dicom(data: bytes) -> bool:
    """Whether a file without a preamble may be DICOM: a first element of a group that comes first."""
    if len(data) < 16:
        return False
    group, element = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
    vr = data[4:6]
    known = vr in SHORT or vr in LONG
    if group == 0:  # a command set, which begins with its length
        return data[:8] == b"\0\0\0\0\x04\0\0\0"
    if group in _FIRST_GROUPS and element < 0x3000:
        return known or int.from_bytes(data[4:8], "little") < 65536
    return known and data[:2] == b"\x00\x08"


@cache
def _meta() -> re.Pattern[bytes]:
    """File meta information as nearly all write it; not made before it is needed."""
    value = length_and_value(2)
    elements = (
        rb"\x02\0\0\0UL\x04\0.{4}",
        rb"\x02\0\x01\0OB\0\0\x02\0\0\0..",
        rb"\x02\0\x02\0UI(" + value + b")",
        rb"\x02\0\x03\0UI" + value,
        rb"\x02\0\x10\0UI(" + value + b")",
        rb"\x02\0\x12\0UI" + value,
        rb"\x02\0\x13\0SH" + value,
        rb"\x02\0\x16\0AE" + value,
    )
    return re.compile(b"".join(b"(?:" + one + b"|)" for one in elements), re.DOTALL)


def read_start(cursor: Cursor) -> bool:
    """Read up to the data set, and set how it is written.

    Returns
    -------
    bool
        Whether it is deflated.

    Raises
    ------
    HandOver
        pydicom shall read it.
    Refused
        ``empty``, ``not-dicom``, ``dicomdir``, ``truncated-header``.
    """
    data = cursor.data
    if not data:
        raise Refused("empty")
    if data[128:132] == b"DICM":
        cursor.at = 132
    elif begins_like_dicom(data):
        cursor.findings["no-preamble"] = None
    else:
        raise Refused("not-dicom")
    syntax = None
    if found := _meta().match(data, cursor.at):
        cursor.at = found.end()
        sop_class, syntax = found.groups()
        if sop_class and sop_class[2:].strip(b" \0") == MEDIA_STORAGE_DIRECTORY:
            raise Refused("dicomdir")
        if syntax:
            syntax = syntax[2:].strip(b" \0")
    while (more := cursor.available(8)) and cursor.data[cursor.at : cursor.at + 2] == b"\x02\x00":
        tag, _, length = cursor.element()
        if length == UNDEFINED:
            raise HandOver
        if tag in MUST_STAY:
            value = cursor.take(length).strip(b" \0")
            if tag == TRANSFER_SYNTAX_UID:
                syntax = value
            elif value == MEDIA_STORAGE_DIRECTORY:
                raise Refused("dicomdir")
        else:
            cursor.skip(length)
    if syntax in DEFLATED:
        return True
    if not more:
        raise Refused("truncated-header")
    _set_syntax(cursor, syntax)
    return False


def _set_syntax(cursor: Cursor, syntax: bytes | None) -> None:
    head = cursor.data[cursor.at : cursor.at + 8]
    vr = head[4:6]
    letters = vr.isalpha() and vr.isupper()
    if head[:2] == b"\x00\x00":
        if head == ZEROS:
            raise Refused("truncated-header")
        raise HandOver  # a command set, always implicit VR, before the data set
    if head[:4] == b"\x04\x00\x00\x12" or head[:4] == b"\x04\x00\x30\x11":
        raise Refused("dicomdir")
    if not syntax:
        # no transfer syntax stated: seen from the first element
        cursor.findings["no-preamble"] = None
        explicit = vr in SHORT or vr in LONG
        little = not explicit or int.from_bytes(head[:2], "little") < 1024
        if letters and not explicit:
            raise HandOver
    else:
        explicit, little = syntax != IMPLICIT, syntax != BIG_ENDIAN
        if explicit != letters:
            raise HandOver  # not written as stated
    if not (explicit and little):
        cursor.syntax(explicit=explicit, little=little)
