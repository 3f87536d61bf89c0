"""The fast header reader: one pass over the elements, up to the last wanted one.

The elements of one kind of object begin with the same eight bytes (tag, VR, length) over and over, so
what to do with an element is remembered by these bytes. Whatever the reader does not take as it stands
it hands over to pydicom (`converter.reading.fallback`); on all it takes, it agrees with pydicom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from converter.core.header import (
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
    Header,
    Wanted,
    pack_items,
)
from converter.reading.elements import KEEP, PASS, PER_FRAME, PIXELS, SKIP, WIDEST, Known
from converter.reading.encoding import UNDEFINED, ZEROS
from converter.reading.quick import NOTHING, Sequences, items_at
from converter.reading.result import HandOver, Refused

if TYPE_CHECKING:
    from converter.reading.cursor import Cursor

__all__ = ["ROWS", "Plan", "nested", "plan", "walk", "whole"]

ROWS: Final = 0x00280010
"""Read to know of an image that lacks its pixels."""
_ALWAYS: Final = (
    SPECIFIC_CHARACTER_SET,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    SERIES_INSTANCE_UID,
)
_LATE: Final = 0x7FE00000
_DELIMITER: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
_ITEM: Final = b"\xfe\xff\x00\xe0"
_FRAGMENTS: Final = 1024
_GROWTH: Final = 65536
_HOPS: Final = 256
_HOP: Final = 4096
_IDENTITY: Final = frozenset(_ALWAYS[1:])
_TRIES: Final = 3
"""How often the pattern may take little of a header before the rest is walked element by element."""
_ELEMENT: Final = 32
"""Bytes of an ordinary one."""
_AGAIN: Final = 24
"""What going on with the pattern behind an element that it lacks counts for, in elements that are walked one by one: it
takes as long as half of these, in one header after the other."""
_LITTLE: Final = 24 * _ELEMENT
"""Bytes whose elements are walked one by one in the time that the pattern takes at least."""


class Plan:
    """What is wanted, with the identity and the character sets, and what was learned about elements."""

    __slots__ = ("_known", "follower", "keeps_rows", "last", "sequences", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        complete: dict[int, Any] = dict.fromkeys((*_ALWAYS, ROWS))
        complete.update(_with_charsets(wanted))
        self.keeps_rows = ROWS in wanted
        self.wanted: Wanted = complete
        self.last = max((tag for tag in complete if tag not in PIXELS), default=0)
        self.follower: Any = None
        """What was learned about consecutive headers (`converter.reading.trace`)."""
        self.sequences = (Sequences(explicit=False), Sequences(explicit=True))
        self._known: dict[tuple[bool, bool], Known] = {}

    def known(self, *, explicit: bool, little: bool) -> Known:
        """What is known of the elements of one encoding."""
        found = self._known.get((explicit, little))
        if found is None:
            found = self._known[explicit, little] = Known(
                self.wanted, self.last, self.sequences[explicit], explicit=explicit, little=little
            )
        return found


def _with_charsets(wanted: Wanted, depth: int = 0) -> dict[int, Any]:
    """Text of an item is nothing without the character set of the item."""
    complete: dict[int, Any] = {}
    for tag, inner in wanted.items():
        if inner is None:
            complete[tag] = None
        elif depth < 64:
            within = _with_charsets(inner, depth + 1)
            within.setdefault(SPECIFIC_CHARACTER_SET, None)
            complete[tag] = within
    return complete


_plans: dict[int, tuple[Wanted, Plan]] = {}


def plan(wanted: Wanted) -> Plan:
    """Plan for a set of wanted tags, kept for as long as the same object is asked for."""
    held = _plans.get(id(wanted))
    if held is not None and held[0] is wanted:
        return held[1]
    if len(_plans) >= 8:
        _plans.pop(next(iter(_plans)), None)
    made = Plan(wanted)
    _plans[id(wanted)] = (wanted, made)
    return made


def walk(cursor: Cursor, what: Plan, header: Header, previous: int = -1) -> None:
    """Read the data set that the cursor stands at.

    Parameters
    ----------
    cursor : Cursor
        With its syntax set. Findings are added to it.
    what : Plan
    header : Header
        Is filled, so that what was read stays known where reading stops with a signal.
    previous : int
        Last tag before, where the first elements are read already, in order.

    Raises
    ------
    HandOver
        pydicom shall read it.
    Refused
        ``truncated-header``, ``too-deep``, ``header-limit`` and what a source refuses.
    """
    known = what.known(explicit=cursor.explicit, little=cursor.little)
    get, pattern = known.memo.get, known.pattern
    tries = _TRIES if cursor.limits.wide else 0
    wanted, last_wanted = what.wanted, what.last
    data, at = cursor.data, cursor.at
    ordered = True
    walked = alone = near = 0
    while True:
        if tries and pattern is not None and at < len(data):
            if at < near:
                alone += _AGAIN
            taken = pattern.take(data, at, header)
            if taken is None:
                tries -= 1
            else:
                end, first, last = taken
                if end < at + _LITTLE:
                    tries -= 1
                ordered = ordered and first > previous
                at, previous = end, last
            near = at + WIDEST
        head = data[at : at + 8]
        action = get(head)
        if action is None:
            cursor.at = at
            if not cursor.available(8):
                _end(cursor, previous, header)
                return
            if cursor.data is not data:
                walked += len(cursor.data)
                if walked > cursor.limits.walk:
                    raise Refused("header-limit")
                data, at, near = cursor.data, cursor.at, 0
                continue
            head = data[at : at + 8]
            if head == ZEROS and previous > 0:
                _padded(cursor, header)
                return
            action = get(head) or known.learn(head)
        tag, step, kind = action
        if tag <= previous:
            ordered = False
        previous = tag
        alone += 1
        if kind == SKIP:
            at += step
        elif kind == KEEP:
            end = at + step
            if end > len(data):
                cursor.at = at + 8
                header[tag] = cursor.take(step - 8)
                data, at = cursor.data, cursor.at
            else:
                header[tag] = data[at + 8 : end]
                at = end
        else:
            if kind >= PASS and known.long:
                head = data[at : at + 12]
                _, step, kind = get(head) or known.learn_long(head, action)
                if kind == SKIP:
                    at += step
                    continue
            cursor.at = at
            begin = cursor.offset
            if kind >= PASS and nested(cursor, what, header, tag):
                data, at = cursor.data, cursor.at
                alone += (cursor.offset - begin) // _ELEMENT
                continue
            if (ordered and tag > last_wanted) or tag in PIXELS or tag == PER_FRAME:
                if not header.keys() >= _IDENTITY or not whole(cursor, header, tag):
                    raise HandOver  # out of order: wanted ones may come after the last
                known.walked(alone)
                return
            _, vr, length = cursor.element()
            end = cursor.offset + length
            try:
                cursor.value(header, tag, vr, length, wanted, 0)
            except Refused as refused:
                cut = refused.reason == "truncated-header" and length != UNDEFINED
                if cut and cursor.source.read(end - 1, 1):
                    raise HandOver from None  # not the file is cut but what is within this value
                raise
            data, at = cursor.data, cursor.at


def nested(cursor: Cursor, what: Plan, header: Header, tag: int) -> bool:
    """Keep or pass a sequence at hand the quick way, if it is one that can be."""
    inner = what.wanted.get(tag, NOTHING)
    if inner is None or not cursor.limits.wide or not cursor.little:
        return False
    explicit, memos = cursor.explicit, what.sequences[cursor.explicit].memos
    if explicit and cursor.data[cursor.at + 4 : cursor.at + 6] != b"SQ":
        return False
    for again in (True, False):
        at = cursor.at + (12 if explicit else 8)
        length = int.from_bytes(cursor.data[at - 4 : at], "little")
        try:
            items, end = items_at(cursor.data, at, length, inner, memos, explicit=explicit)
        except LookupError:
            if not (again and cursor.base):
                return False
            # it may only reach beyond what is at hand
            base = cursor.base
            cursor.available(_GROWTH)
            if cursor.base == base:
                return False
        else:
            if inner is not NOTHING:
                header[tag] = pack_items(items)
            cursor.at = end
            return True
    return False


def _end(cursor: Cursor, previous: int, header: Header) -> None:
    """Hold the end of the source against where the last element claimed to end."""
    left = len(cursor.data) - cursor.at
    size = cursor.source.size
    beyond = left < 0 if size is None else cursor.offset > size
    if beyond or previous < 0:
        raise Refused("truncated-header")
    if left > 0 and cursor.data[cursor.at :].strip(b"\0"):  # blanks are padding
        raise Refused("truncated-header")
    if header.get(ROWS):
        cursor.findings["truncated"] = None


def _padded(cursor: Cursor, header: Header) -> None:
    """Take zeros for the end of the data set: one by one they would be millions of elements."""
    cursor.findings["zero-padding"] = None
    if header.get(ROWS):
        cursor.findings["truncated"] = None


def whole(cursor: Cursor, header: Header, previous: int) -> bool:
    """See whether the file goes on as far as its elements claim, hopping over their values.

    From the first element that is not wanted on, to the pixel data or the end. False where the elements
    turn out not to be in order, so that a wanted one may yet come.
    """
    source = cursor.source
    tag, hops = 0, 0
    try:
        while tag != PER_FRAME:
            if cursor.at + 12 > len(cursor.data):
                hops += 1
                if not source.random or hops > _HOPS:
                    return True
                cursor.base, cursor.data, cursor.at = (
                    cursor.offset,
                    source.read(cursor.offset, _HOP),
                    0,
                )
                if len(cursor.data) < 8:
                    if not source.reaches(cursor.base) or (header.get(ROWS) and tag < _LATE):
                        cursor.findings["truncated"] = None
                    return True
            if cursor.data[cursor.at : cursor.at + 8] == ZEROS:
                _padded(cursor, header)
                return True
            tag, vr, length = cursor.element()
            if tag < previous:
                return not source.again
            previous = tag
            if tag in PIXELS:
                if not (
                    _encapsulated(cursor)
                    if length == UNDEFINED
                    else source.reaches(cursor.offset + length)
                ):
                    cursor.findings["truncated"] = None
                return True
            if tag == PER_FRAME:
                return True
            cursor.ignore(vr, length, 0)
    except Refused as refused:
        if refused.reason == "truncated-header":
            cursor.findings["truncated"] = None
    except HandOver:
        return True
    return True


def _encapsulated(cursor: Cursor) -> bool:
    """Tell whether encapsulated pixels end within the file (PS3.5 A.4)."""
    source, offset = cursor.source, cursor.offset
    if not source.random or not cursor.little:
        return True
    if source.size is not None and source.read(source.size - 8, 8) == _DELIMITER:
        return True
    for _ in range(_FRAGMENTS):
        head = source.read(offset, 8)
        if len(head) < 8:
            return False
        if head[:4] != _ITEM:
            return True
        offset += 8 + int.from_bytes(head[4:], "little")
        if not source.reaches(offset):
            return False
    return True
