"""Where a store may lie: locks, private folders, file systems that SQLite cannot trust."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from converter.errors import StoreError
from converter.forks import ours_alone, ours_no_more
from converter.mounts import NETWORK, lies_on

__all__ = [
    "PREFIX",
    "Lock",
    "held",
    "private_folder",
    "refuse_network",
    "sweep",
]

PREFIX = "dcm2fhir-"
_LOCK = "lock"


class Lock:
    """An advisory lock on a file of its own; the system frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        ours_alone(self._descriptor)

    def take(self, *, shared: bool = False) -> bool:
        """Take it, or say that another process holds it; ``shared``: beside others who share it."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Free it."""
        ours_no_more(self._descriptor)
        os.close(self._descriptor)


def held(path: Path) -> bool:
    """Whether another process holds the lock of a file, alone; nothing is made to find out.

    Raises
    ------
    OSError
        It may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def refuse_network(path: Path) -> None:
    """Refuse a state file on a network file system: locks and syncs do not hold there.

    Raises
    ------
    StoreError
    """
    kind = lies_on(path)
    if kind.startswith(NETWORK):
        raise StoreError(
            f"The state file lies on a network file system ({kind}), where it would break. "
            "Name a --state on a local disk."
        )


def private_folder() -> tuple[Path, Lock]:
    """Make a temporary folder that only this user may enter, locked as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = Lock(folder / (_LOCK + ".new"))
    lock.take()
    # Only a lock that is held gets its name: a sweep never meets one that is about to be taken.
    (folder / (_LOCK + ".new")).rename(folder / _LOCK)
    return folder, lock


def sweep() -> int:
    """Remove temporary folders that dead runs of this user left; give how many."""
    swept = 0
    for folder in sorted(Path(tempfile.gettempdir()).glob(PREFIX + "*")):
        try:
            status = folder.lstat()
            mine = status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode)
            if not mine or stat.S_IMODE(status.st_mode) != 0o700 or not (folder / _LOCK).is_file():
                continue
            lock = Lock(folder / _LOCK)
        except OSError:
            continue  # it went meanwhile, or is not ours to judge
        try:
            if lock.take():
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        finally:
            lock.close()
    return swept
