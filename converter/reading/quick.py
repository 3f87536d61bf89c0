"""Sequences as nearly all are written: little endian, at hand as a whole.

What `Cursor.sequence` does, for these only, with what to do remembered by the first eight bytes of an
element as in `walk`. Whatever is unusual raises `LookupError`, and the cursor does it anew.
"""

from __future__ import annotations

from typing import Final

from converter.core.header import Header, Wanted, pack_items
from converter.reading.encoding import LONG, SHORT, UNDEFINED

__all__ = ["NOTHING", "Memos", "Sequences", "items_at"]

Memos = dict[int, dict[bytes, tuple[int, int]]]
"""By identity of what is wanted of an item: first eight bytes to whole length and tag (0: not wanted).

Of items that are passed also 24 bytes: an item's end, the next one's beginning, and the first eight bytes in it.
"""

NOTHING: Final[Wanted] = {}
"""Wanted of the items of a sequence that is passed."""
_ITEM: Final = b"\xfe\xff\x00\xe0"
_OPEN_ITEM: Final = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
_ITEM_END: Final = b"\xfe\xff\x0d\xe0"
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0"
_DEPTH: Final = 8
_MEMO_SIZE: Final = 4096
_HELD: Final = 1024
_NO_ITEMS: Final = pack_items([])
_LARGEST: Final = 512
"""Of a sequence that is remembered whole."""


class Sequences:
    """What was made of sequences of one encoding, by their bytes: codes and references come again and again."""

    def __init__(self, *, explicit: bool) -> None:
        self.memos: Memos = {}
        self._explicit = explicit
        self._packed: dict[tuple[int, bytes], bytes] = {}

    def packed(self, data: bytes, at: int, wanted: Wanted) -> bytes | None:
        """Items of a sequence, packed; nothing where it is unusual, or does not end where the bytes do.

        Parameters
        ----------
        data : bytes
            An element or the end of one.
        at : int
            Where its value begins; four bytes of length stand before.
        wanted : Wanted
            Of its items; must stay as it is.
        """
        key = id(wanted), data
        found = self._packed.get(key)
        if found is not None:
            return found
        length = int.from_bytes(data[at - 4 : at], "little")
        if wanted is NOTHING and length != UNDEFINED:
            return _NO_ITEMS if at + length == len(data) else None
        try:
            items, end = items_at(data, at, length, wanted, self.memos, explicit=self._explicit)
        except LookupError:
            return None
        if end != len(data):
            return None
        found = pack_items(items)
        if len(data) <= _LARGEST:
            if len(self._packed) >= _HELD:
                self._packed.clear()
            self._packed[key] = found
        return found


def items_at(
    data: bytes,
    at: int,
    length: int,
    wanted: Wanted,
    memos: Memos,
    depth: int = 0,
    *,
    explicit: bool,
) -> tuple[list[Header], int]:
    """Items of a sequence whose value begins at a place, and where it ends.

    Raises
    ------
    LookupError
        It is unusual, damaged, or not at hand as a whole.
    """
    stop = len(data) + 1 if length == UNDEFINED else at + length
    if depth > _DEPTH or (length != UNDEFINED and stop > len(data)):
        raise LookupError
    memo = memos.get(id(wanted))
    if memo is None:
        memo = memos[id(wanted)] = {}
    items: list[Header] = []
    while at < stop:
        mark = data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if mark != _ITEM:
            if mark != _SEQUENCE_END or length != UNDEFINED or at > len(data):
                raise LookupError
            return items, at
        if wanted is NOTHING and size != UNDEFINED:
            at += size
            continue
        item: Header = {}
        end = len(data) + 1 if size == UNDEFINED else at + size
        while at < end:
            head = data[at : at + 8]
            known = memo.get(head)
            if known is not None:
                step, tag = known
                if tag:
                    item[tag] = data[at + 8 : at + step]
                at += step
            elif head[:4] == _ITEM_END and size == UNDEFINED and len(head) == 8:
                if wanted is NOTHING and length == UNDEFINED:
                    further = _further(data, at, memo)
                    if further > at:
                        at = further
                        continue
                at += 8
                break
            else:
                other = _explicit if explicit else _implicit
                at = other(data, at, wanted, item, memos, depth)
        if size != UNDEFINED and at != end:
            raise LookupError
        items.append(item)
    if at != stop:
        raise LookupError
    return items, at


def _further(data: bytes, at: int, memo: dict[bytes, tuple[int, int]]) -> int:
    """From the end of an item into the next one, behind its first element, as long as all of that is remembered.

    The bytes that are compared are all that decide how far it goes: it ends where going one by one would.
    """
    get = memo.get
    while True:
        marks = data[at : at + 24]
        known = get(marks)
        if known is None:
            first = get(marks[16:]) if marks[8:16] == _OPEN_ITEM else None
            if first is None:
                return at
            known = (16 + first[0], 0)
            if len(memo) < _MEMO_SIZE:
                memo[marks] = known
        at += known[0]
        if data[at : at + 4] != _ITEM_END:
            return at


def _explicit(data: bytes, at: int, wanted: Wanted, item: Header, memos: Memos, depth: int) -> int:
    """Pass an element that is not remembered, and remember it where it is short."""
    head = data[at : at + 8]
    if len(head) < 8:
        raise LookupError
    tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
    vr = head[4:6]
    if tag >= 0xFFFE0000:
        raise LookupError
    if vr in SHORT:
        if wanted.get(tag) is not None:
            raise LookupError
        step = 8 + int.from_bytes(head[6:8], "little")
        if len(memos[id(wanted)]) < _MEMO_SIZE:
            memos[id(wanted)][head] = (step, tag if tag in wanted else 0)
        if tag in wanted:
            item[tag] = data[at + 8 : at + step]
        return at + step
    if vr not in LONG or at + 12 > len(data):
        raise LookupError
    length = int.from_bytes(data[at + 8 : at + 12], "little")
    value = at + 12
    if vr == b"SQ":
        inner = wanted.get(tag, NOTHING)
        if inner is None:
            raise LookupError
        found, end = items_at(data, value, length, inner, memos, depth + 1, explicit=True)
        if tag in wanted:
            item[tag] = pack_items(found)
        return end
    if length == UNDEFINED or tag in wanted:
        raise LookupError
    return value + length


def _implicit(data: bytes, at: int, wanted: Wanted, item: Header, memos: Memos, depth: int) -> int:
    """Do as `_explicit`, where no VR is written."""
    head = data[at : at + 8]
    if len(head) < 8:
        raise LookupError
    tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
    if tag >= 0xFFFE0000:
        raise LookupError
    length = int.from_bytes(head[4:], "little")
    inner = wanted.get(tag, NOTHING)
    if inner is None or (inner is NOTHING and length != UNDEFINED):
        if length == UNDEFINED:
            raise LookupError
        memo = memos[id(wanted)]
        if len(memo) < _MEMO_SIZE:
            memo[head] = (8 + length, tag if inner is None else 0)
        if inner is None:
            item[tag] = data[at + 8 : at + 8 + length]
        return at + 8 + length
    found, end = items_at(data, at + 8, length, inner, memos, depth + 1, explicit=False)
    if inner is not NOTHING:
        item[tag] = pack_items(found)
    return end
