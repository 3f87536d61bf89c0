"""Headers that are alike down to the length of each value: taken apart in one go.

Within a series most headers that follow one trace do so with the same lengths. Then the whole header is one
`struct` format, in which what must be the same and what differs take turns: two calls take it apart and
compare every byte that must be the same.
"""

from __future__ import annotations

from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from converter.core.header import SOP_INSTANCE_UID, Split
from converter.reading.cursor import Cursor
from converter.reading.encoding import UNDEFINED
from converter.reading.identify import own_uid, shared_uids
from converter.reading.result import DEFAULT, Read
from converter.reading.walk import ROWS, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converter.core.header import Header
    from converter.reading.source import Source

__all__ = ["Alike"]

_HELD: Final = 8
"""Sets of lengths of one trace."""
_SEEN: Final = 64


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
    tags : sequence of int
        For each value that differs its tag, or 0 where it is not kept.
    pixels : int
        Tag of the pixel data that follow.
    begin : int
        Where in the first bytes the header begins.
    explicit : bool
        Whether VRs are.
    keeps_rows : bool
        Whether Rows are wanted: they are read in any case.
    """

    def __init__(
        self,
        kept: Header,
        tags: Sequence[int],
        pixels: int,
        *,
        begin: int,
        explicit: bool,
        keeps_rows: bool,
    ) -> None:
        self._rows: Header = {ROWS: kept[ROWS]} if ROWS in kept else {}
        self._shared = kept if keeps_rows else {t: v for t, v in kept.items() if t != ROWS}
        self._tags = tuple(filter(None, tags))
        # a value follows each run: they stand at the odd places
        where = [2 * index + 1 for index, tag in enumerate(tags) if tag]
        self._pick: Callable[[tuple[bytes, ...]], tuple[bytes, ...]] = (
            itemgetter(*where)
            if len(where) > 1
            else lambda parts: tuple(parts[index] for index in where)
        )
        self._own = self._tags.index(SOP_INSTANCE_UID) if SOP_INSTANCE_UID in self._tags else -1
        self._uids = shared_uids(kept)
        self._pixels, self._begin, self._explicit = pixels, begin, explicit
        self.useful = self._uids is not None and self._own >= 0 and ROWS not in self._tags
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
            if have < least:
                continue
            parts = unpack(data, begin)
            if parts[::2] != same:
                continue
            if variant is not variants[0]:
                self._first(variant)
            values = self._pick(parts)
            uid = own_uid(values[self._own])
            if uid is None or self._uids is None:
                return None
            length = int.from_bytes(parts[-1], "little")
            if length == UNDEFINED:
                truncated = self._cut(source, data, least)
                if truncated is None:
                    return None
            else:
                truncated = not source.reaches(least + length)
            study, series, sop_class = self._uids
            return Read(
                Split(self._shared, self._tags, values),
                study,
                series,
                uid,
                sop_class,
                ("truncated",) if truncated else (),
            )
        return None

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
