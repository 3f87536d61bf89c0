"""A single output file, or a stream: what NDJSON and Bundle sinks write to when it is no folder."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from converter.errors import SinkError
from converter.sinks.atomic import (
    Lock,
    create,
    guarded,
    is_stream,
    make_private_folder,
    sync_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Output", "SingleFile", "Stream", "single_output"]

STDOUT = "-"


class Output(Protocol):
    """One place that bytes go to, in order."""

    name: str

    def write(self, data: bytes, study_uid: str = "") -> None:
        """Add bytes."""

    def close(self) -> None:
        """Finish."""

    def abort(self) -> None:
        """Give up."""


class SingleFile:
    """A file that takes its name when it is whole; one run at a time."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        path = Path(os.path.realpath(path))
        self.name = path.name
        self.path = path
        self.durable = durable
        self._temporary = path.parent / f".dcm2fhir.{path.name}.tmp"
        with guarded(path):
            make_private_folder(path.parent)
        self._lock = Lock(path.parent / f".dcm2fhir.{path.name}.lock", path)
        try:
            with guarded(path):
                self._file = create(self._temporary)
        except BaseException:
            self._lock.release()
            raise

    def write(self, data: bytes, study_uid: str = "") -> None:
        """Add bytes."""
        with guarded(self.path, study_uid):
            self._file.write(data)

    def close(self) -> None:
        """Let the file take its name, in place of an earlier one."""
        try:
            with guarded(self.path):
                self._file.flush()
                if self.durable:
                    os.fsync(self._file.fileno())
                self._file.close()
                self._temporary.replace(self.path)
                if self.durable:
                    sync_folder(self.path.parent)
        except BaseException:
            self.abort()
            raise
        self._lock.release()

    def abort(self) -> None:
        """Remove what was written; an earlier file stands."""
        if not self._lock.held:  # what is there now may be another run's
            return
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)
        self._lock.release()


class Stream:
    """Standard output, a pipe or a device: written straight, nothing to undo."""

    def __init__(self, file: BinaryIO, name: str, *, owned: bool = False) -> None:
        self.name = name
        self._file = file
        self._owned = owned

    def write(self, data: bytes, study_uid: str = "") -> None:
        """Add bytes; a reader sees them with the next resource or at the end."""
        with guarded(self.name, study_uid):
            self._file.write(data)

    def close(self) -> None:
        """Hand over what is left."""
        with guarded(self.name):
            self._file.flush()
            if self._owned:
                self._file.close()

    def abort(self) -> None:
        """Stop; what a reader has is his."""
        if self._owned:
            with suppress(OSError):
                self._file.close()


def standard_output() -> Stream:
    """Give the standard output as bytes.

    Raises
    ------
    SinkError
        It was closed when the program began.
    """
    if sys.__stdout__ is None:
        raise SinkError(
            "Standard output is closed: let it go to a file or pipe, or name an output."
        )
    return Stream(sys.stdout.buffer, "standard output")


def single_output(output: str, suffixes: Iterable[str]) -> Output | None:
    """Single file or stream that an output path means; ``None`` where it is a folder.

    Parameters
    ----------
    output : str
        ``-`` is standard output; a path that ends in one of the suffixes, or is there and is no folder,
        is a file; anything else is a folder.
    suffixes : iterable of str
        Such as ``.ndjson``.

    Raises
    ------
    SinkError
        It cannot be written.
    """
    if output == STDOUT:
        return standard_output()
    path = Path(output)
    if is_stream(path):
        with guarded(path):
            # renaming a file over a device would replace it
            return Stream(path.open("wb"), output, owned=True)
    if path.is_dir():
        return None
    if output.endswith(os.sep):
        return None
    if path.suffix.lower() in suffixes or path.is_file():
        return SingleFile(path)
    return None
