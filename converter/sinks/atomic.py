"""Files that are there whole or not at all, private, and written by one run at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import orjson

from converter.errors import ReaderGoneError, SinkError
from converter.forks import ours_alone, ours_no_more

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Lock",
    "Replacement",
    "content_of",
    "create",
    "guarded",
    "is_stream",
    "make_private_folder",
    "refusal",
    "replace_file",
    "sync_folder",
]

FOLDER_MODE = 0o700
FILE_MODE = 0o600
LOCK_NAME = ".dcm2fhir.lock"
RECORD_NAME = ".dcm2fhir.files"
TEMPORARY = re.compile(r"\.dcm2fhir\..+\.tmp")


@contextmanager
def guarded(output: str | os.PathLike[str], study_uid: str = "") -> Iterator[None]:
    """Turn what the system refuses into a `SinkError` that says what to do.

    Parameters
    ----------
    output : path
        As the user named it; file names within it are left out of the message.
    study_uid : str
    """
    try:
        yield
    except OSError as error:
        raise refusal(error, output, study_uid) from error


def refusal(error: OSError, output: str | os.PathLike[str], study_uid: str = "") -> SinkError:
    """What the system refused, in words that say what to do; see `guarded`."""
    where = os.fspath(output)
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        message = f"No space left for {where}: free some or name another output."
    elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        message = f"{where} is not writable: change its permissions or name another output."
    elif error.errno == errno.EPIPE:
        return ReaderGoneError(
            f"Whoever read {where} has gone away before all was written.", study_uid
        )
    else:
        message = f"{where} cannot be written: {os.strerror(error.errno or 0)}."
    return SinkError(message, study_uid)


def make_private_folder(folder: Path) -> None:
    """Make a folder and its missing parents, 0700; one that exists keeps its mode."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for item in reversed(missing):
        item.mkdir(mode=FOLDER_MODE, exist_ok=True)


def content_of(path: str) -> bytes:
    """Read a file; of a pipe in its place what is there, which waits for nobody."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read() or b""


def create(path: Path) -> BinaryIO:
    """Open a new file, 0600; a leftover of that name goes, a symbolic link is never followed."""
    return os.fdopen(_create(os.fspath(path)), "w+b")


def _create(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, FILE_MODE)
    except FileExistsError:
        os.unlink(path)  # noqa: PTH108  a path object for each resource costs more than it gives
        return os.open(path, flags, FILE_MODE)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(
    path: str | os.PathLike[str],
    temporary: str | os.PathLike[str],
    data: bytes,
    *,
    durable: bool = False,
) -> None:
    """Write a file by way of a temporary one in its folder, so that no reader sees a part of it."""
    try:
        descriptor = _create(os.fspath(temporary))
        try:
            written = os.write(descriptor, data)
            while written < len(data):
                written += os.write(descriptor, memoryview(data)[written:])
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise


class Lock:
    """One run at a time: an flock, so a killed run holds nothing.

    Raises
    ------
    SinkError
        Another run holds it; the message says which process.
    """

    def __init__(self, path: Path, output: str | os.PathLike[str]) -> None:
        self.path = path
        self.left = False
        """Whether a killed run left it, and so may have left more."""
        self._descriptor = -1
        with guarded(output):
            while self._descriptor < 0:
                self._descriptor = self._take(output)

    def _take(self, output: str | os.PathLike[str]) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the holder before us may have removed the file that we opened
            if os.path.samestat(os.fstat(descriptor), self.path.lstat()):
                self.left = os.fstat(descriptor).st_size > 0
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                ours_alone(descriptor)
                return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f"process {holder}" if holder.isdigit() else "another process"
            message = (
                f"{os.fspath(output)} is being written by {who}:"
                " wait until it has finished, or name another output."
            )
            raise SinkError(message) from None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return -1

    @property
    def held(self) -> bool:
        """Whether we hold it."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Give it up; a second time does nothing."""
        if self._descriptor >= 0:
            with suppress(OSError):  # a folder that is gone or read-only needs no lock
                self.path.unlink(missing_ok=True)
            ours_no_more(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class Replacement:
    """The files of one run in a folder, which at the end take the place of an earlier run's.

    Until then they have temporary names. A record of what was written tells the next run which files
    are ours to remove; nothing else in the folder is touched.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self.durable = durable
        with guarded(folder):
            if folder.exists() and not folder.is_dir():
                raise SinkError(f"{folder} is a file: name a folder, or another output.")
            make_private_folder(folder)
        self._lock = Lock(folder / LOCK_NAME, folder)
        self._names: list[str] = []
        try:
            with guarded(folder):
                for entry in os.scandir(folder):
                    if TEMPORARY.fullmatch(entry.name):
                        Path(entry.path).unlink()
        except BaseException:
            self._lock.release()
            raise

    def create(self, name: str) -> BinaryIO:
        """Open a file of this run, to be closed before `commit`."""
        self._names.append(name)
        return create(self._temporary(name))

    def _temporary(self, name: str) -> Path:
        return self.folder / f".dcm2fhir.{name}.tmp"

    def commit(self, index: str = "") -> list[str]:
        """Put this run's files in place and remove those of the run before.

        Parameters
        ----------
        index : str
            File that names the others: away while they change, and put in place last.
        """
        with guarded(self.folder):
            older = set(self._recorded())
            self._record(older | set(self._names))
            if index:
                (self.folder / index).unlink(missing_ok=True)
            for name in sorted(self._names, key=lambda name: name == index):
                self._temporary(name).replace(self.folder / name)
            for name in older - set(self._names):
                (self.folder / name).unlink(missing_ok=True)
            self._record(set(self._names))
            if self.durable:
                sync_folder(self.folder)
        self._lock.release()
        return list(self._names)

    def abort(self) -> None:
        """Remove this run's files; the earlier ones stand."""
        if not self._lock.held:  # what is there now may be another run's
            return
        for name in self._names:
            with suppress(OSError):
                self._temporary(name).unlink(missing_ok=True)
        self._lock.release()

    def _recorded(self) -> list[str]:
        try:
            names = orjson.loads(content_of(os.fspath(self.folder / RECORD_NAME)))
        except (FileNotFoundError, orjson.JSONDecodeError):
            return []
        if not isinstance(names, list):
            return []
        # a name with a folder in it is not ours
        return [n for n in names if isinstance(n, str) and n == os.path.basename(n) and n]  # noqa: PTH119

    def _record(self, names: set[str]) -> None:
        path = self.folder / RECORD_NAME
        if names:
            replace_file(
                path, self._temporary("files"), orjson.dumps(sorted(names)), durable=self.durable
            )
        else:
            path.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Tell whether a path is there and is neither file nor folder: a pipe or device is written straight."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
