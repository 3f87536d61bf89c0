"""Open a store: temporary for one run, or kept in a file or on a PostgreSQL server."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from converter.errors import StoreError
from converter.store.address import ServerPlace, StatePlace
from converter.store.database import KEEP, READ_ANEW, Database, SqliteDatabase
from converter.store.place import Lock, private_folder, refuse_network, sweep
from converter.store.sql import SqlStore
from converter.store.temporary import TemporaryStore

__all__ = ["open_beside", "open_database", "open_kept", "open_temporary"]

OF_EITHER = f"Where a daemon uses it: {KEEP} Where a run of convert made it: {READ_ANEW}"


def open_database(place: StatePlace, *, patient: bool = False, role: str = "") -> Database:
    """Open the database of a kept state.

    Parameters
    ----------
    place : Path or ServerPlace
    patient : bool
        A server may be away now: the first use connects.
    role : {"", "daemon", "run"}
        What it is held for while it is open. On one server daemons go beside daemons, and runs beside runs; a
        file has one user, by a lock that the caller takes.

    Raises
    ------
    StoreError, ConfigurationError
    """
    if isinstance(place, Path):
        # a run goes through all there is; a daemon, which holds several of them, keeps to what came last
        if role == "run":
            return SqliteDatabase(place, kept=True)
        return SqliteDatabase(place, kept=True, cache=4 << 20, damaged=KEEP)
    from converter.store.postgres import DAEMON, RUN, PostgresDatabase

    roles = {"": 0, "daemon": DAEMON, "run": RUN}
    return PostgresDatabase(place, lasting=role != "run", patient=patient, role=roles[role])


def open_temporary() -> SqlStore:
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
        (folder / "store.db").touch(0o600)
        database = SqliteDatabase(folder / "store.db", kept=False)
        return TemporaryStore(database, scratch=str(folder), on_close=remove)
    except BaseException:
        remove()
        raise


def open_kept(path: StatePlace) -> SqlStore:
    """Open the state of ``--state`` for a run, made where it is absent (a file: mode 0600).

    Raises
    ------
    StoreError
        It lies on a network file system, another run holds it, it is no state file, a newer version
        made it, or it is damaged. A server cannot be reached, or a daemon uses it.
    """
    if isinstance(path, ServerPlace):
        return _open_server(path)
    refuse_network(path)
    with ExitStack() as undo:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
                f"The state file {path} cannot be opened ({error.strerror}). "
                "Name a --state that this user may write."
            ) from error
        store = SqlStore(
            SqliteDatabase(path, kept=True),
            kept=True,
            scratch=str(scratch),
            on_close=lambda: None,
        )
        store.on_close = undo.pop_all().close
        return store


def _open_server(place: ServerPlace) -> SqlStore:
    from converter.store.runs import SharedStore

    with ExitStack() as undo:
        try:
            sweep()
            scratch, lock = private_folder()
        except OSError as error:
            raise StoreError(
                f"No temporary folder can be made ({error.strerror}). Free some space, or name "
                "another folder in TMPDIR."
            ) from error
        undo.callback(lock.close)
        undo.callback(shutil.rmtree, scratch, ignore_errors=True)
        database = open_database(place, role="run")
        store = SharedStore(database, kept=True, scratch=str(scratch), on_close=lambda: None)
        store.on_close = undo.pop_all().close
        return store


def open_beside(path: StatePlace, *, sending: bool = False) -> SqlStore:
    """Open a state that is there, for a short look or change beside whoever uses it.

    Parameters
    ----------
    path : Path or ServerPlace
    sending : bool
        To drain its outbox: senders may do so beside each other, and not beside a run.

    Raises
    ------
    StoreError
        It is not there, it cannot be used, or (sending) a run uses it.
    """
    if isinstance(path, ServerPlace):
        return SqlStore(open_database(path), kept=True, scratch="", on_close=lambda: None)
    refuse_network(path)
    alone = False
    if not path.is_file():
        raise StoreError(f"There is no state file {path}. Name one with --state.")
    with ExitStack() as undo:
        if sending:
            try:
                lock = Lock(path.with_name(path.name + ".lock"))
            except OSError as error:
                raise StoreError(
                    f"The state file {path} cannot be locked ({error.strerror})."
                ) from error
            undo.callback(lock.close)
            alone = lock.take()
            if not lock.take(shared=True):
                raise StoreError(
                    "A run uses this state file, and delivers what it queues. Wait for it."
                )
        store = SqlStore(
            SqliteDatabase(path, kept=True, damaged=OF_EITHER),
            kept=True,
            scratch=str(path.parent),
            on_close=lambda: None,
        )
        store.on_close = undo.pop_all().close
        if sending and alone:
            store.outbox.reclaim()
        return store
