"""Objects of a store read by ranges: their first bytes many at a time, more of them only where a header goes on."""

from __future__ import annotations

import errno
import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from converter.core.header import Unreadable
from converter.reading.result import Limits
from converter.sources.remote import Stat, failure, store_of
from converter.sources.task import is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from converter.core.header import Wanted
    from converter.sources.task import Entry
    from converter.sources.worker import HeaderRead, Readers

__all__ = ["FIRST", "Heads", "RangeFile", "stamp"]

FIRST = 32 << 10
"""Bytes of the first range: on its way a range costs the same whether it is 8 or 64 KiB, a second one twice that."""
LARGEST = 256 << 10
"""Bytes of the first range where headers went on behind it."""
MOST = 4 << 20
"""Bytes of a range where much is read in a row, as of a compressed archive."""
THREADS = 16
WINDOW = 64
"""Objects whose first range is asked for ahead."""


def stamp(address: str) -> tuple[int, int] | None:
    """Size and version of an object now, or nothing."""
    try:
        stat = store_of(address).stat(address)
    except Exception:  # noqa: BLE001  whatever a library raises: reading it tells
        return None
    return stat.size, stat.version


class RangeFile(io.RawIOBase):
    """An object as a file that can be wound.

    Parameters
    ----------
    address : str
    size : int
        -1: the store is asked.
    head : bytes
        Its first bytes, where they are here.
    """

    def __init__(self, address: str, size: int = -1, head: bytes = b"") -> None:
        self._store = store_of(address)
        self._address = address
        self._at = 0
        self._head = head
        self._base = 0
        self._window = b""
        self._step = FIRST
        self.furthest = len(head)
        """Bytes up to which it was asked for."""
        self.ranges = 0
        """Ranges that were asked for."""
        self._size = size if size >= 0 else self._ask()

    def _ask(self) -> int:
        try:
            size = self._store.stat(self._address).size
        except OSError:
            raise
        except Exception as error:
            raise OSError(*_told(error)) from error
        if size < 0:
            raise OSError("no size")
        return size

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be wound."""
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""
        at = offset + (0, self._at, self._size)[whence]
        if at < 0:  # as of a file: where an archive shorter than its end mark is looked into
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = at
        return at

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on; fewer bytes than asked for only at the end."""
        left = max(0, self._size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        parts = []
        while size > 0:
            data = self._some(size)
            if not data:
                break  # it is shorter than the store said
            parts.append(data)
            self._at += len(data)
            size -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, size: int) -> bytes:
        if self._at < len(self._head):
            return self._head[self._at : self._at + size]
        start = self._at - self._base
        if not 0 <= start < len(self._window):
            in_a_row = start == len(self._window)
            self._step = min(2 * self._step, MOST) if in_a_row and self._window else FIRST
            wanted = min(max(size, self._step), self._size - self._at, max(MOST, self._step))
            self._window = self._fetch(self._at, wanted)
            self._base, start = self._at, 0
            self.furthest = max(self.furthest, self._at + min(size, wanted))
        return self._window[start : start + size]

    def _fetch(self, start: int, size: int) -> bytes:
        self.ranges += 1
        try:
            return self._store.fetch(self._address, start, size).data
        except OSError:
            raise
        except Exception as error:
            raise OSError(*_told(error)) from error

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _told(error: Exception) -> tuple[int, str]:
    """Number and words for an error of a library's own."""
    reason, detail = failure(error)
    numbers = {"not-found": 2, "permission-denied": 13}
    return numbers.get(reason, 5), detail or reason


class _Head(NamedTuple):
    data: bytes
    stat: Stat


class Heads:
    """Asks for the first range of the objects of a task ahead of their being read one by one.

    Parameters
    ----------
    entries : sequence of Entry
    ignore_changed : bool
    """

    def __init__(self, entries: Sequence[Entry], *, ignore_changed: bool = False) -> None:
        self._entries = entries
        self._ignore_changed = ignore_changed
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ranges")
        self._flying: dict[int, Future[_Head]] = {}
        self._asked = 0
        self._first = FIRST
        self._beyond = 0

    def _ask(self, index: int, *, again: bool = False) -> _Head:
        entry = self._entries[index]
        store = store_of(entry.path)
        stat = Stat(entry.size, entry.mtime_ns)
        if again or (stat.size < 0 and not entry.path.startswith("http")):
            stat = store.stat(entry.path)
            if stat.folder:
                raise IsADirectoryError(21, os.strerror(21))
        if not stat.size:
            return _Head(b"", stat)
        part = store.fetch(entry.path, 0, self._first)
        return _Head(part.data, part.stat or stat)

    def read(
        self, index: int, wanted: Wanted, readers: Readers
    ) -> tuple[HeaderRead | Unreadable, bytes]:
        """Read an object; give its first bytes as well."""
        while self._asked < min(index + WINDOW, len(self._entries)):
            if is_remote(self._entries[self._asked].path):
                self._flying[self._asked] = self._pool.submit(self._ask, self._asked)
            self._asked += 1
        address = self._entries[index].path
        try:
            head = self._flying.pop(index).result()
            read, whole = self._read(address, head, wanted, readers)
            if not whole:
                # changed, or a store whose listings say otherwise what it says of one object
                head = self._ask(index, again=True)
                read, whole = self._read(address, head, wanted, readers)
        except Exception as error:  # noqa: BLE001  the boundary: libraries raise what they like
            return Unreadable(*failure(error)), b""
        return (read, head.data) if whole else (Unreadable("changed-while-reading"), b"")

    def _read(
        self, address: str, head: _Head, wanted: Wanted, readers: Readers
    ) -> tuple[HeaderRead | Unreadable, bool]:
        """Read what begins so, and tell whether all of it was of one version: one range always is."""
        size = head.stat.size if head.stat.size >= 0 else len(head.data)
        file = RangeFile(address, size, head.data)
        limits = Limits(first=max(FIRST, len(head.data)))
        read = readers.read_stream(cast("BinaryIO", file), size, wanted, limits=limits)
        self._learn(file)
        if not file.ranges or self._ignore_changed:
            return read, True
        now = store_of(address).stat(address)
        return read, (now.size, now.version) == (head.stat.size, head.stat.version)

    def _learn(self, file: RangeFile) -> None:
        """Ask for more at once where one header after the other goes on behind the first range."""
        self._beyond = self._beyond + 1 if file.ranges else 0
        if self._beyond >= 3 and file.furthest <= LARGEST:
            self._first = max(self._first, -(-file.furthest // FIRST) * FIRST)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
