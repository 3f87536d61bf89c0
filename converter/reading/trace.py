"""What consecutive headers have in common, learned, so that only what differs is parsed.

The images of a series have nearly all of their header in common. A trace holds the runs of bytes that
stayed the same in the headers it has learned from, and what stands between them. It is followed from the
first byte on and compares every byte of every run, the tag and VR of every element between; each value's
end comes from its own length. So it arrives where `walk` would, with the same values, or it misses and
the object is walked. Nothing is ever taken from a header that the bytes at hand do not repeat.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from converter.core.header import SERIES_INSTANCE_UID, pack_items
from converter.reading.alike import Alike
from converter.reading.cursor import Cursor
from converter.reading.elements import PER_FRAME
from converter.reading.encoding import SHORT, UNDEFINED
from converter.reading.layout import BEGIN, Layout, layout_of
from converter.reading.quick import NOTHING, items_at
from converter.reading.result import HandOver, Limits, Read, Refused
from converter.reading.source import Pipe
from converter.reading.start import MUST_STAY
from converter.reading.walk import nested, whole

if TYPE_CHECKING:
    from converter.core.header import Header
    from converter.reading.source import Source
    from converter.reading.walk import Plan

__all__ = ["Followed", "Follower"]

_HELD: Final = 8
"""Traces of one set of wanted tags."""
_TRIED: Final = 2
_GOOD: Final = 8
"""Hits after which a miss means another series rather than an element that varies."""
_QUIET: Final = 256
"""Objects that are walked at most before learning is tried again."""

# How the value of an element is passed: it is the same, its length is the same, its length has two or
# four bytes, it is a sequence that must be looked into, or perhaps one.
_SAME, _FIXED, _SHORT, _LONG, _SEQUENCE, _NESTED = range(6)


class Followed(NamedTuple):
    """Where following a trace led."""

    cursor: Cursor | None
    """Where to walk on; nothing where the header is complete."""
    tag: int
    """Last element before."""
    truncated: bool


_COMPLETE: Final = Followed(None, 0, truncated=False)
_TRUNCATED: Final = Followed(None, 0, truncated=True)

_Step = tuple[bytes, int, int, int, int]
"""Run of bytes, its length, how to pass what follows, its length where fixed, tag to keep it by or 0."""


class _Program(NamedTuple):
    steps: tuple[_Step, ...]
    kept: Header
    """Values that stand in the runs."""
    tail: bytes
    pixels: int
    last: int
    begin: int
    explicit: bool
    alike: Alike | None
    """Nothing where no more than one header at a time can be taken apart."""


class _Trace:
    """One layout: which elements vary, and the header that the others are compared with."""

    def __init__(self, data: bytes, header: Header, layout: Layout) -> None:
        self.ways = [_SAME] * len(layout.elements)
        self.among_images = self.ways
        """What was seen to vary within a series."""
        self.hits = 0
        """Since its series began."""
        self.data, self.header, self.layout = data, header, layout
        self.program: _Program | None = None

    def learn(self, data: bytes, header: Header, layout: Layout, what: Plan) -> None:
        """Learn from a header of the same layout that missed."""
        uid = header.get(SERIES_INSTANCE_UID)
        if uid == self.header.get(SERIES_INSTANCE_UID):
            self.ways = self._vary(self.ways, data, layout)
            self.among_images = self._vary(self.among_images, data, layout)
        elif self.hits < _GOOD:
            self.ways = self._vary(self.ways, data, layout)
            self.hits = 0
        else:
            # another series: what varies in its images varied in those before
            self.ways = self.among_images
            self.hits = 0
        self.data, self.header, self.layout = data, header, layout
        self.program = self._compile(what)

    def _vary(self, ways: list[int], data: bytes, layout: Layout) -> list[int]:
        """Ways of passing the elements that this header asks for as well."""
        ways = ways.copy()
        pairs = zip(self.layout.elements, layout.elements, strict=True)
        for index, (old, new) in enumerate(pairs):
            if self.data[old.start : old.end] == data[new.start : new.end]:
                continue
            if old.value - old.start == new.value - new.start and (
                self.data[old.start : old.value] == data[new.start : new.value]
            ):
                way = _FIXED
            elif new.vr in SHORT:
                way = _SHORT
            else:
                way = _LONG
            if way != _SHORT and new.vr == b"SQ":
                way = _NESTED
            ways[index] = max(ways[index], way)
        return ways

    def _compile(self, what: Plan) -> _Program | None:
        """Make the steps; nothing where an element varies on which the start of the data set hangs."""
        steps: list[_Step] = []
        kept: Header = {}
        layout = self.layout
        begin = layout.begin
        first = True
        for element, way in zip(self.layout.elements, self.ways, strict=True):
            start, value, end, tag, vr, meta = element
            if meta:
                if way != _SAME and tag in MUST_STAY:
                    return None
            elif first:
                first = False
                if way not in {_SAME, _FIXED}:
                    return None
            if way == _SAME:
                if tag in self.header and not meta:
                    kept[tag] = self.header[tag]
                continue
            nested = not meta and (vr == b"SQ" or isinstance(what.wanted.get(tag), dict))
            if nested:
                # a sequence without doubt: its tag and VR are compared as well
                named = (
                    (6 if vr else 4)
                    if vr in {b"SQ", b""} and what.wanted.get(tag, NOTHING) is not None
                    else 0
                )
                run = self.data[begin : start + named]
                steps.append((run, len(run), _SEQUENCE if named else _NESTED, named, tag))
            else:
                wide = {_FIXED: 0, _SHORT: 2, _LONG: 4}[way]
                run = self.data[begin : value - wide]
                keep = tag if not meta and tag in self.header else 0
                steps.append((run, len(run), way, end - value, keep))
            begin = end
        if first:
            return None
        stop = layout.end
        if layout.pixels:
            stop += 8 if layout.explicit else 4
        last = layout.elements[-1].tag
        alike = None
        if layout.pixels and all(way != _NESTED for _, _, way, _, _ in steps):
            values = [
                (tag, what.wanted.get(tag, NOTHING) if way == _SEQUENCE else None)
                for _, _, way, _, tag in steps
            ]
            alike = Alike(
                kept,
                values,
                layout.pixels,
                begin=layout.begin,
                explicit=layout.explicit,
                keeps_rows=what.keeps_rows,
                sequences=what.sequences[layout.explicit],
            )
        return _Program(
            tuple(steps),
            kept,
            self.data[begin:stop],
            layout.pixels,
            last,
            layout.begin,
            layout.explicit,
            alike if alike and alike.useful else None,
        )


class Follower:
    """The traces of one set of wanted tags."""

    def __init__(self, what: Plan) -> None:
        self._what = what
        self._traces: dict[tuple[object, ...], _Trace] = {}
        self._orders: dict[int, tuple[_Trace, ...]] = {}
        """By where they begin."""
        self._quiet = 0
        self._failures = 0
        self._learning = Lock()

    def follow(
        self, source: Source, data: bytes, header: Header, limits: Limits, begin: int = BEGIN
    ) -> Followed | Read | None:
        """Follow the traces that hit last, from the first byte of the object.

        Parameters
        ----------
        source : Source
        data : bytes
            Its first bytes.
        header : Header
            Is filled; on a miss, or where all is given at once, it is empty.
        limits : Limits
            Of what is read beyond the first bytes.
        begin : int
            Where in them the header begins.
        """
        if self._quiet:
            return None
        order = self._orders.get(begin, ())
        for trace in order[:_TRIED]:
            program = trace.program
            if program is None:
                continue
            followed: Followed | Read | None
            alike = program.alike
            followed = alike.read(source, data) if alike is not None else None
            if followed is None:
                followed = _follow(program, source, data, header, self._what, limits)
            if followed is not None:
                trace.hits += 1
                if trace.hits == _GOOD:
                    self._failures = 0
                if trace is not order[0]:
                    self._first(trace, begin)
                return followed
            header.clear()
        return None

    def missed(self, data: bytes, header: Header, begin: int = BEGIN) -> None:
        """Learn from an object that was walked without anything to remark.

        Parameters
        ----------
        data : bytes
            First bytes of the object.
        header : Header
            What `walk` made of it.
        begin : int
            Where in them the header begins.
        """
        if self._quiet:
            self._quiet -= 1
            return
        if not self._learning.acquire(blocking=False):
            return
        try:
            self._learn(data, dict(header), begin)
        finally:
            self._learning.release()

    def _learn(self, data: bytes, header: Header, begin: int) -> None:
        layout = layout_of(data, self._what.last, begin)
        if layout is None:
            self._back_off()
            return
        signature = layout.signature
        trace = self._traces.get(signature)
        if trace is None:
            if len(self._traces) >= _HELD:
                self._traces.clear()
                self._orders = {}
            trace = self._traces[signature] = _Trace(data, header, layout)
            self._back_off()
        else:
            if not trace.hits:
                self._back_off()
            trace.learn(data, header, layout, self._what)
        self._first(trace, begin)

    def _back_off(self) -> None:
        self._failures += 1
        if self._failures > 4:
            self._quiet = min(1 << self._failures, _QUIET)

    def _first(self, trace: _Trace, begin: int) -> None:
        order = self._orders.get(begin, ())
        self._orders[begin] = (trace, *(one for one in order if one is not trace))


def _follow(
    program: _Program, source: Source, data: bytes, header: Header, what: Plan, limits: Limits
) -> Followed | None:
    steps, kept, tail, pixels, last, at, explicit, alike = program
    spans: list[int] = []
    same = data.startswith
    header.update(kept)
    try:
        for run, size, way, length, tag in steps:
            if not same(run, at):
                return None
            at += size
            if way == _SHORT:
                length = data[at] | data[at + 1] << 8  # noqa: PLW2901  a fixed one is not used here
                at += 2
            elif way == _LONG:
                length = int.from_bytes(data[at : at + 4], "little")  # noqa: PLW2901
                at += 4
            elif way >= _SEQUENCE:
                if way == _SEQUENCE:
                    at -= length
                    end = _at_hand(data, at, header, tag, what, explicit=explicit)
                    if end:
                        spans += (at + length, end)
                        at = end
                        continue
                if isinstance(source, Pipe):
                    return None  # a miss behind it would find that what was passed is gone
                alike = None
                cursor = _cursor(source, data, at, limits, explicit=explicit)
                at = _nested(cursor, header, tag, what)
                continue
            end = at + length
            spans += (at, end)
            if tag:
                header[tag] = data[at:end]
            at = end
    except (IndexError, HandOver, Refused):
        return None
    if at > len(data) or not same(tail, at):
        return None
    at += len(tail)
    if not pixels:
        cursor = _cursor(source, data, at, limits, explicit=explicit)
        return Followed(cursor, last, truncated=False)
    # the tail ends with the tag and VR of what comes last: its length follows
    if at + 4 > len(data):
        return None
    if alike is not None:
        alike.met(spans, at, data)
    if pixels == PER_FRAME:
        return _COMPLETE
    length = int.from_bytes(data[at : at + 4], "little")
    if length != UNDEFINED:
        return _COMPLETE if source.reaches(at + 4 + length) else _TRUNCATED
    cursor = _cursor(source, data, at - (8 if explicit else 4), limits, explicit=explicit)
    if not whole(cursor, header, pixels):
        return None
    return _TRUNCATED if cursor.findings else _COMPLETE


def _cursor(source: Source, data: bytes, at: int, limits: Limits, *, explicit: bool) -> Cursor:
    cursor = Cursor(source, data, limits)
    cursor.syntax(explicit=explicit, little=True)
    cursor.at = at
    return cursor


def _at_hand(data: bytes, at: int, header: Header, tag: int, what: Plan, *, explicit: bool) -> int:
    """Keep or pass a sequence that is at hand, as `nested` does, and give where it ends; 0 where it is not."""
    begin = at + (12 if explicit else 8)
    length = int.from_bytes(data[begin - 4 : begin], "little")
    inner = what.wanted.get(tag) or NOTHING
    try:
        items, end = items_at(
            data, begin, length, inner, what.sequences[explicit].memos, explicit=explicit
        )
    except LookupError:
        return 0
    if inner is not NOTHING:
        header[tag] = pack_items(items)
    return end


def _nested(cursor: Cursor, header: Header, tag: int, what: Plan) -> int:
    """Pass a sequence as `walk` does, and give where it ends."""
    at = cursor.at
    found, vr, length = cursor.element()
    if found != tag:
        raise HandOver
    if vr == b"SQ" or (not vr and what.wanted.get(tag) is not None):
        after, cursor.at = cursor.at, at
        if nested(cursor, what, header, tag):
            return cursor.at
        cursor.at = after
    cursor.value(header, tag, vr, length, what.wanted, 0)
    if cursor.base or cursor.findings:
        raise HandOver
    return cursor.at
