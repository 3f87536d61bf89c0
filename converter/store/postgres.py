"""A PostgreSQL database behind a store, for several hosts: psycopg 3, imported when one is named.

The tables lie in a schema of their own, ``dcm2fhir``, or the one that the URL puts first
(``?options=-csearch_path%3DNAME``). Transactions are READ COMMITTED; what must not happen at the same time is kept
apart by advisory locks, which go with the connection when a host dies.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from converter.errors import ConfigurationError, StoreAwayError, StoreError
from converter.store.address import ServerPlace, password
from converter.store.database import Connection, Database, newer
from converter.store.schema import MIGRATIONS, SCHEMA, SCHEMA_VERSION, for_postgres

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["DAEMON", "ROUND", "RUN", "PostgresDatabase"]

SCHEMA_NAME = "dcm2fhir"
BUCKETS = 512
"""Advisory locks of studies: a transaction may touch more studies than the server has locks."""
MIGRATION, DAEMON, RUN, ROUND = range(BUCKETS, BUCKETS + 4)
"""Advisory locks beside those of studies."""
DURABLE = ("on", "remote_apply")
TIMEOUT = 10
"""Seconds for a connection to come about."""
SETTINGS = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A host that is cut off is noticed within half a minute (libpq)."""
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


def _driver() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise ConfigurationError(
            "--state postgresql://... needs psycopg: pip install 'dcm2fhir[postgres]'"
        ) from error
    return psycopg


@lru_cache(maxsize=1024)
def _translated(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


class _Speaking:
    """A connection that takes our SQL."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        return self._connection.execute(_translated(sql), parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        cursor = self._connection.cursor()
        cursor.executemany(_translated(sql), parameters)
        return cursor


class PostgresDatabase(Database):
    """One connection to a PostgreSQL server.

    Parameters
    ----------
    place : ServerPlace
    lasting : bool
        Connect anew when the connection was lost; without it (a run, whose temporary tables went with it) the
        next use says so.
    patient : bool
        The server may be away now: the first use connects.
    role : int, optional
        `DAEMON` or `RUN`: what it is held for as long as it is connected. The two exclude each other.

    Raises
    ------
    StoreAwayError
        The server cannot be reached.
    StoreError
        It is no state of ours, or it does not keep what it confirms.
    ConfigurationError
        psycopg is missing, or the URL is wrong.
    """

    several = True

    def __init__(
        self,
        place: ServerPlace,
        *,
        lasting: bool = True,
        patient: bool = False,
        role: int = 0,
    ) -> None:
        self._psycopg = _driver()
        self._url = place.url
        self._lasting = lasting
        self._role = role
        self._prepared: list[Sequence[str]] = []
        self.schema = SCHEMA_NAME
        self._raw: Any = None
        self._speaking: Any = None
        try:
            self._connect()
        except StoreAwayError:
            if not patient:
                raise

    # connecting

    @property
    def connection(self) -> Any:
        """See `Database.connection`."""
        self._alive()
        return self._speaking

    def _connect(self) -> None:
        psycopg = self._psycopg
        try:
            given = psycopg.conninfo.conninfo_to_dict(self._url)
        except psycopg.ProgrammingError:
            raise ConfigurationError("--state: that is no PostgreSQL URL") from None
        secret = password()
        extra = {
            "connect_timeout": TIMEOUT,
            "application_name": "dcm2fhir",
            **SETTINGS,
            **given,
            **({"password": secret} if secret else {}),
        }
        try:
            raw = psycopg.connect(**extra, autocommit=True)
        except psycopg.Error as error:
            raise self._refused(error) from None
        self._raw = raw
        self._speaking = _Speaking(raw)
        try:
            with self.guard():
                self._settle(str(given.get("options") or os.environ.get("PGOPTIONS", "")))
        except BaseException:
            raw.close()
            raise

    def _refused(self, error: Exception) -> StoreError:
        # libpq's words of a connection: host, port, user and database, never a password
        said = " ".join(str(error).split())
        if any(word in said for word in ("authentication failed", "does not exist", "no password")):
            return StoreError(f"The PostgreSQL server refuses: {said}")
        return StoreAwayError(f"The PostgreSQL server cannot be reached: {said}")

    def _settle(self, options: str) -> None:
        raw = self._raw
        for statement in SESSION:
            raw.execute(statement)
        if "search_path" in options:
            first = raw.execute("SHOW search_path").fetchone()[0].split(",")[0]
            self.schema = first.strip().strip('"')
        if self._show("server_encoding") not in {"UTF8", "SQL_ASCII"}:
            raise StoreError("The database is not in UTF-8: make one with ENCODING 'UTF8'.")
        if self._show("fsync") != "on":
            raise StoreError(
                "The PostgreSQL server runs with fsync = off: what it confirms is gone after a power cut."
            )
        if self._show("synchronous_commit") not in DURABLE:
            raw.execute("SET synchronous_commit = on")
        if self._show("synchronous_commit") not in DURABLE:
            raise StoreError("The PostgreSQL server does not let synchronous_commit be on.")
        self._key = _int32(f"dcm2fhir/{self.schema}")
        self._set_path()
        self._migrate()
        for statements in self._prepared:
            self._prepare(statements)
        if self._role:
            self._take_role()

    def _show(self, name: str) -> str:
        return str(self._raw.execute(f"SHOW {name}").fetchone()[0])

    def _set_path(self) -> None:
        from psycopg import sql

        name = sql.Identifier(self.schema)
        known = self._raw.execute(
            "SELECT 1 FROM pg_namespace WHERE nspname = %s", (self.schema,)
        ).fetchone()
        if known is None:
            with self._alone(MIGRATION):
                self._raw.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
        self._raw.execute(sql.SQL("SET search_path TO {}").format(name))

    def _version(self) -> int:
        known = self._raw.execute(
            "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'meta'", (self.schema,)
        ).fetchone()
        if known is None:
            return 0
        row = self._raw.execute("SELECT value FROM meta WHERE key = 'dcm2fhir schema'").fetchone()
        if row is None:
            raise StoreError(
                f"The schema {self.schema} of that database is no dcm2fhir state. Name another one."
            )
        return int(row[0])

    def _migrate(self) -> None:
        version = self._version()
        if version > SCHEMA_VERSION:
            raise newer(version)
        if version == SCHEMA_VERSION:
            return
        with self._alone(MIGRATION), self._raw.transaction():
            # another process may have been faster
            version = self._version()
            if not version:
                self._raw.execute(for_postgres(SCHEMA))
                self._raw.execute("INSERT INTO meta VALUES ('dcm2fhir schema', '1')")
                version = 1
            for step in range(version, SCHEMA_VERSION):
                for statement in MIGRATIONS[step]:
                    self._raw.execute(for_postgres(statement))
            self._raw.execute(
                "UPDATE meta SET value = %s WHERE key = 'dcm2fhir schema'", (str(SCHEMA_VERSION),)
            )

    @contextmanager
    def _alone(self, lock: int) -> Iterator[None]:
        self._lock_alone(lock)
        try:
            yield
        finally:
            with suppress(self._psycopg.Error):  # the lock went with the connection
                self._unlock(lock)

    def _lock_alone(self, lock: int) -> None:
        self._raw.execute("SELECT pg_advisory_lock(%s, %s)", (self._key, lock))

    def _unlock(self, lock: int) -> None:
        self._raw.execute("SELECT pg_advisory_unlock(%s, %s)", (self._key, lock))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Database.alone`."""
        with self.guard():
            self._lock_alone(ROUND)
        try:
            yield
        finally:
            with suppress(self._psycopg.Error):  # the lock went with the connection
                self._unlock(ROUND)

    def _take_role(self) -> None:
        """Daemons may share a schema with daemons, and runs with runs."""
        self._raw.execute("SELECT pg_advisory_lock_shared(%s, %s)", (self._key, self._role))
        other = RUN if self._role == DAEMON else DAEMON
        if self.holders(other):
            who = "A run of convert" if other == RUN else "A daemon (dcm2fhir listen)"
            raise StoreError(
                f"{who} uses the schema {self.schema} of that database. Wait for it, or name a schema of "
                "its own: ?options=-csearch_path%3DNAME"
            )

    def holders(self, lock: int, key: int | None = None) -> list[int]:
        """Numbers of the locks of a key that others hold; ``lock`` -1: of any number."""
        rows = self._raw.execute(
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND classid = (%s::bigint & 4294967295)::oid AND (%s = -1 OR objid = (%s::bigint & 4294967295)::oid)",
            (self._key if key is None else key, lock, lock),
        ).fetchall()
        return [int(row[0]) for row in rows]

    def _alive(self) -> None:
        """Connect anew where the connection was lost."""
        if self._raw is None or (self._raw.closed and self._lasting):
            self._connect()

    # what a store asks

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `Database.transaction`."""
        self._alive()
        with self.guard(), self._raw.transaction():
            yield self._speaking

    @contextmanager
    def guard(self) -> Iterator[None]:
        """See `Database.guard`. The words of the server are not passed on: they may quote values."""
        self._alive()
        try:
            yield
        except msgspec.MsgspecError as error:
            raise StoreError("The study store is damaged: a row of it cannot be read.") from error
        except self._psycopg.Error as error:
            raise self._say(error) from None

    def _say(self, error: Any) -> StoreError:
        state = error.sqlstate or ""
        if self._raw.closed or state[:2] in {"08", "57"}:
            self._raw.close()
            return StoreAwayError(
                f"The PostgreSQL server cannot be reached ({state or type(error).__name__}). "
                "What was done is kept: try again when it is back."
            )
        why = _CLASSES.get(state[:2], "")
        return StoreError(
            f"The study store failed ({state or type(error).__name__}{': ' + why if why else ''}). "
            "What was done is kept: look at the PostgreSQL server, then try again."
        )

    def prepare(self, statements: Sequence[str]) -> None:
        """See `Database.prepare`; again whenever it connects anew."""
        self._prepared.append(statements)
        if self._raw is not None and not self._raw.closed:
            with self.guard():
                self._prepare(statements)

    def _prepare(self, statements: Sequence[str]) -> None:
        mark = f"{_int32(';'.join(statements)):x}"
        db = self._speaking
        with self._raw.transaction():
            row = db.execute("SELECT value FROM meta WHERE key = 'prepared'").fetchone()
            if row is not None and mark in row[0].split():
                return
            db.execute("SELECT pg_advisory_xact_lock(?, ?)", (self._key, MIGRATION))
            for statement in statements:
                db.execute(for_postgres(statement))
            db.execute(
                "INSERT INTO meta VALUES ('prepared', ?) ON CONFLICT (key) DO UPDATE SET value = "
                "concat_ws(' ', meta.value, excluded.value)",
                (mark,),
            )

    def insert(self, sql: str, parameters: Sequence[Any]) -> int:
        """See `Database.insert`."""
        return int(self._speaking.execute(f"{sql} RETURNING id", parameters).fetchone()[0])

    def lock(self, keys: Iterable[str]) -> None:
        """See `Database.lock`. All take them in one order, so that nobody waits in a circle."""
        self._lock(self._key, {crc32(key.encode()) % BUCKETS for key in keys})

    def lock_files(self, paths: Iterable[bytes]) -> None:
        """Keep other runs from reading the same files until the transaction ends."""
        self._lock(_int32(f"dcm2fhir/{self.schema}/files"), {_signed(crc32(p)) for p in paths})

    def _lock(self, key: int, numbers: set[int]) -> None:
        if numbers:
            # a set in a FROM clause is gone through in its order
            self._raw.execute(
                "SELECT pg_advisory_xact_lock(%s, n) FROM unnest(%s::int[]) AS n",
                (key, sorted(numbers)),
            )

    def now(self) -> float:
        """See `Database.now`."""
        sql = "SELECT extract(epoch FROM clock_timestamp())::float8"
        with self.guard():
            return float(self._raw.execute(sql).fetchone()[0])

    def stream(self, sql: str) -> Iterator[Any]:
        """See `Database.stream`."""
        with self._raw.cursor() as cursor:
            yield from cursor.stream(_translated(sql))

    def share_rules(self, fingerprint: str) -> bool:
        """Hold the rules of a run; whether no other run has other ones."""
        key, number = _int32(f"dcm2fhir/{self.schema}/rules"), _int32(fingerprint)
        with self.guard():
            self._raw.execute("SELECT pg_advisory_lock_shared(%s, %s)", (key, number))
            return {_signed(held) for held in self.holders(-1, key)} <= {number}

    def only_read(self, seconds: float) -> None:
        """See `Database.only_read`."""
        with self.guard():
            self._raw.execute("SET default_transaction_read_only = on")
            self._raw.execute(f"SET statement_timeout = {int(seconds * 1000)}")

    def close(self) -> None:
        """See `Database.close`."""
        if self._raw is not None:
            self._raw.close()


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


def _int32(text: str) -> int:
    return _signed(crc32(text.encode()))
