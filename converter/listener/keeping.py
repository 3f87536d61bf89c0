"""What is kept of an object beside the attributes that rules read: its whole header, the whole object."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from converter.listener.dataset import DataSet, preamble
from converter.listener.files import Arriving, Incoming, Tee, fault_of
from converter.listener.origins import LARGEST_HEADER
from converter.listener.wire import Command
from converter.reading import header_bytes

__all__ = ["LARGEST_KEPT", "Keeper", "Keeping"]

LARGEST_KEPT: Final = 64 << 10
"""Bytes of a kept header, compressed."""
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_STEP: Final = 64 << 10
_LOOKS: Final = 4


class _Captured:
    """`DataSet` whose beginning is held, up to where its pixel data are seen to begin."""

    def __init__(self, syntax: str, data: DataSet) -> None:
        self._before = preamble(syntax)
        self._data = data
        self._looks = _LOOKS
        self._found: tuple[bytes, bool] | None = None
        self.held = bytearray()
        self.complete = False

    def _hold(self, data: bytes) -> bytes:
        if self._found is None and len(self.held) < LARGEST_HEADER:
            self.held += data
        return data

    def header(self) -> tuple[bytes, bool] | None:
        """As of `converter.reading.header_bytes`."""
        if self._found is None:
            content = self._before + self.held
            self._found = header_bytes(content, LARGEST_HEADER, complete=self.complete)
        return self._found

    def whole(self) -> bytes | None:
        """See `DataSet.whole`."""
        data = self._data.whole()
        if data is not None:
            self.held += data
            self.complete = True
        return data

    def read(self, size: int = -1, /) -> bytes:
        """See `DataSet.read`."""
        data = self._hold(self._data.read(size))
        if not data and size:
            self.complete = len(self.held) < LARGEST_HEADER
        return data

    def skip(self, size: int, /) -> int:
        """See `DataSet.skip`."""
        if self._looks:
            # what is passed over is mostly the pixel data, which need not be held to know that
            self._looks -= 1
            self.header()
        passed = 0
        while passed < size and self._found is None and len(self.held) < LARGEST_HEADER:
            data = self.read(min(size - passed, _STEP))
            if not data:
                return passed
            passed += len(data)
        return passed + self._data.skip(size - passed)

    def seekable(self) -> bool:
        """See `DataSet.seekable`."""
        return False

    def drain(self) -> None:
        """See `DataSet.drain`."""
        self.skip(1 << 62)


class Keeping:
    """One object, as it arrives."""

    def __init__(
        self,
        syntax: str,
        data: DataSet,
        file: Arriving | None,
        refuses: Callable[[], str],
        *,
        header: bool,
    ) -> None:
        self._syntax = syntax
        self._file = file
        self._tee = Tee(data, file, refuses) if file is not None else None
        data = self._tee or data
        self._captured = _Captured(syntax, data) if header else None
        self.data: DataSet = self._captured or data
        """To read it from."""

    def header(self) -> bytes:
        """Its whole header as a file (PS3.10), compressed; empty where it is larger than what is kept."""
        if self._captured is None:
            return b""
        found = self._captured.header()
        if found is None:
            return b""
        data, deflated = found
        kept = zlib.compress(preamble(_EXPLICIT if deflated else self._syntax) + data, 1)
        return kept if len(kept) <= LARGEST_KEPT else b""

    def finish(self) -> str:
        """Bring the file to the disk; name of the status to answer where that failed, or empty."""
        if self._file is None or self._tee is None:
            return ""
        if not self._tee.fault:
            try:
                self._file.finish()
            except OSError as error:
                return fault_of(error)
        return self._tee.fault

    @property
    def file(self) -> str:
        """Where its file is now; empty where none is kept."""
        return str(self._file.path) if self._file is not None else ""

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._file is not None:
            self._file.discard()


class Keeper:
    """What of each object is kept.

    Parameters
    ----------
    files : Incoming or None
        Where whole objects go.
    headers : bool
        Whole headers are kept.
    refuses : callable
        As of `converter.listener.storing.Guard`.
    """

    def __init__(
        self, files: Incoming | None, refuses: Callable[[], str], *, headers: bool
    ) -> None:
        self._files = files
        self._refuses = refuses
        self.headers = headers

    def begin(self, syntax: str, command: Command, calling: str, data: DataSet) -> Keeping:
        """Begin an object.

        Raises
        ------
        OSError
            No file can be made.
        """
        file = self._files.begin(syntax, command, calling) if self._files is not None else None
        return Keeping(syntax, data, file, self._refuses, header=self.headers)
