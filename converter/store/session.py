"""A session with a PostgreSQL server: how it connects, what it insists on, and the schema that it works in."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from zlib import crc32

from converter.errors import ConfigurationError, StoreAwayError, StoreError, needs_extra
from converter.store.address import password
from converter.store.database import newer
from converter.store.schema import MIGRATIONS, SCHEMA, SCHEMA_VERSION, for_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MIGRATION",
    "alone",
    "driver",
    "int32",
    "open_session",
    "said_of",
    "schema_version",
    "signed",
]

SCHEMA_NAME = "dcm2fhir"
MIGRATION = 1 << 20
"""Number of the advisory lock under which tables are made."""
REFUSALS = (
    "authentication failed",
    "does not exist",
    "no password supplied",
    "no pg_hba.conf entry",
)
"""Words of libpq for what no waiting mends."""
DURABLE = ("on", "remote_apply")
TIMEOUT = 10
"""Seconds for a connection to come about."""
LOOK_TIMEOUT = 4
"""Where somebody waits for the answer."""
SETTINGS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""A host that is cut off is noticed within seconds (libpq)."""
SESSION = (
    "SET client_encoding = 'UTF8'",
    "SET TIME ZONE 'UTC'",
    "SET lock_timeout = '60s'",
    "SET idle_in_transaction_session_timeout = '10min'",
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)
_CLASSES = {
    "08": "the connection was lost",
    "28": "the server does not let this user in",
    "3D": "there is no such database",
    "40": "others changed the same at the same time",
    "42": "a table or a privilege is missing",
    "53": "the server is out of disk, memory or connections",
    "55": "others hold what is needed",
    "57": "the server is shutting down or ended the connection",
    "58": "the server's disk failed",
    "XX": "the database is damaged",
}
"""Class of an SQLSTATE (PostgreSQL, appendix A) to words. The server's own words may quote values."""


def driver() -> Any:
    """Psycopg 3, or which package is missing."""
    try:
        import psycopg
    except ImportError as error:
        raise needs_extra("--state postgresql://...", "postgres") from error
    return psycopg


def signed(number: int) -> int:
    """32 bits as PostgreSQL's ``int4``."""
    return number - (1 << 32) if number >= 1 << 31 else number


def int32(text: str) -> int:
    """A number for an advisory lock."""
    return signed(crc32(text.encode()))


def said_of(error: Any) -> str:
    """An error in words: class and SQLSTATE, and nothing that the server said, which may quote values."""
    state = error.sqlstate or ""
    why = _CLASSES.get(state[:2], "")
    return f"{state or type(error).__name__}{': ' + why if why else ''}"


def open_session(url: str, *, look: bool = False) -> tuple[Any, str]:
    """Connect, and make the tables where they are not there; give the connection and the name of its schema.

    ``look``: make nothing, and be refused whatever would write.

    Raises
    ------
    StoreAwayError, StoreError, ConfigurationError
        See `converter.store.postgres.PostgresDatabase`. Errors of psycopg pass.
    """
    psycopg = driver()
    try:
        given = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigurationError("--state: that is no PostgreSQL URL") from None
    secret = password()
    asked = {
        "connect_timeout": LOOK_TIMEOUT if look else TIMEOUT,
        "application_name": "dcm2fhir",
        **SETTINGS,
        **given,
        **({"password": secret} if secret else {}),
    }
    try:
        raw = psycopg.connect(**asked, autocommit=True)
    except psycopg.Error as error:
        raise _refused(error) from None
    try:
        for statement in SESSION:
            raw.execute(statement)
        _insist(raw)
        schema = SCHEMA_NAME
        if "search_path" in str(given.get("options") or os.environ.get("PGOPTIONS", "")):
            schema = _show(raw, "search_path").split(",")[0].strip().strip('"')
        if look:
            raw.execute("SET default_transaction_read_only = on")
        _enter(raw, schema, make=not look)
        if not look:
            _migrate(raw, schema)
    except BaseException:
        raw.close()
        raise
    return raw, schema


def _refused(error: Exception) -> StoreError:
    # libpq's words of a connection: host, port, user and database, never a password
    said = " ".join(str(error).split())
    if any(words in said for words in REFUSALS):
        return StoreError(f"The PostgreSQL server refuses: {said}")
    return StoreAwayError(f"The PostgreSQL server cannot be reached: {said}")


def _show(raw: Any, name: str) -> str:
    return str(raw.execute(f"SHOW {name}").fetchone()[0])


def _insist(raw: Any) -> None:
    """What it confirms must be on its disk, and any text must go in."""
    if _show(raw, "server_encoding") != "UTF8":
        raise StoreError("The database is not in UTF-8: make one with ENCODING 'UTF8'.")
    if _show(raw, "fsync") != "on":
        raise StoreError(
            "The PostgreSQL server runs with fsync = off: what it confirms is gone after a power cut."
        )
    if _show(raw, "synchronous_commit") not in DURABLE:
        raw.execute("SET synchronous_commit = on")
    if _show(raw, "synchronous_commit") not in DURABLE:
        raise StoreError("The PostgreSQL server does not let synchronous_commit be on.")


def _enter(raw: Any, schema: str, *, make: bool) -> None:
    from psycopg import sql

    name = sql.Identifier(schema)
    known = raw.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
    if known is None and make:
        with alone(raw, int32(schema), MIGRATION):
            raw.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
    raw.execute(sql.SQL("SET search_path TO {}").format(name))


def schema_version(raw: Any, schema: str) -> int:
    """Version of the tables, 0 where there are none yet.

    Raises
    ------
    StoreError
        They are not ours.
    """
    sql = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'meta'"
    if raw.execute(sql, (schema,)).fetchone() is None:
        return 0
    row = raw.execute("SELECT value FROM meta WHERE key = 'dcm2fhir schema'").fetchone()
    if row is None:
        raise StoreError(
            f"The schema {schema} of that database is no dcm2fhir state. Name another one."
        )
    return int(row[0])


def _migrate(raw: Any, schema: str) -> None:
    version = schema_version(raw, schema)
    if version > SCHEMA_VERSION:
        raise newer(version)
    if version == SCHEMA_VERSION:
        return
    with alone(raw, int32(schema), MIGRATION), raw.transaction():
        # another process may have been faster
        version = schema_version(raw, schema)
        if not version:
            raw.execute(for_postgres(SCHEMA))
            raw.execute("INSERT INTO meta VALUES ('dcm2fhir schema', '1')")
            version = 1
        for step in range(version, SCHEMA_VERSION):
            for statement in MIGRATIONS[step]:
                raw.execute(for_postgres(statement))
        raw.execute(
            "UPDATE meta SET value = %s WHERE key = 'dcm2fhir schema'", (str(SCHEMA_VERSION),)
        )


@contextmanager
def alone(raw: Any, key: int, lock: int) -> Iterator[None]:
    """Hold an advisory lock; others wait."""
    raw.execute("SELECT pg_advisory_lock(%s, %s)", (key, lock))
    try:
        yield
    finally:
        with suppress(driver().Error):  # the lock went with the connection
            raw.execute("SELECT pg_advisory_unlock(%s, %s)", (key, lock))
