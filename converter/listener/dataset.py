"""The data set of the message that is being received, as who takes the header out reads it."""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["SMALL", "DataSet", "Fragments", "Streamed", "preamble"]

SMALL: Final = 32 << 10
"""Bytes of a data set that is read as a whole."""
_ALL: Final = 1 << 62


class DataSet(Protocol):
    """The data set of the message that is being received."""

    def whole(self) -> bytes | None:
        """Give the whole data set where it is small and at hand, else nothing: then read it."""

    def read(self, size: int = -1, /) -> bytes:
        """Next bytes, at most so many where that is said; none at the end."""

    def skip(self, size: int, /) -> int:
        """Drop so many bytes; give how many there were."""

    def seekable(self) -> bool:
        """Whether it can be wound: no."""

    def drain(self) -> None:
        """Drop what is left of it."""


def preamble(transfer_syntax: str) -> bytes:
    """What a file would have before the data set, so that the header reader knows how it is encoded."""
    value = transfer_syntax.encode("ascii")
    value += b"\0" * (len(value) % 2)
    return bytes(128) + b"DICM\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value


class Fragments(Protocol):
    """The fragments of a message, as they come."""

    def begin_data_set(self, context_id: int) -> None:
        """Go to the first fragment of the data set."""

    def piece(self, most: int) -> bytes:
        """Next bytes of the data set, so many at most; none at its end."""

    def drop(self, most: int) -> int:
        """Drop next bytes of the data set, so many at most; give how many, 0 at its end."""


class Streamed:
    """`DataSet` that comes straight from the connection."""

    def __init__(self, path: Fragments, context_id: int, *, ended: bool = False) -> None:
        self._path = path
        self._context_id = context_id
        self._begun = False
        self._held = b""
        self.ended = ended

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._path.begin_data_set(self._context_id)

    def whole(self) -> bytes | None:
        """See `DataSet.whole`."""
        parts = []
        size = 0
        while data := self._more(SMALL + 1 - size):
            parts.append(data)
            size += len(data)
            if size > SMALL:
                self._held = b"".join(parts)
                return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read(self, size: int = -1, /) -> bytes:
        """See `DataSet.read`."""
        if self._held:
            held, self._held = self._held, b""
            if 0 <= size < len(held):
                held, self._held = held[:size], held[size:]
            return held
        return self._more(size if size >= 0 else SMALL)

    def _more(self, size: int) -> bytes:
        if self.ended:
            return b""
        self._begin()
        data = self._path.piece(size)
        self.ended = not data
        return data

    def skip(self, size: int, /) -> int:
        """See `DataSet.skip`."""
        passed = min(size, len(self._held))
        self._held = self._held[passed:]
        if self.ended:
            return passed
        self._begin()
        while passed < size:
            count = self._path.drop(size - passed)
            if not count:
                self.ended = True
                break
            passed += count
        return passed

    def seekable(self) -> bool:
        """See `DataSet.seekable`."""
        return False

    def drain(self) -> None:
        """See `DataSet.drain`."""
        self.skip(_ALL)

    def finish(self) -> None:
        """Drop what who took it left of it."""
        if not self.ended:
            self.drain()
