"""Open a store: temporary for one run, or kept in a file."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

from converter.errors import StoreError
from converter.store.place import Lock, private_folder, refuse_network, sweep
from converter.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["open_beside", "open_kept", "open_temporary"]


def open_temporary() -> SqliteStore:
    """Open a store that goes with the run, in a folder that only this user may enter.

    Raises
    ------
    StoreError
        The temporary folder cannot be written.
    """
    try:
        sweep()
        folder, lock = private_folder()
    except OSError as error:
        raise StoreError(
            f"No temporary folder can be made ({error.strerror}). Free some space, or name "
            "another folder in TMPDIR."
        ) from error

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()

    try:
        return SqliteStore(folder / "store.db", kept=False, scratch=folder, on_close=remove)
    except BaseException:
        remove()
        raise


def open_kept(path: Path) -> SqliteStore:
    """Open the state file of ``--state``, made where it is absent (mode 0600).

    Raises
    ------
    StoreError
        It lies on a network file system, another run holds it, it is no state file, a newer version
        made it, or it is damaged.
    """
    refuse_network(path)
    with ExitStack() as undo:
        try:
            lock = Lock(path.with_name(path.name + ".lock"))
            undo.callback(lock.close)
            if not lock.take():
                raise StoreError(
                    "Another run uses this state file. Wait for it, or name another --state."
                )
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sweep()
            scratch, scratch_lock = private_folder()
            undo.callback(scratch_lock.close)
            undo.callback(shutil.rmtree, scratch, ignore_errors=True)
        except OSError as error:
            raise StoreError(
                f"The state file cannot be opened ({error.strerror}). "
                "Name a --state that this user may write."
            ) from error
        store = SqliteStore(path, kept=True, scratch=scratch, on_close=lambda: None)
        store.on_close = undo.pop_all().close
        return store


def open_beside(path: Path, *, sending: bool = False) -> SqliteStore:
    """Open a state file that is there, for a short look or change beside whoever uses it.

    Parameters
    ----------
    path : Path
    sending : bool
        To drain its outbox: senders may do so beside each other, and not beside a run.

    Raises
    ------
    StoreError
        It is not there, it cannot be used, or (sending) a run uses it.
    """
    refuse_network(path)
    alone = False
    if not path.is_file():
        raise StoreError(f"There is no state file {path}. Name one with --state.")
    with ExitStack() as undo:
        if sending:
            try:
                lock = Lock(path.with_name(path.name + ".lock"))
            except OSError as error:
                raise StoreError(f"The state file cannot be locked ({error.strerror}).") from error
            undo.callback(lock.close)
            alone = lock.take()
            if not lock.take(shared=True):
                raise StoreError(
                    "A run uses this state file, and delivers what it queues. Wait for it."
                )
        store = SqliteStore(path, kept=True, scratch=path.parent, on_close=lambda: None)
        store.on_close = undo.pop_all().close
        if sending and alone:
            store.outbox.reclaim()
        return store
