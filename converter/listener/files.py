"""Whole objects as files (PS3.10), where ``--keep-files`` asks for them.

A receiver writes the object as it arrives into a folder of its own under ``incoming``, syncs the file and the folder, and
names the file in its journal; so an acknowledgement says that the whole object is durable. The one writer moves it to
its place when it has taken in the journal. What a peer sends is in no name: a place is made of ids that are digests
of UIDs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final
from uuid import uuid4, uuid5

from converter import __version__
from converter.core.ids import NS, study_id
from converter.listener.dataset import DataSet
from converter.listener.journal import sync_folder
from converter.listener.wire import Command

__all__ = [
    "IMPLEMENTATION",
    "VERSION",
    "Arriving",
    "Incoming",
    "Tee",
    "fault_of",
    "place_of",
    "purge",
    "settle",
    "sweep",
]

IMPLEMENTATION: Final = f"2.25.{uuid5(NS, 'implementation').int}"
"""Implementation Class UID, of files (0002,0012) and of associations (PS3.7 section D.3.3.2)."""
VERSION: Final = f"DCM2FHIR_{__version__}"[:16]
_INCOMING: Final = "incoming"
_PART: Final = ".part"
_STEP: Final = 256 << 10


def place_of(root: Path, study_uid: str, sop_uid: str) -> Path:
    """Where the file of an instance lies: two levels of folders, the second with the id of its ImagingStudy."""
    study = study_id(study_uid)
    return root / study[:2] / study / f"{uuid5(NS, f'instance|{sop_uid}')}.dcm"


def meta(syntax: str, sop_class: bytes, sop_instance: bytes, calling: str) -> bytes:
    """Preamble and file meta information (PS3.10 section 7.1)."""
    values = (
        (0x01, b"OB", b"\0\1"),
        (0x02, b"UI", sop_class.rstrip(b"\0 ")),
        (0x03, b"UI", sop_instance.rstrip(b"\0 ")),
        (0x10, b"UI", syntax.encode("ascii")),
        (0x12, b"UI", IMPLEMENTATION.encode("ascii")),
        (0x13, b"SH", VERSION.encode("ascii")),
        (0x16, b"AE", calling.encode("latin_1", "replace")[:16]),
    )
    group = b"".join(_element(number, vr, value) for number, vr, value in values)
    length = _element(0x00, b"UL", len(group).to_bytes(4, "little"))
    return bytes(128) + b"DICM" + length + group


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr in {b"UI", b"OB"} else b" ") * (len(value) % 2)
    size = len(value)
    length = b"\0\0" + size.to_bytes(4, "little") if vr == b"OB" else size.to_bytes(2, "little")
    return b"\x02\0" + number.to_bytes(2, "little") + vr + length + value


class Arriving:
    """The file of one object, from its first byte until its instance is in the journal, or nothing is left of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{uuid4().hex}.dcm"
        self._part = self.path.with_suffix(_PART)
        self._descriptor = os.open(
            self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self) -> None:
        """Bring it and its name to the disk."""
        os.fsync(self._descriptor)
        self._close()
        self._part.rename(self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave nothing of it."""
        self._close()
        for path in (self._part, self.path):
            with suppress(FileNotFoundError):
                path.unlink()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Incoming:
    """The folder in which one receiver writes.

    Parameters
    ----------
    root : Path
        Of ``--keep-files``.
    journal : Path
        Of the receiver, which alone writes there.

    Raises
    ------
    OSError
    """

    def __init__(self, root: Path, journal: Path) -> None:
        self._folder = root / _INCOMING / f"{_mark(journal.parent)}-{journal.name}"
        _make(self._folder, root)
        for left in self._folder.glob(f"*{_PART}"):
            left.unlink()

    def begin(self, syntax: str, command: Command, calling: str) -> Arriving:
        """Begin the file of an object."""
        made = Arriving(self._folder)
        try:
            made.write(meta(syntax, command.sop_class, command.sop_instance, calling))
        except OSError:
            made.discard()
            raise
        return made


def fault_of(error: OSError) -> str:
    """Name of the status to answer where a file cannot be written; a full disk has less than its reserve."""
    return "disk-reserve" if error.errno == errno.ENOSPC else "file-failed"


class Tee:
    """`DataSet` of which each byte goes into a file as well.

    Parameters
    ----------
    data : DataSet
    file : Arriving
    refuses : callable
        Name of a status to refuse with, or empty: asked as the object arrives, for it may fill the disk.
    """

    def __init__(self, data: DataSet, file: Arriving, refuses: Callable[[], str]) -> None:
        self._data = data
        self._file = file
        self._refuses = refuses
        self.fault = ""
        """Name of the status to answer where it could not be written; what follows is dropped."""

    def _write(self, data: bytes) -> None:
        if self.fault:
            return
        self.fault = self._refuses()
        if not self.fault:
            try:
                self._file.write(data)
            except OSError as error:
                self.fault = fault_of(error)

    def whole(self) -> bytes | None:
        """See `DataSet.whole`."""
        data = self._data.whole()
        if data is not None:
            self._write(data)
        return data

    def read(self, size: int = -1, /) -> bytes:
        """See `DataSet.read`."""
        data = self._data.read(size)
        if data:
            self._write(data)
        return data

    def skip(self, size: int, /) -> int:
        """See `DataSet.skip`."""
        passed = 0
        while passed < size and (data := self.read(min(size - passed, _STEP))):
            passed += len(data)
        return passed

    def seekable(self) -> bool:
        """See `DataSet.seekable`."""
        return False

    def drain(self) -> None:
        """See `DataSet.drain`."""
        while self.read(_STEP):
            pass


def settle(items: Iterable[tuple[str, str, str]], older: Iterable[str]) -> None:
    """Move files to their places, and bring that to the disk; doing it twice changes nothing.

    Parameters
    ----------
    items : iterable of (str, str, str)
        File as its journal names it, study, instance; of several of one instance the latest comes last.
    older : iterable of str
        Files that something later has replaced already.

    Raises
    ------
    OSError
    """
    for name in older:
        Path(name).unlink(missing_ok=True)
    folders: dict[Path, None] = {}
    for name, study_uid, sop_uid in items:
        path = Path(name)
        root = path.parents[2]
        target = place_of(root, study_uid, sop_uid)
        if target.parent not in folders:
            _make(target.parent, root)
            folders[target.parent] = None
        _move(path, target, root)
    for folder in folders:
        sync_folder(folder)


def _move(path: Path, target: Path, root: Path) -> None:
    while True:
        try:
            path.replace(target)
        except FileNotFoundError:
            if not path.exists():
                return  # moved before, and a crash came before that was noted
            _make(target.parent, root)  # a purge removed it at this moment
        else:
            return


def _make(folder: Path, root: Path) -> None:
    """Make a folder below the root, only for this user, each level durable."""
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_folder(one.parent)


def _mark(journals: Path) -> str:
    """Name of a folder of journals: what other journals may name is not ours to judge."""
    return blake2b(os.fsencode(journals.resolve()), digest_size=4).hexdigest()


def sweep(root: Path, journals: Path) -> int:
    """Remove what was never acknowledged, while no receiver runs and all journals are taken in; give how many."""
    count = 0
    for path in (root / _INCOMING).glob(f"{_mark(journals)}-*/*"):
        path.unlink()
        count += 1
    return count


def _instances(root: Path, study_uid: str) -> Iterator[Path]:
    yield from place_of(root, study_uid, "").parent.glob("*.dcm")


def purge(root: Path, study_uid: str, before: float) -> int:
    """Remove the files of a study that were written before a time, and folders that are empty then; give how many."""
    count = 0
    for path in list(_instances(root, study_uid)):
        if path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            count += 1
    folder = place_of(root, study_uid, "").parent
    with suppress(OSError):  # not empty, or not there
        folder.rmdir()
        folder.parent.rmdir()
    return count
