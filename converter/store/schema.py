"""The tables of a study store, as SQLite reads them, and the same for PostgreSQL."""

from __future__ import annotations

__all__ = ["MIGRATIONS", "SCHEMA", "SCHEMA_VERSION", "for_postgres"]

SCHEMA_VERSION = 2

SCHEMA = """
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

MIGRATIONS = {
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

_TYPES = (
    ("INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    ("INTEGER PRIMARY KEY", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    (" WITHOUT ROWID", ""),
    ("INTEGER", "BIGINT"),
    ("REAL", "DOUBLE PRECISION"),
    ("TEXT", 'TEXT COLLATE "C"'),
    ("DEFAULT x'90'", "DEFAULT '\\x90'"),
    ("BLOB", "BYTEA"),
)


def for_postgres(statement: str) -> str:
    """Give a statement that makes or changes a table in the words of PostgreSQL.

    Text is ordered by code points there too (``COLLATE "C"``), whatever the database's language.
    """
    for ours, theirs in _TYPES:
        statement = statement.replace(ours, theirs)
    return statement
