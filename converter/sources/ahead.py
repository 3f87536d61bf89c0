"""Files on a cold disk are fetched ahead, so that what one reader waits for in turn comes beside each other.

A disk of this machine is only asked for the first bytes of files, which it brings meanwhile (``POSIX_FADV_WILLNEED``). Where the
first bytes of a file are in memory already nothing is gained by that, so a few are looked at: the kernel says whether it would
have to wait (``RWF_NOWAIT``).

Where a file system lies elsewhere, to open a file is to wait as well, and what was read may be forgotten when it is closed: there
threads open and read many files at once, and hand over what they have.
"""

from __future__ import annotations

import errno
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from converter.mounts import FAR, lies_on
from converter.reading.reader import Opened, open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Ahead", "ask", "is_cold"]

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
FIRST = 8192
"""Bytes that a reader takes first; asking for more wakes the readahead, which reads much more."""
THREADS = 16
ASKED = 16
"""One file in so many is asked about."""
WINDOW = 128
"""Files that are fetched ahead."""
LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay"})
"""File systems that are known to read meanwhile what they are asked for."""


def is_cold(path: str) -> bool | None:
    """Whether the first bytes of a file must come from the disk; ``None`` where nobody can tell."""
    nowait = getattr(os, "RWF_NOWAIT", None)
    if nowait is None:
        return None
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return False  # reading it tells
    try:
        os.preadv(descriptor, [bytearray(1)], 0, nowait)
    except BlockingIOError:
        return True
    except OSError as error:
        return None if error.errno == errno.EOPNOTSUPP else False
    finally:
        os.close(descriptor)
    return False


def ask(path: str) -> None:
    """Ask for the first bytes of a file, and wait for nothing."""
    with suppress(OSError):  # reading it tells
        descriptor = os.open(path, _FLAGS)
        try:
            os.posix_fadvise(descriptor, 0, FIRST, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


class Ahead:
    """Fetches the files of a task while they are read one by one.

    Parameters
    ----------
    paths : sequence of str
    cold : callable
        As `is_cold`.
    kind : callable
        As `converter.mounts.lies_on`.
    """

    def __init__(
        self,
        paths: Sequence[str],
        cold: Callable[[str], bool | None] = is_cold,
        kind: Callable[[str], str] = lies_on,
    ) -> None:
        self._paths = paths
        self._cold = cold
        self._kind_of = kind
        self._kind: str | None = None
        """Type of the file system, once it matters."""
        self._pool: ThreadPoolExecutor | None = None
        self._fetched = 0
        """Files before this one were fetched or need not be."""
        self._flying: dict[int, Future[Opened | None]] = {}

    def reach(self, index: int) -> Opened | None:
        """Say which file is read next; get it, where it was opened ahead."""
        if index % ASKED == 0 and index + WINDOW // 2 >= self._fetched:
            begin = max(index, self._fetched)
            if begin < len(self._paths) and self._worth_it(self._paths[begin]):
                self._fetched = min(index + WINDOW, len(self._paths))
                self._fetch(begin)
        waited = self._flying.pop(index, None)
        return waited.result() if waited is not None else None

    def _worth_it(self, path: str) -> bool:
        if self._pool is not None:
            return True
        cold = self._cold(path)
        if cold is False:
            return False
        if self._kind is None:
            self._kind = self._kind_of(path)
        return bool(cold) or self._kind.startswith(FAR)

    def _fetch(self, begin: int) -> None:
        if self._kind in LOCAL:
            for path in self._paths[begin : self._fetched]:
                ask(path)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ahead")
        for index in range(begin, self._fetched):
            self._flying[index] = self._pool.submit(open_file, self._paths[index])

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads, and close what nobody read."""
        if self._pool is None:
            return
        self._pool.shutdown(cancel_futures=True)
        for flying in self._flying.values():
            opened = None if flying.cancelled() else flying.result()
            if opened is not None:
                os.close(opened.descriptor)
