"""The three standard streams: there whatever the caller closed, and no fault of one that only says how it goes."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import IO

    from _typeshed import ReadableBuffer

__all__ = ["prepare"]


class _Forgiving(io.FileIO):
    """A file that takes what the system refuses to write, such as on a full disk or to a reader that has left.

    Beneath the buffer, which would keep what was refused and try it again at each line.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what can be written."""
        written: int | None = None
        with suppress(OSError):
            written = super().write(data)
        return memoryview(data).nbytes if written is None else written


def prepare() -> None:
    """Open closed standard streams on ``/dev/null``, and let stderr refuse nothing; before any file of ours is opened.

    Otherwise the next file that is opened would be standard output, and take what is printed.
    ``sys.__stdout__`` stays as it was found: ``None`` where it was closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)  # the lowest that is free, so this one
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or _open(0, "r")
    sys.stdout = sys.stdout or _open(1, "w")
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Forgiving(2, "wb", closefd=False)),
        encoding,
        "backslashreplace",
        line_buffering=True,
    )


def _open(number: int, mode: str) -> IO[str]:
    return open(number, mode, encoding="utf-8", closefd=False)
