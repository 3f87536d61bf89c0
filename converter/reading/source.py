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
    from collections.abc import Callable
    from typing import BinaryIO

__all__ = ["Bytes", "Descriptor", "Inflated", "Pipe", "Seekable", "Source"]

_CHUNK = 65536


class Source(Protocol):
    """Bytes by offset."""

    size: int | None
    """Number of bytes, where it is known."""
    random: bool
    """Whether any place further on costs the same to read."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from an offset on; fewer than asked for only at the end."""
        ...

    @property
    def again(self) -> bool:
        """Whether it can be restarted."""
        ...

    def reaches(self, end: int) -> bool:
        """Whether there are bytes up to an offset, as far as can be told; nothing before it is read afterwards."""
        ...

    def restart(self) -> Source:
        """Give the same bytes again from the start."""
        ...


class Bytes:
    """Bytes in memory."""

    random = True
    again = True

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size: int | None = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        return self.data[offset : offset + size]

    def reaches(self, end: int) -> bool:
        """See `Source.reaches`."""
        return end <= (self.size or 0)

    def restart(self) -> Source:
        """See `Source.restart`."""
        return self


class Descriptor:
    """An open regular file."""

    random = True
    again = True

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

    def reaches(self, end: int) -> bool:
        """See `Source.reaches`."""
        return end <= (self.size or 0)

    def restart(self) -> Source:
        """See `Source.restart`."""
        return self


class Seekable:
    """A stream that can be wound, such as a member of an archive."""

    random = False
    again = True

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

    def reaches(self, end: int) -> bool:
        """See `Source.reaches`."""
        return end <= (self.size or 0)

    def restart(self) -> Source:
        """See `Source.restart`."""
        return self


class Pipe:
    """A stream that goes forward only: what was read is held, up to a limit.

    One that has a ``skip`` (bytes to pass, gives how many there were) is asked for that where bytes are not needed.
    """

    def __init__(self, stream: BinaryIO, size: int | None, limit: int) -> None:
        self.stream = stream
        self.size = size
        self._skip: Callable[[int], int] | None = getattr(stream, "skip", None)
        self.random = self._skip is not None
        self._passed = False
        self._held = bytearray()
        self._base = 0
        self._limit = limit

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`."""
        end = offset + size
        if self._passed and offset > self._base + len(self._held):
            self._pass(offset)
        while self._base + len(self._held) < end:
            if len(self._held) > self._limit:
                # past the limit only what lies ahead is held
                drop = min(offset - self._base, len(self._held))
                if drop <= 0:
                    raise Refused("header-limit")
                del self._held[:drop]
                self._base += drop
            have = self._base + len(self._held)
            data = self.stream.read(end - have if self._passed else _CHUNK)
            if not data:
                self.size = self._base + len(self._held)
                break
            self._held += data
        at = offset - self._base
        if at < 0:
            raise Refused("header-limit")
        return bytes(self._held[at : at + size])

    def reaches(self, end: int) -> bool:
        """See `Source.reaches`."""
        if self.size is None and self._skip is not None:
            self._passed = True
            self._pass(end)
        return self.size is None or end <= self.size

    @property
    def again(self) -> bool:
        """See `Source.again`."""
        return not self._base

    def _pass(self, end: int) -> None:
        """Go on to an offset without reading what lies before."""
        have = self._base + len(self._held)
        if end > have and self._skip is not None and self.size is None:
            self._base = have + self._skip(end - have)
            self._held.clear()
            if self._base < end:
                self.size = self._base

    def restart(self) -> Source:
        """See `Source.restart`."""
        if self._base:
            raise Refused("header-limit")
        return self


class Inflated:
    """The deflated data set in another source, inflated as far as it is asked for (PS3.5 A.5).

    Parameters
    ----------
    source : Source
    start : int
        Where the data set begins in it.
    limit : int
        Bytes that it inflates to at most.
    head : bytes
        Those that stand there, as far as they are at hand.
    """

    random = False
    again = True

    def __init__(self, source: Source, start: int, limit: int, head: bytes = b"") -> None:
        self.size: int | None = None
        self._source = source
        self._start = start
        self._limit = limit
        self._at = start + len(head)
        self._deflated = head
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._window = b""
        self._base = 0

    def read(self, offset: int, size: int) -> bytes:
        """See `Source.read`.

        Raises
        ------
        Refused
            ``inflate-limit`` before more than the limit is inflated, ``malformed`` for what is not deflated.
        """
        if not self._base and not self._window and self.size is None:
            self._window = self._more(0, offset + size)  # mostly all that is asked for
        have = self._base + len(self._window)
        if have < offset + size and self.size is None:
            pieces = [self._window[max(0, offset - self._base) :]]
            begin = have - len(pieces[0])
            while have < offset + size and self.size is None:
                piece = self._more(have, offset + size - have)
                if have <= offset:
                    pieces, begin = [], have  # what was passed is held no longer
                pieces.append(piece)
                have += len(piece)
            self._window = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._base = begin
        at = offset - self._base
        if not at and size >= len(self._window):
            return self._window
        return self._window[at : at + size] if at >= 0 else b""

    def _more(self, have: int, missing: int) -> bytes:
        """Inflate the next piece: no more than is missing, where that is little."""
        deflated = self._deflated
        if not deflated:
            deflated = self._source.read(self._at, _CHUNK)
            self._at += len(deflated)
        if have >= self._limit:
            raise Refused("inflate-limit")
        inflater = self._inflater
        try:
            data = inflater.decompress(deflated, min(missing, _CHUNK * 4, self._limit - have))
        except zlib.error:
            raise Refused("malformed", "The deflated data set cannot be inflated.") from None
        self._deflated = inflater.unconsumed_tail
        if inflater.eof or not (deflated or data):
            self.size = have + len(data)
        return data

    def reaches(self, end: int) -> bool:
        """See `Source.reaches`; what is far off is not inflated to know."""
        if self.size is None and 0 < end <= min(_CHUNK * 4, self._limit):
            self.read(end - 1, 1)
        return self.size is None or end <= self.size

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
