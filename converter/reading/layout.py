"""Where the elements of a header lie: what a trace is learned from."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from converter.reading.cursor import Cursor
from converter.reading.elements import PER_FRAME, PIXELS
from converter.reading.encoding import BIG_ENDIAN, DEFLATED, IMPLICIT, LONG, SHORT, UNDEFINED
from converter.reading.quick import NOTHING, Memos, items_at
from converter.reading.result import DEFAULT, HandOver, Refused
from converter.reading.source import Bytes
from converter.reading.start import TRANSFER_SYNTAX_UID

__all__ = ["BEGIN", "Element", "Layout", "layout_of"]

BEGIN: Final = 128
"""Where a trace begins: the preamble before is nobody's business. One of a data set that was deflated begins at 0."""


_Head = tuple[int, bytes, int, int]
"""Tag, VR, how long what precedes the value is (0: the VR is unknown), and the value, where that stands in the first eight bytes."""
_HEAD: Final = Struct("<HHI").unpack
_MEMO_SIZE: Final = 4096
# what was met in implicit and explicit VR
_heads: Final[tuple[dict[bytes, _Head], dict[bytes, _Head]]] = ({}, {})
_memos: Final[tuple[Memos, Memos]] = ({}, {})


class Element(NamedTuple):
    """One element of the file meta information, or of the highest level of the data set."""

    start: int
    value: int
    """Where the value begins; the length stands right before it."""
    end: int
    tag: int
    vr: bytes
    meta: bool


class Layout(NamedTuple):
    """Elements of a header as far as they lie whole in its first bytes."""

    elements: list[Element]
    begin: int
    explicit: bool
    end: int
    pixels: int
    """Tag of the pixel data or Per-Frame Functional Groups that follow; 0 where the header goes on in some other way."""

    @property
    def signature(self) -> tuple[object, ...]:
        """What two headers must share to share a trace."""
        elements = [(tag, vr) for _, _, _, tag, vr, _ in self.elements]
        return self.begin, self.explicit, self.pixels, *elements


def layout_of(data: bytes, last: int, begin: int = BEGIN) -> Layout | None:
    """Find the elements in the first bytes of an object; nothing where no trace can be made of them.

    From place 0 on they are those of a data set that was deflated, which is in explicit VR. Where no pixel data follow within those bytes it ends with the last element up to the tag ``last``,
    since walking takes another way from there on.
    """
    meta = begin == BEGIN
    if meta and data[128:132] != b"DICM":
        return None
    elements: list[Element] = []
    at, stop = begin + 4 if meta else begin, len(data)
    explicit, previous = True, -1
    pixels = 0
    syntax = b""
    heads = _heads[1]
    make = tuple.__new__  # what a named tuple does in two calls
    while at + 12 <= stop:
        start = at
        head = data[at : at + 8]
        tag, vr, width, length = heads.get(head) or _taken_apart(head, heads, explicit=explicit)
        if meta and tag >> 16 != 2:
            meta = False
            if not syntax or syntax == BIG_ENDIAN or syntax in DEFLATED:
                return None
            if syntax == IMPLICIT:
                explicit, heads = False, _heads[0]
                continue
        if not width or tag >= 0xFFFE0000:
            return None
        if not meta:
            if tag <= previous:
                return None
            previous = tag
            if tag >= PER_FRAME and (tag == PER_FRAME or tag in PIXELS):
                if vr not in SHORT if tag in PIXELS else vr in {b"SQ", b""}:
                    pixels = tag
                break
        at += width
        if width == 12:
            length = int.from_bytes(data[at - 4 : at], "little")
        value = at
        at = value + length if length != UNDEFINED else _end(data, explicit, vr, value)
        if at > stop:
            at = start
            break
        if meta and tag == TRANSFER_SYNTAX_UID:
            syntax = data[value:at].strip(b" \0")
        elements.append(make(Element, (start, value, at, tag, vr, meta)))
    if not pixels:
        while elements and elements[-1].tag > last:
            at = elements.pop().start
    if not elements or elements[-1].meta:
        return None
    return Layout(elements, begin, explicit, at, pixels)


def _taken_apart(head: bytes, heads: dict[bytes, _Head], *, explicit: bool) -> _Head:
    """Take the first eight bytes of an element apart, and remember them."""
    group, number, length = _HEAD(head)
    vr, width = b"", 8
    if explicit:
        vr = head[4:6]
        length >>= 16
        width = 8 if vr in SHORT else 12 if vr in LONG else 0
    if len(heads) >= _MEMO_SIZE:
        heads.clear()
    heads[head] = found = group << 16 | number, vr, width, length
    return found


def _end(data: bytes, explicit: bool, vr: bytes, value: int) -> int:
    """Where an element of undefined length ends; beyond the bytes where that cannot be told."""
    if vr == b"SQ" or not explicit:
        try:
            return items_at(data, value, UNDEFINED, NOTHING, _memos[explicit], explicit=explicit)[1]
        except LookupError:
            pass
    cursor = Cursor(Bytes(data), data, DEFAULT)
    cursor.syntax(explicit=explicit, little=True)
    cursor.at = value
    try:
        cursor.ignore(vr, UNDEFINED, 0)
    except (HandOver, Refused):
        return len(data) + 1
    return cursor.at if not cursor.base else len(data) + 1
