"""A place in a source, and the elements, items and sequences that stand from there on (PS3.5 section 7)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from converter.core.dictionary import keyword_of
from converter.core.header import Header, Wanted, pack_items
from converter.reading.encoding import (
    ITEM,
    ITEM_END,
    LONG,
    SEQUENCE_END,
    SHORT,
    UNDEFINED,
    WIDTH,
    ZEROS,
    little_endian,
)
from converter.reading.result import HandOver, Limits, Refused

if TYPE_CHECKING:
    from converter.reading.source import Source

__all__ = ["Cursor"]

_LITTLE: Final = Struct("<HHI").unpack_from
_BIG: Final = Struct(">HHI").unpack_from
_LITTLE_SHORT: Final = Struct("<H").unpack_from
_BIG_SHORT: Final = Struct(">H").unpack_from
_LITTLE_LONG: Final = Struct("<I").unpack_from
_BIG_LONG: Final = Struct(">I").unpack_from
_GROWTH: Final = 65536
_MOST: Final = 1024 * 1024
_BEHIND: Final = 16384
"""Bytes that are read behind a value that was passed: large ones stand near the end of a header."""
SQ: Final = b"SQ"
EVIDENCE: Final = 0x0040A375
"""Current Requested Procedure Evidence Sequence of key objects and reports: as long as their study is large."""
EVIDENCE_LIMIT: Final = 1 << 20


class Cursor:
    """A window on a source that only moves forward.

    ``data`` is the window, ``at`` the place in it, ``base`` the offset of the window in the source.
    """

    __slots__ = (
        "at", "base", "chunk", "data", "explicit", "findings", "left", "limits", "little", "source",
        "unpack", "unpack_long", "unpack_short", "until",
    )  # fmt: skip

    def __init__(self, source: Source, data: bytes, limits: Limits) -> None:
        self.source = source
        self.data = data
        self.base = 0
        self.at = 0
        self.limits = limits
        self.chunk = limits.first
        self.left = limits.elements
        self.findings: dict[str, None] = {}
        self.until = 0
        """Offset beyond which a sequence is passed, with a finding; 0: it is refused beyond its limit."""
        self.explicit = self.little = True
        self.unpack, self.unpack_short, self.unpack_long = _LITTLE, _LITTLE_SHORT, _LITTLE_LONG

    def syntax(self, *, explicit: bool, little: bool) -> None:
        """Set how the elements from here on are written."""
        self.explicit = explicit
        self.little = little
        self.unpack = _LITTLE if little else _BIG
        self.unpack_short = _LITTLE_SHORT if little else _BIG_SHORT
        self.unpack_long = _LITTLE_LONG if little else _BIG_LONG

    @property
    def offset(self) -> int:
        """Offset in the source."""
        return self.base + self.at

    def available(self, size: int) -> bool:
        """Bring so many bytes into the window, and tell whether the source has them."""
        if self.at + size <= len(self.data):
            return True
        if self.at > len(self.data) and self.source.random:
            chunk = _BEHIND
        else:
            chunk = self.chunk = min(max(self.chunk * 4, _GROWTH), _MOST)
        offset = self.offset
        self.data = self.source.read(offset, max(size, chunk))
        self.base = offset
        self.at = 0
        return size <= len(self.data)

    def need(self, size: int) -> None:
        """Bring so many bytes into the window; where the source ends before, the header is cut."""
        if not self.available(size):
            raise Refused("truncated-header")

    def skip(self, size: int) -> None:
        """Go past so many bytes without reading them."""
        whole = self.source.size
        if whole is not None and self.offset + size > whole:
            raise Refused("truncated-header")
        self.at += size

    def take(self, size: int) -> bytes:
        """Value of so many bytes, and go past it."""
        if size > self.limits.header:
            whole = self.source.size
            if whole is not None and self.offset + size > whole:
                raise Refused("truncated-header")
            raise Refused("header-limit")
        self.need(size)
        value = self.data[self.at : self.at + size]
        self.at += size
        return value

    def element(self) -> tuple[int, bytes, int]:
        """Tag, VR (empty where none is written) and length of the next element; go to its value."""
        if self.at + 12 > len(self.data):
            self.need(8)
        group, element, length = self.unpack(self.data, self.at)
        tag = group << 16 | element
        if not self.explicit or group == 0xFFFE:
            self.at += 8
            return tag, b"", length
        vr = self.data[self.at + 4 : self.at + 6]
        if vr in SHORT:
            length = self.unpack_short(self.data, self.at + 6)[0]
            self.at += 8
        elif vr in LONG:
            if self.at + 12 > len(self.data):
                self.need(12)
            length = self.unpack_long(self.data, self.at + 8)[0]
            self.at += 12
        else:
            if not (vr.isalpha() and vr.isupper()):
                raise HandOver
            if not self._has_long_form(tag):
                raise HandOver("unknown-vr")
            self.findings["unknown-vr"] = None
            length = self.unpack_long(self.data, self.at + 8)[0]
            self.at += 12
        return tag, vr, length

    def _has_long_form(self, tag: int) -> bool:
        """Whether a VR that DICOM does not define is written as PS3.5 7.1.2 wants new ones: length in four bytes.

        Of two zeros before a length, or an empty value with its length in two bytes and the next element.
        """
        if self.data[self.at + 6 : self.at + 8] != b"\0\0" or not self.available(12):
            return False
        if not self.available(14):
            return True
        group, element, _ = self.unpack(self.data + ZEROS, self.at + 8)
        vr = self.data[self.at + 12 : self.at + 14]
        return not (group << 16 | element > tag and (vr in SHORT or vr in LONG))

    def count(self) -> None:
        """Count an element or item that is walked one by one."""
        self.left -= 1
        if self.left < 0:
            raise Refused("header-limit")

    def value(
        self, header: Header, tag: int, vr: bytes, length: int, wanted: Wanted, depth: int
    ) -> None:
        """Keep or skip the value of an element that is at hand."""
        if tag not in wanted:
            self.ignore(vr, length, depth)
            return
        inner = wanted[tag]
        if vr == b"UN" and (length == UNDEFINED or inner is not None):
            raise HandOver  # written in implicit VR within: pydicom knows the corner cases
        if vr == b"UN" and not self.little:
            raise HandOver  # the width of its numbers is in the dictionary
        if inner is not None and (vr == SQ or not self.explicit):
            self.until = self.offset + EVIDENCE_LIMIT if tag == EVIDENCE else self.until
            header[tag] = pack_items(self.sequence(length, inner, depth))
            self.until = 0 if tag == EVIDENCE else self.until
        elif inner is None and vr != SQ and length != UNDEFINED:
            value = self.take(length)
            header[tag] = value if self.little or vr not in WIDTH else little_endian(value, vr)
        elif not self.explicit:
            raise HandOver
        else:
            self.findings[f"wrong-vr {keyword_of(tag)}"] = None
            header.pop(tag, None)
            self.ignore(vr, length, depth)

    def ignore(self, vr: bytes, length: int, depth: int) -> None:
        """Go past the value of an element."""
        if length != UNDEFINED:
            self.skip(length)
        elif vr == SQ or not self.explicit:
            self.sequence(length, None, depth)
        elif vr in {b"OB", b"OW"}:
            self._fragments()
        else:
            raise HandOver

    def sequence(self, length: int, wanted: Wanted | None, depth: int) -> list[Header]:
        """Items of a sequence, with what is wanted of them."""
        depth += 1
        if depth > self.limits.depth:
            raise Refused("too-deep")
        items: list[Header] = []
        if length == UNDEFINED:
            end = None
        else:
            end = self.offset + length
            whole = self.source.size
            if whole is not None and end > whole:
                raise Refused("truncated-header")
            if self.until and end > self.until:
                self.findings["evidence-too-large"] = None
                wanted = None
            elif length > self.limits.header and wanted is not None:
                raise Refused("header-limit")
        start = self.offset
        while end is None or self.offset < end:
            self.count()
            self.need(8)
            group, element, size = self.unpack(self.data, self.at)
            tag = group << 16 | element
            self.at += 8
            if tag == SEQUENCE_END and end is None:
                return items
            if tag != ITEM:
                raise HandOver
            if wanted is None and size != UNDEFINED:
                self.skip(size)
                continue
            item = self._item(size, wanted, depth)
            if wanted is None:
                continue
            items.append(item)
            if self.until:
                if self.offset > self.until:
                    self.findings["evidence-too-large"] = None
                    wanted, items = None, []
            elif self.offset - start > self.limits.header:
                raise Refused("header-limit")
        if end is not None and self.offset != end:
            raise HandOver
        return items

    def _item(self, size: int, wanted: Wanted | None, depth: int) -> Header:
        header: Header = {}
        end = None if size == UNDEFINED else self.offset + size
        while end is None or self.offset < end:
            self.count()
            tag, vr, length = self.element()
            if tag == ITEM_END and end is None:
                return header
            if tag >= 0xFFFE0000:
                raise HandOver
            if wanted is None:
                self.ignore(vr, length, depth)
            else:
                self.value(header, tag, vr, length, wanted, depth)
        if self.offset != end:
            raise HandOver
        return header

    def _fragments(self) -> None:
        """Go past encapsulated data, such as of an icon (PS3.5 A.4)."""
        while True:
            self.need(8)
            group, element, size = self.unpack(self.data, self.at)
            tag = group << 16 | element
            self.at += 8
            if tag == SEQUENCE_END:
                return
            if tag != ITEM or size == UNDEFINED:
                raise HandOver
            self.skip(size)
