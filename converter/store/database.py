"""A database behind a store: transactions, errors in words that say how to go on, and what differs between the two."""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from converter.errors import StoreError
from converter.store.schema import MIGRATIONS, SCHEMA, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = [
    "APPLICATION_ID",
    "KEEP",
    "READ_ANEW",
    "Connection",
    "Database",
    "SqliteDatabase",
    "newer",
]

APPLICATION_ID = 0x44324648
READ_ANEW = "Move it away and run the same command again: everything is read anew from the inputs."
"""What to do about a damaged state of a run."""
KEEP = (
    "Do not throw it away: it is all that the daemon received. End the daemon, move the file aside and put a copy "
    "of dcm2fhir studies backup in its place, or have it repaired. Journals that wait are kept, and are taken in "
    "then; what came since the copy must be sent again."
)
"""And about one of a daemon, which has no inputs to read."""


class Connection(Protocol):
    """What the stores ask of a connection: SQL that SQLite and PostgreSQL both take, with ``?`` for values."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement; give its cursor."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement for each of several rows."""


class Database(ABC):
    """A connection with the project's settings; ``with database.transaction()`` is all or nothing.

    One thread uses it.
    """

    several: bool
    """Whether other hosts may write at the same time: then `lock` and `claimed` are more than formalities."""
    connection: Any
    """`Connection`; outside of a transaction each statement stands for itself."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Connection]:
        """Everything in the block or nothing of it."""

    @abstractmethod
    def guard(self) -> AbstractContextManager[None]:
        """Turn errors of the database into `StoreError` in words."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows of a query, all at once."""
        with self.guard():
            found: list[Any] = self.connection.execute(sql, parameters).fetchall()
        return found

    @abstractmethod
    def prepare(self, statements: Sequence[str]) -> None:
        """Make tables that are not there yet (``CREATE ... IF NOT EXISTS``, as SQLite reads it)."""

    @abstractmethod
    def insert(self, sql: str, parameters: Sequence[Any]) -> int:
        """Insert one row, within a transaction; give its id."""

    @abstractmethod
    def lock(self, keys: Iterable[str]) -> None:
        """Keep other writers from the studies (or files) of these names until the transaction ends."""

    def queued(self) -> AbstractContextManager[Any]:
        """Within a transaction: statements may wait for the next whose rows are fetched. No row count is known."""
        return nullcontext()

    def alone(self) -> AbstractContextManager[None]:
        """Keep other hosts from what spans studies, over several transactions."""
        return nullcontext()

    @abstractmethod
    def now(self) -> float:
        """Seconds since 1970 by the clock that all writers share; 0 where everybody's own clock is that."""

    @abstractmethod
    def stream(self, sql: str) -> Iterator[Any]:
        """Rows of a query that may be large; nothing else may be asked meanwhile."""

    @abstractmethod
    def only_read(self, seconds: float) -> None:
        """Write nothing from now on, and end a query after a moment: for a look beside others."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""


_ALONE = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_WITHIN = ("SAVEPOINT part", "RELEASE part", ("ROLLBACK TO part", "RELEASE part"))


def newer(version: int) -> StoreError:
    """Say that a state is of a later version."""
    return StoreError(
        f"A newer dcm2fhir made this state (schema {version}, this one knows "
        f"{SCHEMA_VERSION}). Use that version, or name another --state."
    )


class SqliteDatabase(Database):
    """One SQLite file.

    Parameters
    ----------
    path : Path
    kept : bool
        Whether it outlives the run, and so must be durable.
    cache : int
        Bytes of it that are held in memory at most.
    damaged : str
        What to do about a kept one that is damaged.
    """

    several = False

    def __init__(
        self, path: Path, *, kept: bool, cache: int = 32 << 20, damaged: str = READ_ANEW
    ) -> None:
        self._path = path
        self._damaged = damaged
        self._kept = kept
        self._cache = cache
        self._within = False
        """Whether all is one transaction, of which others are parts."""
        with self.guard():
            self.connection = self._connect(path)
            try:
                self._open()
            except BaseException:
                self.connection.close()
                raise

    def _connect(self, path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, timeout=30)

    def _version(self) -> int:
        """Version of the schema, 0 where there are no tables yet; refuses what is no state of ours."""
        connection = self.connection
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self._path} is no dcm2fhir state. Name another --state.")
        if version > SCHEMA_VERSION:
            raise newer(version)
        return version if tables else 0

    def _open(self) -> None:
        connection = self.connection
        version = self._version()
        connection.execute(f"PRAGMA journal_mode = {'WAL' if self._kept else 'MEMORY'}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._kept else 'OFF'}")
        connection.execute(f"PRAGMA cache_size = -{self._cache >> 10}")
        if not self._kept:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        if not version:
            connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
                "PRAGMA user_version = 1; COMMIT;"
            )
        if version < SCHEMA_VERSION:
            self._migrate()
        if not self._kept:
            # What nobody reads after the run is never committed: to write pages out for each transaction costs more
            # than all the statements. Those that the cache does not hold go to the file.
            connection.execute("BEGIN EXCLUSIVE")
            self._within = True

    def _migrate(self) -> None:
        with self.transaction() as db:
            # another process may have been faster
            version = db.execute("PRAGMA user_version").fetchone()[0]
            for step in range(version, SCHEMA_VERSION):
                for statement in MIGRATIONS[step]:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {step + 1}")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `Database.transaction`: the one writer of the file until it ends."""
        begin, commit, rollback = _WITHIN if self._within else _ALONE
        with self.guard():
            self.connection.execute(begin)
            try:
                yield self.connection
                self.connection.execute(commit)
            except BaseException:
                if self.connection.in_transaction:
                    for statement in rollback:
                        self.connection.execute(statement)
                raise

    @contextmanager
    def guard(self) -> Iterator[None]:
        """See `Database.guard`."""
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise StoreError(self._say(error)) from error

    def prepare(self, statements: Sequence[str]) -> None:
        """See `Database.prepare`."""
        with self.transaction() as db:
            for statement in statements:
                db.execute(statement)

    def insert(self, sql: str, parameters: Sequence[Any]) -> int:
        """See `Database.insert`."""
        return self.connection.execute(sql, parameters).lastrowid or 0

    def lock(self, keys: Iterable[str]) -> None:
        """Nothing to do: a transaction is the one writer of the file."""

    def now(self) -> float:
        """0: one machine has one clock."""
        return 0.0

    def stream(self, sql: str) -> Iterator[Any]:
        """See `Database.stream`."""
        for row in self.connection.execute(sql):  # noqa: UP028  which would close the cursor of what is closed
            yield row

    def only_read(self, seconds: float) -> None:
        """See `Database.only_read`."""
        until = time.monotonic() + seconds
        with self.guard():
            self.connection.execute("PRAGMA query_only = ON")
            self.connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)

    def close(self) -> None:
        """See `Database.close`."""
        self.connection.close()

    def _say(self, error: Exception) -> str:
        again = (
            "run the same command again: what was done is kept"
            if self._kept
            else "run again (TMPDIR names another folder for temporary files)"
        )
        if self._damaged == KEEP:
            again = "a daemon goes on by itself; a command is to be run again"
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return f"The disk of the study store is full. Free some space and {again}."
        if isinstance(error, msgspec.MsgspecError) or code in {
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        }:
            if self._kept:
                return f"The state file {self._path} is damaged. {self._damaged}"
            return f"The temporary study store is damaged. Look at the disk, then {again}."
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return "Another process holds the study store. Wait for it, or name another --state."
        if code == sqlite3.SQLITE_INTERRUPT:
            return "The study store took too long to answer."
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        store = f"The study store {self._path}" if self._kept else "The study store"
        return f"{store} failed ({name}). Look at its disk and permissions, then {again}."
