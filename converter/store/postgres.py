"""A PostgreSQL database behind a store, for several hosts: psycopg 3, imported when one is named.

The tables lie in a schema of their own, ``dcm2fhir``, or the one that the URL puts first
(``?options=-csearch_path%3DNAME``). Transactions are READ COMMITTED; what must not happen at the same time is kept
apart by advisory locks, which go with the connection when a host dies.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from converter.errors import StoreAwayError, StoreError
from converter.store.address import ServerPlace
from converter.store.database import Connection, Database
from converter.store.schema import for_postgres
from converter.store.session import (
    MIGRATION,
    alone,
    driver,
    int32,
    open_session,
    said_of,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

__all__ = ["DAEMON", "ROUND", "RUN", "PostgresDatabase"]

BUCKETS = 512
"""Advisory locks of studies: a transaction may touch more studies than the server has locks."""
DAEMON, RUN, ROUND = range(BUCKETS, BUCKETS + 3)
"""Advisory locks beside those of studies."""
HANGS = "2min"
"""After which a host that holds `ROUND` and asks for nothing loses it with its connection."""


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
    _looks = False

    def __init__(
        self,
        place: ServerPlace,
        *,
        lasting: bool = True,
        patient: bool = False,
        role: int = 0,
    ) -> None:
        self._psycopg = driver()
        self._url = place.url
        self._lasting = lasting
        self._patient = patient
        self._role = role
        self._prepared: list[Sequence[str]] = []
        self.schema = ""
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
        try:
            raw, self.schema = open_session(self._url, look=self._looks)
        except self._psycopg.Error as error:
            raise StoreError(f"The PostgreSQL server failed ({said_of(error)}).") from None
        self._raw = raw
        self._speaking = _Speaking(raw)
        self._key = int32(f"dcm2fhir/{self.schema}")
        try:
            with self.guard():
                for statements in self._prepared:
                    self._prepare(statements)
                if self._role:
                    self._take_role()
        except BaseException:
            raw.close()
            raise

    def queued(self) -> AbstractContextManager[Any]:
        """See `Database.queued`: a statement costs the way to the server and back, unless others go with it."""
        supported = self._psycopg.Pipeline.is_supported()
        return self._raw.pipeline() if supported else nullcontext()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Database.alone`."""
        with self.guard(), alone(self._raw, self._key, ROUND):
            # a host that hangs in here would keep all others from publishing
            if self._raw.info.server_version < 140000:
                yield
                return
            self._raw.execute(f"SET idle_session_timeout = '{HANGS}'")
            try:
                yield
            finally:
                with suppress(self._psycopg.Error):
                    self._raw.execute("RESET idle_session_timeout")

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
        if state == "57014":
            return StoreError("The study store took too long to answer.")
        if self._raw.closed or state[:2] in {"08", "57"}:
            self._raw.close()
            return StoreAwayError(
                f"The PostgreSQL server cannot be reached ({said_of(error)}). "
                "What was done is kept: try again when it is back."
            )
        return StoreError(
            f"The study store failed ({said_of(error)}). "
            "What was done is kept: look at the PostgreSQL server, then try again."
        )

    def prepare(self, statements: Sequence[str]) -> None:
        """See `Database.prepare`; again whenever it connects anew."""
        self._prepared.append(statements)
        if self._raw is not None and not self._raw.closed:
            try:
                with self.guard():
                    self._prepare(statements)
            except StoreAwayError:
                if not self._patient:
                    raise

    def _prepare(self, statements: Sequence[str]) -> None:
        mark = f"{int32(';'.join(statements)):x}"
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
        self._lock(int32(f"dcm2fhir/{self.schema}/files"), {signed(crc32(p)) for p in paths})

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
        key, number = int32(f"dcm2fhir/{self.schema}/rules"), int32(fingerprint)
        with self.guard():
            self._raw.execute("SELECT pg_advisory_lock_shared(%s, %s)", (key, number))
            return {signed(held) for held in self.holders(-1, key)} <= {number}

    def only_read(self, seconds: float) -> None:
        """See `Database.only_read`."""
        with self.guard():
            self._raw.execute("SET default_transaction_read_only = on")
            self._raw.execute(f"SET statement_timeout = {int(seconds * 1000)}")

    def close(self) -> None:
        """See `Database.close`."""
        if self._raw is None or self._raw.closed:
            return
        with suppress(self._psycopg.Error):
            # at once, and not when the server sees that nobody is there
            self._raw.execute("SELECT pg_advisory_unlock_all()")
        self._raw.close()
