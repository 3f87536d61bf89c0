"""The reading end of a journal's segment, and what a segment's bytes are.

A segment begins and ends with the same header: magic, epoch, marker, and a checksum over these. The marker is eight
random bytes that the writing process drew, and each record begins with it. So where bytes in the middle are damaged,
the next record is found behind them; and nothing that a peer sends can pass for a record, for no peer knows the marker.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

__all__ = ["HEADER", "MAX_RECORD", "Gap", "Tail", "pack_header", "pack_record"]

MAX_RECORD: Final = 16 << 20
_MAGIC: Final = b"D2FJ\x02\0\0\0"
_HEADER: Final = struct.Struct("<8sQ8sI4x")
_RECORD: Final = struct.Struct("<8sII")
HEADER: Final = _HEADER.size
"""Bytes before the first record, and again at the end of the file."""
_OLD_MAGIC: Final = b"D2FJ\x01\0\0\0"
_OLD_HEADER: Final = struct.Struct("<8sQ")
_OLD_RECORD: Final = struct.Struct("<0sII")


class Gap(NamedTuple):
    """Bytes that are no record, with records behind them."""

    start: int
    end: int
    records: int
    """How many it was at least."""


def pack_header(epoch: int, marker: bytes) -> bytes:
    """Make the header of a segment."""
    told = _HEADER.pack(_MAGIC, epoch, marker, 0)[:24]
    return _HEADER.pack(_MAGIC, epoch, marker, crc32(told))


def pack_record(payload: bytes, marker: bytes) -> bytes:
    """Put marker, length and checksum before a payload."""
    size = len(payload)
    return _RECORD.pack(marker, size, crc32(payload, size)) + payload


class Tail:
    """The reading end of one segment: what is whole, from where the last reading stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.size = os.fstat(self._descriptor).st_size
        self.epoch = 0
        self._marker = b""
        self._record = _RECORD
        self.offset = HEADER
        self.gaps: dict[int, Gap] = {}
        """What `skip` left out, by where it begins."""
        first = self._header(0)
        last = self._header(self.size - HEADER)
        self._end = self.size - HEADER if last else self.size
        self.known = True
        self.whole = first is not None
        """Whether the header is; the one at the end does as well."""
        if found := first or last:
            self.epoch, self._marker = found
            return
        magic, self.epoch = _OLD_HEADER.unpack(
            os.pread(self._descriptor, _OLD_HEADER.size, 0).ljust(_OLD_HEADER.size, b"\0")
        )
        self.known = self.whole = magic == _OLD_MAGIC
        self._record, self.offset = _OLD_RECORD, _OLD_HEADER.size

    def _header(self, at: int) -> tuple[int, bytes] | None:
        data = os.pread(self._descriptor, HEADER, at) if at >= 0 else b""
        if len(data) < HEADER:
            return None
        _, epoch, marker, _ = _HEADER.unpack(data)
        return (epoch, marker) if data == pack_header(epoch, marker) else None

    def read(self, limit: int = 1 << 20) -> list[bytes]:
        """Payloads from here on, about ``limit`` bytes of them; none where no whole record follows."""
        if not self.known:
            return []
        payloads: list[bytes] = []
        record = self._record
        window = os.pread(self._descriptor, limit, self.offset)
        at = 0
        while at + record.size <= len(window):
            marker, size, check = record.unpack_from(window, at)
            if marker != self._marker or not 0 < size <= MAX_RECORD:
                break
            end = at + record.size + size
            if end > len(window):
                if payloads:
                    break
                window = os.pread(self._descriptor, record.size + size, self.offset)
                at, end = 0, record.size + size
                if len(window) < end:
                    break
            payload = window[at + record.size : end]
            if crc32(payload, size) != check:
                break
            payloads.append(payload)
            at = end
        self.offset += at
        return payloads

    def skip(self) -> bool:
        """Go on at the next whole record behind what is none; ``False`` where there is none. Only once nobody writes.

        A segment of the version before has no marker: what is behind its first fault cannot be told from what a peer sent.
        """
        if not self.known or not self._marker:
            return False
        rest = self._rest()
        at = rest.find(self._marker, 1)
        records = 1
        while at >= 0:
            if at + _RECORD.size <= len(rest):
                _, size, check = _RECORD.unpack_from(rest, at)
                payload = rest[at + _RECORD.size : at + _RECORD.size + size]
                if 0 < size == len(payload) <= MAX_RECORD and crc32(payload, size) == check:
                    start, self.offset = self.offset, self.offset + at
                    self.gaps[start] = Gap(start, self.offset, records)
                    return True
            records += 1
            at = rest.find(self._marker, at + 1)
        return False

    def torn(self) -> int:
        """How many bytes follow up to the last that is not zero: a record that was being written when its writer died."""
        return len(self._rest().rstrip(b"\0"))

    def waiting(self) -> int:
        """How many bytes are still to be read."""
        if not any(os.pread(self._descriptor, _RECORD.size, self.offset)):
            return 0  # as most of the time: the rest needs no look
        return self.torn()

    def _rest(self) -> bytes:
        return os.pread(self._descriptor, max(0, self._end - self.offset), self.offset)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
