"""A look at a state that changes nothing: no file, table or schema is made, and none is brought to a newer version."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from converter.errors import StoreError
from converter.store.database import SqliteDatabase, newer
from converter.store.place import refuse_network
from converter.store.postgres import DAEMON, RUN, PostgresDatabase
from converter.store.schema import SCHEMA_VERSION
from converter.store.session import schema_version

if TYPE_CHECKING:
    from converter.store.address import ServerPlace, StatePlace
    from converter.store.database import Database

__all__ = ["Server", "Sight", "look"]

WAIT = 4.0
"""Seconds for a lock of somebody who writes."""


class Server(NamedTuple):
    """What a PostgreSQL server is like."""

    release: str
    schema: str
    may_create: bool
    """Whether this user may make the schema, where it is not there."""
    daemons: int
    runs: int
    """Connections of `listen` and `convert` that use the schema now."""


class Sight(NamedTuple):
    """What stands there; the database is to be closed."""

    database: Database
    version: int
    """Of the schema; 0: there are no tables yet."""
    server: Server | None = None

    @property
    def current(self) -> bool:
        """Whether this version may be asked as it is."""
        return self.version == SCHEMA_VERSION

    def damage(self, seconds: float) -> bool | None:
        """Whether SQLite finds its file damaged; ``None`` where it did not come to an end in time."""
        if self.server is not None:
            return False
        self.database.only_read(seconds)
        try:
            return bool(self.database.rows("PRAGMA quick_check(1)") != [("ok",)])
        except StoreError as error:
            if getattr(error.__cause__, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                return None
            raise


class _File(SqliteDatabase):
    """A state file, opened so that not even its log is made, checkpointed or deleted."""

    version = 0

    def _connect(self, path: Path) -> sqlite3.Connection:
        log = path.with_name(path.name + "-wal")
        # without a log nobody has it open, and all there is stands in the file; to open it as any other would make one
        lies = log.exists() and log.stat().st_size
        url = f"{path.absolute().as_uri()}?mode=ro{'' if lies else '&immutable=1'}"
        return sqlite3.connect(url, uri=True, isolation_level=None, timeout=WAIT)

    def _open(self) -> None:
        self.version = self._version()


class _Schema(PostgresDatabase):
    _looks = True

    def seen(self) -> Sight:
        with self.guard():
            version = schema_version(self._raw, self.schema)
            if version > SCHEMA_VERSION:
                raise newer(version)
            sql = "SELECT has_database_privilege(current_database(), 'CREATE')"
            may = bool(self._raw.execute(sql).fetchone()[0])
            release = str(self._raw.execute("SHOW server_version").fetchone()[0]).split()[0]
            daemons, runs = (len(self.holders(lock)) for lock in (DAEMON, RUN))
        return Sight(self, version, Server(release, self.schema, may, daemons, runs))


def look(place: StatePlace, *, damaged: str = "") -> Sight:
    """Open a state that is there, beside whoever uses it.

    Parameters
    ----------
    place : Path or ServerPlace
        A file must be there.
    damaged : str
        What to do about a damaged file, for the error.

    Raises
    ------
    StoreError
        It lies on a network file system, it is no state, a newer version made it, it is damaged, or its server
        cannot be reached.
    ConfigurationError
        See `converter.store.postgres.PostgresDatabase`.
    """
    if isinstance(place, Path):
        refuse_network(place)
        file = _File(place, kept=True, damaged=damaged)
        return Sight(file, file.version)
    return _on_server(place)


def _on_server(place: ServerPlace) -> Sight:
    schema = _Schema(place, lasting=False)
    try:
        return schema.seen()
    except BaseException:
        schema.close()
        raise
