"""Headers that are alike down to the length of each value: taken apart in one go.

Within a series most headers that follow one trace do so with the same lengths. Then the whole header is one
`struct` format, in which what must be the same and what differs take turns: two calls take it apart and
compare every byte that must be the same.
"""

from __future__ import annotations

from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from converter.core.header import (
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Split,
)
from converter.reading.cursor import Cursor
from converter.reading.elements import PER_FRAME
from converter.reading.encoding import UNDEFINED
from converter.reading.identify import own_uid, shared_uids
from converter.reading.quick import NOTHING, Sequences
from converter.reading.result import DEFAULT, Read
from converter.reading.walk import ROWS, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converter.core.header import Header, Wanted
    from converter.reading.source import Source

__all__ = ["Alike"]

_HELD: Final = 8
"""Sets of lengths of one trace."""
_SEEN: Final = 64
_SHARED: Final = (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_CLASS_UID)


class _Variant(NamedTuple):
    """One set of lengths."""

    unpack: Callable[[bytes, int], tuple[bytes, ...]]
    size: int
    """Bytes of the object that it needs."""
    same: tuple[bytes, ...]
    """What must stand between the values."""


class Alike:
    """What is known of the headers of one trace, the images of a series.

    Parameters
    ----------
    kept : Header
        Attributes that are the same in all of them.
    values : sequence of (int, Wanted or None)
        For each value that differs its tag, or 0 where it is not kept; of a sequence, what is wanted of its items.
        The value of one begins behind its tag and VR.
    pixels : int
        Tag of the pixel data or Per-Frame Functional Groups that follow.
    begin : int
        Where in the first bytes the header begins.
    explicit : bool
        Whether VRs are.
    keeps_rows : bool
        Whether Rows are wanted: they are read in any case.
    sequences : Sequences
    """

    def __init__(
        self,
        kept: Header,
        values: Sequence[tuple[int, Wanted | None]],
        pixels: int,
        *,
        begin: int,
        explicit: bool,
        keeps_rows: bool,
        sequences: Sequences,
    ) -> None:
        self._rows: Header = {ROWS: kept[ROWS]} if ROWS in kept else {}
        self._shared = kept if keeps_rows else {t: v for t, v in kept.items() if t != ROWS}
        kept_values = [
            (index, tag)
            for index, (tag, inner) in enumerate(values)
            if tag and inner is not NOTHING
        ]
        self._tags = tuple(tag for _, tag in kept_values)
        # a value follows each run: they stand at the odd places
        where = [2 * index + 1 for index, _ in kept_values]
        self._nested = tuple(
            (2 * index + 1, self._tags.index(tag) if tag in self._tags else -1, inner)
            for index, (tag, inner) in enumerate(values)
            if inner is not None
        )
        self._sequences = sequences
        self._pick: Callable[[tuple[bytes, ...]], tuple[bytes, ...]] = (
            itemgetter(*where)
            if len(where) > 1
            else lambda parts: tuple(parts[index] for index in where)
        )
        self._own = self._tags.index(SOP_INSTANCE_UID) if SOP_INSTANCE_UID in self._tags else -1
        self._uids = shared_uids(kept)
        # of studies of one image each has its own
        self._own_uids = {tag: self._tags.index(tag) for tag in _SHARED if tag in self._tags}
        self._other_uids = {tag: kept[tag] for tag in _SHARED if tag in kept}
        self._pixels, self._begin, self._explicit = pixels, begin, explicit
        known = len(self._own_uids) + len(self._other_uids) == len(_SHARED)
        self.useful = (
            (known if self._own_uids else self._uids is not None)
            and self._own >= 0
            and ROWS not in self._tags
        )
        # never changed in place: threads of a receiver share it
        self._variants: tuple[_Variant, ...] = ()
        self._seen: set[tuple[int, ...]] = set()

    def read(self, source: Source, data: bytes) -> Read | None:
        """Read a header; nothing where it is like none before.

        Parameters
        ----------
        source : Source
        data : bytes
            First bytes of the object.
        """
        have, begin = len(data), self._begin
        variants = self._variants
        for variant in variants:
            unpack, least, same = variant
            # where lengths differ it mostly ends elsewhere
            if have < least or not data.startswith(same[-1], least - 4 - len(same[-1])):
                continue
            parts = unpack(data, begin)
            if parts[::2] != same:
                continue
            if variant is not variants[0]:
                self._first(variant)
            values = self._pick(parts)
            if self._nested:
                packed = self._packed(parts, values)
                if packed is None:
                    return None
                values = packed
            uid = own_uid(values[self._own])
            uids = self._uids
            if self._own_uids:
                varying = {tag: values[place] for tag, place in self._own_uids.items()}
                uids = shared_uids({**self._other_uids, **varying})
            if uid is None or uids is None:
                return None
            length = int.from_bytes(parts[-1], "little")
            if self._pixels == PER_FRAME:
                truncated: bool | None = False
            elif length == UNDEFINED:
                truncated = self._cut(source, data, least)
                if truncated is None:
                    return None
            else:
                truncated = not source.reaches(least + length)
            study, series, sop_class = uids
            return Read(
                Split(self._shared, self._tags, values),
                study,
                series,
                uid,
                sop_class,
                ("truncated",) if truncated else (),
            )
        return None

    def _packed(
        self, parts: tuple[bytes, ...], values: tuple[bytes, ...]
    ) -> tuple[bytes, ...] | None:
        """Take sequences apart; nothing where one is unusual, or ends elsewhere than in those before."""
        changed = list(values)
        for where, place, inner in self._nested:
            packed = self._sequences.packed(parts[where], 6 if self._explicit else 4, inner)
            if packed is None:
                return None
            if place >= 0:
                changed[place] = packed
        return tuple(changed)

    def _cut(self, source: Source, data: bytes, end: int) -> bool | None:
        """Whether encapsulated pixel data end before the last fragment; nothing where that is not all."""
        cursor = Cursor(source, data, DEFAULT)
        cursor.syntax(explicit=self._explicit, little=True)
        cursor.at = end - (12 if self._explicit else 8)
        if not whole(cursor, self._rows, self._pixels) or cursor.findings.keys() - {"truncated"}:
            return None
        return bool(cursor.findings)

    def met(self, spans: Sequence[int], stop: int, data: bytes) -> None:
        """Note a header that was followed value by value; lengths that come again are learned.

        Parameters
        ----------
        spans : sequence of int
            Where each value begins and ends.
        stop : int
            Where the length of the pixel data stands.
        data : bytes
            First bytes of the object.
        """
        key = tuple(spans)
        if key not in self._seen:
            if len(self._seen) >= _SEEN:
                self._seen.clear()
            self._seen.add(key)
            return
        begins, ends = [*key[::2], stop], [self._begin, *key[1::2]]
        same = tuple(data[end:begin] for end, begin in zip(ends, begins, strict=True))
        lengths = [*(end - begin for begin, end in zip(key[::2], key[1::2], strict=True)), 4]
        pairs = zip(same, lengths, strict=True)
        form = Struct("".join(f"{len(run)}s{length}s" for run, length in pairs))
        self._first(_Variant(form.unpack_from, self._begin + form.size, same))

    def _first(self, variant: _Variant) -> None:
        others = (one for one in self._variants if one is not variant)
        self._variants = (variant, *others)[:_HELD]
