"""What to do with an element, told by its first bytes, and many elements at a time by one pattern.

Elements of the same tag, VR and length are met over and over, so what to do with one is remembered by the bytes that
say these. Out of what is remembered a regular expression is made in which every element is optional, in the order of
their tags: one call of the engine takes a header as far as its elements are known, whatever stands in their values.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from struct import Struct
from typing import Final, Literal

from converter.core.header import Header, Wanted
from converter.reading.encoding import LONG, SHORT, UNDEFINED, WIDTH, any_bytes, length_and_value
from converter.reading.quick import Sequences
from converter.reading.result import HandOver

__all__ = [
    "KEEP",
    "LOOK",
    "NEST",
    "PASS",
    "PER_FRAME",
    "PIXELS",
    "SKIP",
    "WIDEST",
    "Action",
    "Known",
]

PER_FRAME: Final = 0x52009230
"""Per-Frame Functional Groups: never read, however many frames there are."""
PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})

SKIP, KEEP, LOOK, PASS, NEST = range(5)
"""Pass a value whose length is known, keep it, look at it, pass or look into what has four bytes of length."""

Action = tuple[int, int, int]
"""Tag, length of the whole element where it is known, and one of the above."""

_MEMO_SIZE: Final = 16384
_PAYS: Final = 100, 50, 100, 200, 400
"""Elements that are walked one by one before a pattern is made, for each that is in it: the first, the second, and so on.

In the time that making one takes, about 100 are walked. The first waits for them to differ; what it lacks shows soon.
"""
_MOST: Final = 2048
"""Elements of a pattern, each length of one for itself."""
_MOST_LENGTHS: Final = 64
_FEW: Final = 4
"""Lengths of one element, each of which has a group of its own: its value need not be cut from behind what precedes it."""
_PART: Final = 512
"""Bytes of a part of a pattern that is passed at once, at least."""
_NEAR: Final = 32
"""At most between the lengths of an element that is a number, a UID or a few of them rather than free text."""
WIDEST: Final = 4096
"""Of what is in a pattern."""
_OPEN: Final = b"\xff\xff\xff\xff"
_UNTIL_END: Final = -1
_TAG: Final = Struct("<HH").unpack_from


class Known:
    """What is known of the elements of one encoding.

    Parameters
    ----------
    wanted : Wanted
    last : int
        Last wanted tag but for pixel data.
    explicit, little : bool
        How elements are written.
    sequences : Sequences
    """

    def __init__(
        self, wanted: Wanted, last: int, sequences: Sequences, *, explicit: bool, little: bool
    ) -> None:
        self.memo: dict[bytes, Action] = {}
        """By the first eight bytes; twelve, where the length is the last four of these."""
        self.pattern: Pattern | None = None
        self.long = explicit and little
        """Whether there are lengths of four bytes to remember."""
        self._wanted, self._last, self._sequences = wanted, last, sequences
        self._explicit, self._little = explicit, little
        self._alone = self._compiled = 0
        self._pays = iter(_PAYS)
        self._enough = next(self._pays)

    def learn(self, head: bytes) -> Action:
        """Decide what to do with elements that begin with these eight bytes.

        Raises
        ------
        HandOver
        """
        order: Literal["little", "big"] = "little" if self._little else "big"
        tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
        if tag >= 0xFFFE0000:
            raise HandOver
        wanted = self._wanted
        if tag > self._last or tag in PIXELS or tag == PER_FRAME:
            action = (tag, 0, LOOK)
        elif not self._explicit:
            length = int.from_bytes(head[4:], order)
            if length == UNDEFINED:
                action = (tag, 0, NEST)
            elif tag in wanted:
                action = (tag, 8 + length, KEEP if wanted[tag] is None else NEST)
            else:
                action = (tag, 8 + length, SKIP)
        else:
            vr = head[4:6]
            if vr in SHORT:
                length = int.from_bytes(head[6:], order)
                if tag not in wanted:
                    action = (tag, 8 + length, SKIP)
                elif wanted[tag] is not None or (vr in WIDTH and not self._little):
                    action = (tag, 0, LOOK)
                else:
                    action = (tag, 8 + length, KEEP)
            elif vr in LONG:
                kind = NEST if vr == b"SQ" else LOOK
                action = (tag, 0, kind if tag in wanted or not self._little else PASS)
            elif not (vr.isalpha() and vr.isupper()):
                raise HandOver
            else:
                action = (tag, 0, LOOK)  # its length may stand in one of two ways
        return self._remember(head, action)

    def learn_long(self, head: bytes, action: Action) -> Action:
        """Decide the same by the first twelve bytes of an element in explicit VR, little endian."""
        length = int.from_bytes(head[8:], "little")
        if len(head) < 12:
            return action
        tag, _, kind = action
        if length != UNDEFINED:
            action = (tag, 12 + length, SKIP if kind == PASS else kind)
        return self._remember(head, action)

    def _remember(self, head: bytes, action: Action) -> Action:
        if len(self.memo) >= _MEMO_SIZE:
            self.memo.clear()
        self.memo[head] = action
        return action

    def walked(self, alone: int) -> None:
        """Count elements that were walked one by one; in time make a pattern, where there is more to know than in the last."""
        size = len(self.memo)
        if size == self._compiled or not self._little:
            return
        self._alone += alone
        if self._alone > self._enough * size:
            self._enough = next(self._pays, self._enough)
            self._compile()

    def _compile(self) -> None:
        memo = self.memo.copy()
        self._alone, self._compiled = 0, len(memo)
        elements: dict[int, dict[bytes, int]] = {}
        known = 0
        for head, (tag, step, kind) in memo.items():
            length = step - len(head)
            if (
                kind in {PASS, NEST}
                and head[-4:] == _OPEN
                and (len(head) == 8 or head[4:6] == b"SQ")
            ):
                length = _UNTIL_END
            elif kind in {LOOK, PASS} or not step or length > WIDEST:
                continue
            ways = elements.setdefault(tag, {})
            if len(ways) < _MOST_LENGTHS:
                ways[head] = length
                known += 1
            if known == _MOST:
                break
        for ways in elements.values():
            if known < _MOST:
                known += _foresee(ways, explicit=self._explicit)
        self.pattern = Pattern(elements, self._wanted, self._sequences, explicit=self._explicit)


def _foresee(ways: dict[bytes, int], *, explicit: bool) -> int:
    """Add lengths among those that were met and the next one: a number or a UID that counts is as long as its digits."""
    met = len(ways)
    fronts: dict[bytes, list[int]] = {}
    for head, length in ways.items():
        if length != _UNTIL_END:
            fronts.setdefault(head[:6] if explicit and len(head) == 8 else head[:-4], []).append(
                length
            )
    for front, lengths in fronts.items():
        width = 2 if len(front) == 6 else 4
        least, most = min(lengths), max(lengths)
        if 0 < most - least <= _NEAR:
            for length in range(least, most + 3, 2):
                ways[front + length.to_bytes(width, "little")] = length
    return len(ways) - met


class Pattern:
    """Elements in the order of their tags, each of which may be there.

    Parameters
    ----------
    elements : dict
        Of each tag the first bytes of its elements, to the length of the value that follows these.
    wanted : Wanted
    sequences : Sequences
    explicit : bool
        Whether VRs are.
    """

    def __init__(
        self,
        elements: dict[int, dict[bytes, int]],
        wanted: Wanted,
        sequences: Sequences,
        *,
        explicit: bool,
    ) -> None:
        self._tags = [0]
        """Of the groups, of which the last that matched tells how far it went."""
        self._sequences = sequences
        values: list[tuple[int, int]] = []
        whole: list[tuple[int, int, Wanted | None]] = []
        items = _items(explicit=explicit)
        pattern = part = b""
        groups: set[bytes] = set()
        for tag in sorted(elements):
            group = bytes((tag >> 16 & 0xFF,))
            if len(part) > _PART and group not in groups:
                pattern += _passable(part, groups)
                part = b""
                groups.clear()
            groups.add(group)
            ways = [
                (re.escape(head), items if length == _UNTIL_END else any_bytes(length))
                for head, length in elements[tag].items()
            ]
            number = len(self._tags)
            if tag in wanted and wanted[tag] is None and len(ways) <= _FEW:
                one = b"(?:" + b"|".join(head + b"(" + body + b")" for head, body in ways) + b")"
                values += [(tag, number + way) for way in range(len(ways))]
                self._tags += [tag] * len(ways)
            else:
                any_way = b"|".join(head + body for head, body in ways)
                self._tags.append(tag)
                if tag not in wanted:
                    one = (b"(?:" + any_way + b")" if len(ways) > 1 else any_way) + b"()"
                else:
                    one = b"(" + any_way + b")"
                    values.append((tag, number))
                    whole.append((tag, len(next(iter(elements[tag]))), wanted[tag]))
            part += b"(?:" + one + b"|)"
        self._match = re.compile(pattern + _passable(part, groups), re.DOTALL).match
        self._kept = [tag for tag, _ in values]
        # asked for two groups or more, a match gives a tuple
        self._groups = [*(number for _, number in values), 1, 1]
        self._whole = whole

    def take(self, data: bytes, at: int, header: Header) -> tuple[int, int, int] | None:
        """Take as many elements from a place on as are known, and keep what is wanted of them.

        Returns
        -------
        (int, int, int) or None
            Where they end, and the tags of the first and the last of them; nothing where none is known, or a
            sequence is unusual.
        """
        found = self._match(data, at)
        if found is None or not found.lastindex:
            return None
        group, number = _TAG(data, at)
        first, last = group << 16 | number, self._tags[found.lastindex]
        tags, groups = self._kept, self._groups
        if begin := bisect_left(tags, first):
            if begin == len(tags):
                return found.end(), first, last
            tags, groups = tags[begin:], groups[begin:]
        pairs = zip(tags, found.group(*groups), strict=False)
        taken = {tag: value for tag, value in pairs if value is not None}
        for tag, width, inner in self._whole:
            element = taken.get(tag)
            if element is None:
                continue
            value = (
                element[width:] if inner is None else self._sequences.packed(element, width, inner)
            )
            if value is None:
                return None
            taken[tag] = value
        header.update(taken)
        return found.end(), first, last


def _passable(part: bytes, groups: set[bytes]) -> bytes:
    """Give a part of the pattern that is passed at once where the next element's group is none of these, by its lower byte."""
    return b"(?:(?=[" + re.escape(b"".join(sorted(groups))) + b"])" + part + b"|)" if part else b""


def _items(*, explicit: bool) -> bytes:
    """Items and the end of a sequence of undefined length, as far as all are alike in being plain.

    Items are of undefined length too, and what is in them is short and no sequence, whatever its tag.
    """
    begin, end = b"\xfe\xff\x00\xe0" + _OPEN, b"\xfe\xff\x0d\xe0\0\0\0\0"
    vr = b"(?:" + b"|".join(sorted(SHORT)) + b")" if explicit else b""
    # no group ends in FF, least of all that of the marks of items
    element = b".[^\xff].." + vr + length_and_value(2 if explicit else 4)
    # the engine holds a quarter of a kilobyte for each of them
    elements = b"(?>(?:" + element + b"(?:" + re.escape(end + begin) + b"|)){0,4096})"
    items = re.escape(begin) + elements + re.escape(end)
    return b"(?:" + items + b"|)" + re.escape(b"\xfe\xff\xdd\xe0\0\0\0\0")
