"""Where the bytes come from: a file descriptor, bytes, a stream, a deflated part of one of these.

A reader asks for bytes at an offset that never goes back before the last one it asked for, except that
``restart`` begins anew. Nothing is read that nobody asks for.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Protocol

from converter.reading.result import Refused

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Bytes", "Descriptor", "Inflated", "Pipe", "Seekable", "Source"]

_CHUNK = 65536


class Source(Protocol):
    """Bytes by offset."""

    size: int | None
    """Number of bytes, where it is known."""
    random: bool
    """Whether any place costs the same to read."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from an offset on; fewer than asked for only at the end."""
        ...

    def restart(self) -> Source:
        """Give the same bytes again from the start."""
        ...


class Bytes:
    """Bytes in memory."""

    random = True

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size: int | None = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        return self.data[offset : offset + size]

    def restart(self) -> Source:
        """See `Source.restart`."""
        return self


class Descriptor:
    """An open regular file."""

    random = True

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size: int | None = size

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        size = min(size, max(0, (self.size or 0) - offset))  # pread allocates what it is asked for
        data = os.pread(self.descriptor, size, offset)
        while 0 < len(data) < size and offset + len(data) < (self.size or 0):
            more = os.pread(self.descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def restart(self) -> Source:
        """See `Source.restart`."""
        return self


class Seekable:
    """A stream that can be wound, such as a member of an archive."""

    random = False

    def __init__(self, stream: BinaryIO, size: int | None) -> None:
        self.stream = stream
        if size is None:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
        self.size: int | None = size

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        size = min(size, max(0, (self.size or 0) - offset))
        if self.stream.tell() != offset:
            self.stream.seek(offset)
        return _read_all(self.stream, size)

    def restart(self) -> Source:
        """See `Source.restart`."""
        return self


class Pipe:
    """A stream that goes forward only: what was read is held, up to a limit."""

    random = False

    def __init__(self, stream: BinaryIO, size: int | None, limit: int) -> None:
        self.stream = stream
        self.size = size
        self._held = bytearray()
        self._base = 0
        self._limit = limit

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        end = offset + size
        while self._base + len(self._held) < end:
            if len(self._held) > self._limit:
                # past the limit only what lies ahead is held
                drop = min(offset - self._base, len(self._held))
                if drop <= 0:
                    raise Refused("header-limit")
                del self._held[:drop]
                self._base += drop
            data = self.stream.read(_CHUNK)
            if not data:
                self.size = self._base + len(self._held)
                break
            self._held += data
        at = offset - self._base
        if at < 0:
            raise Refused("header-limit")
        return bytes(self._held[at : at + size])

    def restart(self) -> Source:
        """See `Source.restart`."""
        if self._base:
            raise Refused("header-limit")
        return self


class Inflated:
    """The deflated data set in another source, inflated as far as it is asked for (PS3.5 A.5)."""

    random = False

    def __init__(self, source: Source, start: int, limit: int) -> None:
        self.size: int | None = None
        self._source = source
        self._start = start
        self._limit = limit
        self._at = start
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._window = bytearray()
        self._base = 0

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`.

        Raises
        ------
        Refused
            ``inflate-limit`` before more than the limit is inflated, ``malformed`` for what is not deflated.
        """
        while self._base + len(self._window) < offset + size and not self._inflater.eof:
            drop = min(offset - self._base, len(self._window))
            if drop > 0:
                del self._window[:drop]
                self._base += drop
            if not self._more():
                break
        at = offset - self._base
        return bytes(self._window[at : at + size]) if at >= 0 else b""

    def _more(self) -> bool:
        tail = self._inflater.unconsumed_tail
        if not tail:
            tail = self._source.read(self._at, _CHUNK)
            self._at += len(tail)
        total = self._base + len(self._window)
        if total >= self._limit:
            raise Refused("inflate-limit")
        try:
            data = self._inflater.decompress(tail, min(_CHUNK * 4, self._limit - total))
        except zlib.error:
            raise Refused("malformed", "The deflated data set cannot be inflated.") from None
        self._window += data
        if self._inflater.eof:
            self.size = self._base + len(self._window)
            return False
        if not tail and not data:
            self.size = self._base + len(self._window)
            return False
        return True

    def restart(self) -> Source:
        """See `Source.restart`."""
        return Inflated(self._source.restart(), self._start, self._limit)


def _read_all(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    while 0 < len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            break
        data += more
    return data
