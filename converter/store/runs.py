"""Runs of ``convert`` side by side on one PostgreSQL server.

They share what was read, what was made of it, and the outbox. What belongs to one run alone (outcomes, reduced
resources, remarks, inputs that it skipped on its way) lies in temporary tables of its connection, which hide the
ones of the schema. A run is about the studies of its inputs.
"""

# ruff: noqa: D102  what each method promises stands in `converter.store.StudyStore`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.errors import StoreError
from converter.store.files import Known, known
from converter.store.postgres import RUN, PostgresDatabase
from converter.store.schema import for_postgres
from converter.store.sql import SqlStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from converter.store.database import Connection
    from converter.store.interface import Converted

__all__ = ["SharedStore"]

OWN = ("remark", "companion", "outcome")
"""Tables of one run."""
_SKIPPED = """CREATE TEMP TABLE IF NOT EXISTS skipped_here (
    file_id INTEGER, study_uid TEXT, path TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL)"""
_COLUMNS = "file_id, study_uid, path, reason, detail"


class SharedStore(SqlStore):
    """`StudyStore` of one of several runs."""

    several = True
    _database: PostgresDatabase
    _strays = "skipped_here"
    _all_skipped = (
        f"(SELECT {_COLUMNS} FROM skipped UNION ALL SELECT {_COLUMNS} FROM skipped_here) AS skipped"  # noqa: S608
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read: dict[str, tuple[int, ...]] = {}
        """Study to the blocks that its conversion is made from."""

    def begin_run(self) -> None:
        with self._database.transaction() as db:
            for table in OWN:
                db.execute(
                    f"CREATE TEMP TABLE IF NOT EXISTS {table} "
                    f'(LIKE "{self._database.schema}".{table} INCLUDING ALL)'
                )
                db.execute(f"DELETE FROM pg_temp.{table}")  # noqa: S608
            db.execute(for_postgres(_SKIPPED))
            db.execute("DELETE FROM skipped_here")
            row = db.execute(
                "INSERT INTO meta VALUES ('run', '1') ON CONFLICT (key) DO UPDATE "
                "SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT) RETURNING value"
            ).fetchone()
        self.run = int(row[0])

    def _known(self, db: Connection, paths: Sequence[bytes]) -> dict[bytes, Known]:
        self._database.lock_files(paths)
        return known(db, paths)

    def prune(self) -> list[str]:
        if self._database.holders(RUN):
            raise StoreError(
                "Other runs use this database, and --prune would take their inputs for gone. Wait for them."
            )
        return super().prune()

    def narrow(self, more: Iterable[str] = ()) -> None:
        super().narrow(more)
        with self._database.transaction() as db:
            db.execute(f"DELETE FROM held WHERE {self._scope}")  # noqa: S608

    def _readable(self) -> str:
        return self._in_scope()  # what other runs have just read is theirs to convert

    def blocks(self, study_uids: Sequence[str]) -> list[list[bytes]]:
        self._read.update((uid, self._seen(uid)) for uid in study_uids)
        return super().blocks(study_uids)

    def _seen(self, study_uid: str) -> tuple[int, ...]:
        sql = (
            "SELECT count(*), coalesce(max(id), 0), CAST(coalesce(sum(rows), 0) AS BIGINT) "
            "FROM block WHERE study_uid = ?"
        )
        return tuple(self._all(sql, (study_uid,))[0])

    def begin_converting(self, fingerprint: str) -> None:
        if not self._database.share_rules(fingerprint):
            raise StoreError(
                "Another run uses this database with other profiles, mappings or options. Wait for it, or name "
                "a schema of its own: ?options=-csearch_path%3DNAME"
            )
        super().begin_converting(fingerprint)

    def _current(self, conversions: Sequence[Converted]) -> Sequence[Converted]:
        """Leave out what another run added to meanwhile: it converts that study after."""
        self._database.lock(item.study_uid for item in conversions)
        return [
            item
            for item in conversions
            if self._read.pop(item.study_uid, None) in {None, self._seen(item.study_uid)}
        ]
