"""One SQLite file: schema, pragmas, and errors in words that say how to go on."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from converter.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Connection", "Database"]

APPLICATION_ID = 0x44324648
SCHEMA_VERSION = 2

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE block (
    id INTEGER PRIMARY KEY, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL,
    rows INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX block_study ON block (study_uid, rows);
CREATE TABLE file (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, version TEXT NOT NULL, run INTEGER NOT NULL);
CREATE TABLE file_block (
    file_id INTEGER NOT NULL, block_id INTEGER NOT NULL, PRIMARY KEY (file_id, block_id)) WITHOUT ROWID;
CREATE INDEX file_block_block ON file_block (block_id);
CREATE TABLE skipped (
    id INTEGER PRIMARY KEY, file_id INTEGER, study_uid TEXT,
    path TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX skipped_file ON skipped (file_id) WHERE file_id IS NOT NULL;
CREATE INDEX skipped_study ON skipped (study_uid) WHERE study_uid IS NOT NULL;
CREATE TABLE converted (
    id INTEGER PRIMARY KEY AUTOINCREMENT, study_uid TEXT NOT NULL UNIQUE, state TEXT NOT NULL, series INTEGER NOT NULL,
    instances INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE contribution (
    resource_type TEXT NOT NULL, resource_id TEXT NOT NULL, study_uid TEXT NOT NULL,
    ordinal INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (resource_type, resource_id, study_uid, ordinal)) WITHOUT ROWID;
CREATE INDEX contribution_study ON contribution (study_uid);
CREATE TABLE sop (
    hash INTEGER NOT NULL, converted_id INTEGER NOT NULL,
    PRIMARY KEY (hash, converted_id)) WITHOUT ROWID;
CREATE TABLE remark (study_uid TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE held (study_uid TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE companion (
    resource_type TEXT NOT NULL, resource_id TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (resource_type, resource_id));
CREATE TABLE outcome (
    study_uid TEXT NOT NULL, resource_type TEXT NOT NULL, resource_id TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (study_uid, resource_type, resource_id));
"""

_MIGRATIONS = {
    1: (
        """CREATE TABLE outbox (
            destination TEXT NOT NULL, study_uid TEXT NOT NULL,
            wanted INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL,
            server_id TEXT NOT NULL DEFAULT '', etag TEXT NOT NULL DEFAULT '',
            digest TEXT NOT NULL DEFAULT '', written BLOB, uncertain INTEGER NOT NULL DEFAULT 0,
            lease TEXT, lease_until REAL NOT NULL DEFAULT 0,
            attempts INTEGER NOT NULL DEFAULT 0, next_attempt REAL NOT NULL, since REAL NOT NULL,
            reason TEXT NOT NULL DEFAULT '', refusal BLOB,
            PRIMARY KEY (destination, study_uid)) WITHOUT ROWID""",
        "CREATE INDEX outbox_due ON outbox (destination, next_attempt, study_uid) WHERE state = 'due'",
        "CREATE INDEX outbox_study ON outbox (study_uid)",
        """CREATE TABLE destination (
            name TEXT PRIMARY KEY, server_ids INTEGER NOT NULL DEFAULT 0, circuit TEXT NOT NULL DEFAULT '',
            probe_at REAL NOT NULL DEFAULT 0, paused_until REAL NOT NULL DEFAULT 0,
            settings TEXT NOT NULL DEFAULT '') WITHOUT ROWID""",
        """CREATE TABLE delivered_companion (
            destination TEXT NOT NULL, key TEXT NOT NULL, reference TEXT NOT NULL,
            PRIMARY KEY (destination, key)) WITHOUT ROWID""",
    ),
}
"""Schema version to what makes the next one of it."""


class Connection(Protocol):
    """What the stores ask of a connection: SQL that SQLite and PostgreSQL both take, with ``?`` for values."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement; give its cursor."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement for each of several rows."""


class Database:
    """A connection with the project's settings; ``with database.transaction()`` is all or nothing."""

    def __init__(self, path: Path, *, kept: bool) -> None:
        self._kept = kept
        with self.guard():
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            try:
                self._open()
            except BaseException:
                self.connection.close()
                raise

    def _open(self) -> None:
        connection = self.connection
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise StoreError("The file is no dcm2fhir state. Name another --state.")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"A newer dcm2fhir made this state (schema {version}, this one knows "
                f"{SCHEMA_VERSION}). Use that version, or name another --state."
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._kept else 'OFF'}")
        connection.execute("PRAGMA cache_size = -32768")
        if not self._kept:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        if not tables:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
                "PRAGMA user_version = 1; COMMIT;"
            )
        if version < SCHEMA_VERSION:
            self._migrate()

    def _migrate(self) -> None:
        with self.transaction() as db:
            # another process may have been faster
            version = db.execute("PRAGMA user_version").fetchone()[0]
            for step in range(version, SCHEMA_VERSION):
                for statement in _MIGRATIONS[step]:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {step + 1}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything in the block or nothing of it."""
        with self.guard():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn errors of the database into `StoreError` in words."""
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise StoreError(self._say(error)) from error

    def _say(self, error: Exception) -> str:
        again = (
            "run the same command again: what was done is kept"
            if self._kept
            else "run again (TMPDIR names another folder for temporary files)"
        )
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return f"The disk of the study store is full. Free some space and {again}."
        if isinstance(error, msgspec.MsgspecError) or code in {
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        }:
            if self._kept:
                return (
                    "The state file is damaged. Move it away and run the same command again: "
                    "everything is read anew from the inputs."
                )
            return f"The temporary study store is damaged. Look at the disk, then {again}."
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return "Another process holds the study store. Wait for it, or name another --state."
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        return f"The study store failed ({name}). Look at its disk and permissions, then {again}."
