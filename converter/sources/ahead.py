"""Files on a cold disk are fetched ahead, so that what one reader waits for in turn comes beside each other.

A disk of this machine is only asked for the first bytes of files, which it brings meanwhile (``POSIX_FADV_WILLNEED``). Where
opening a file alone waits for another machine, many threads wait at once.

Where the first bytes of a file are in memory already nothing is gained by fetching them, so a few are
looked at first: the kernel says whether it would have to wait (``RWF_NOWAIT``).
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from converter.mounts import lies_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Ahead", "brings", "is_cold"]

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


def is_cold(path: str) -> bool:
    """Whether the first bytes of a file must come from the disk; false where nobody can tell."""
    nowait = getattr(os, "RWF_NOWAIT", None)
    if nowait is None:
        return False
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return False  # reading it tells
    try:
        os.preadv(descriptor, [bytearray(1)], 0, nowait)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def fetch(path: str) -> None:
    """Bring the first bytes of a file into memory, and nothing behind them."""
    with suppress(OSError):  # reading it tells
        descriptor = os.open(path, _FLAGS)
        try:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(descriptor, FIRST, 0)
        finally:
            os.close(descriptor)


def brings(path: str) -> bool:
    """Whether what holds a file reads meanwhile what it is asked for."""
    return lies_on(path) in LOCAL


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
        Tells whether a file is worth it.
    brings : callable
        Tells whether asking for a file is enough; else threads wait for it.
    """

    def __init__(
        self,
        paths: Sequence[str],
        cold: Callable[[str], bool] = is_cold,
        brings: Callable[[str], bool] = brings,
    ) -> None:
        self._paths = paths
        self._cold = cold
        self._brings = brings
        self._pool: ThreadPoolExecutor | None = None
        self._asks: bool | None = None
        """Whether asking is enough; ``None`` before a cold file was met."""
        self._fetched = 0
        """Files before this one were fetched or need not be."""
        self._flying: dict[int, Future[None]] = {}

    def reach(self, index: int) -> None:
        """Say which file is read next."""
        waited = self._flying.pop(index, None)
        if waited is not None:
            waited.result()
        if index % ASKED or index + WINDOW // 2 < self._fetched:
            return
        begin = max(index, self._fetched)
        if begin < len(self._paths) and self._cold(self._paths[begin]):
            self._fetched = min(index + WINDOW, len(self._paths))
            self._fetch(begin)

    def _fetch(self, begin: int) -> None:
        if self._asks is None:
            self._asks = self._brings(self._paths[begin])
        if self._asks:
            for path in self._paths[begin : self._fetched]:
                ask(path)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ahead")
        for index in range(begin, self._fetched):
            self._flying[index] = self._pool.submit(fetch, self._paths[index])

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
