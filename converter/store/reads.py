"""Reads of one study or resource at a time, and what is in the scope of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from converter.store.database import Connection, Database
from converter.store.interface import Companion, Converted, Outcome

__all__ = ["PUBLISHED", "Reads", "decode_companion", "decode_converted", "decode_outcome", "meta"]

decode_converted = msgspec.msgpack.Decoder(Converted).decode
decode_companion = msgspec.msgpack.Decoder(Companion).decode
decode_outcome = msgspec.msgpack.Decoder(Outcome).decode
_decode_json = msgspec.json.Decoder(dict[str, Any]).decode

PUBLISHED = (
    "EXISTS (SELECT 1 FROM converted c "
    "WHERE c.study_uid = contribution.study_uid AND c.state = 'converted') "
    "AND NOT EXISTS (SELECT 1 FROM held h WHERE h.study_uid = contribution.study_uid)"
)


class Reads:
    """What `converter.store.sql.SqlStore` is asked for one at a time."""

    _database: Database
    _scope: str
    run: int
    """Number of the run; 0 before there was one."""

    def narrow(self, more: Iterable[str] = ()) -> None:
        """Let the rest of the run be about the studies of its inputs, not about all that is kept."""
        with self._database.transaction() as db:
            db.execute("DROP TABLE IF EXISTS scope")
            db.execute(
                "CREATE TEMP TABLE scope AS SELECT DISTINCT study_uid FROM file JOIN file_block ON "  # noqa: S608
                f"file.id = file_id JOIN block ON block.id = block_id WHERE run = {self.run}"
            )
            db.execute("CREATE UNIQUE INDEX scope_study ON scope (study_uid)")
            db.executemany(
                "INSERT INTO scope VALUES (?) ON CONFLICT DO NOTHING", [(uid,) for uid in more]
            )
        self._scope = "study_uid IN (SELECT study_uid FROM scope)"

    def _in_scope(self) -> str:
        return f"AND {self._scope}" if self._scope else ""

    def _keys_in_scope(self) -> str:
        """Resources that some study in scope contributes to."""
        if not self._scope:
            return ""
        return (
            "AND (resource_type, resource_id) IN (SELECT resource_type, resource_id "  # noqa: S608
            f"FROM contribution WHERE {self._scope})"
        )

    def _skipped_in_scope(self) -> str:
        if not self._scope:
            return ""
        return (
            f"WHERE {self._scope} OR (study_uid IS NULL AND (file_id IS NULL OR file_id IN (SELECT id "  # noqa: S608
            f"FROM file WHERE run = {self.run})))"
        )

    def conversion(self, study_uid: str) -> Converted | None:
        """Conversion of one study, without contributions and duplicates."""
        rows = self._all("SELECT data FROM converted WHERE study_uid = ?", (study_uid,))
        with self._database.guard():
            return decode_converted(rows[0][0]) if rows else None

    def study_outcome(self, study_uid: str) -> Outcome | None:
        """What became of one study in the latest run."""
        rows = self._all("SELECT data FROM outcome WHERE study_uid = ?", (study_uid,))
        with self._database.guard():
            return decode_outcome(rows[0][0]) if rows else None

    def fingerprint(self) -> str:
        """By what rules and options the conversions were made."""
        with self._database.guard():
            return meta(self._database.connection, "fingerprint")

    def contributed(self, study_uid: str) -> list[tuple[str, str]]:
        """(type, id) of the resources that a study names."""
        sql = "SELECT DISTINCT resource_type, resource_id FROM contribution WHERE study_uid = ? ORDER BY 1, 2"
        return [(kind, id_) for kind, id_ in self._all(sql, (study_uid,))]

    def contributions_to(
        self, resource_type: str, resource_id: str
    ) -> list[tuple[str, dict[str, Any]]]:
        """(study UID, resource) of every published study that contributes to one resource."""
        sql = (
            "SELECT study_uid, body FROM contribution "  # noqa: S608
            f"WHERE resource_type = ? AND resource_id = ? AND {PUBLISHED} ORDER BY study_uid, ordinal"
        )
        rows = self._all(sql, (resource_type, resource_id))
        return [(uid, _decode_json(body)) for uid, body in rows]

    def companion(self, resource_type: str, resource_id: str) -> dict[str, Any] | None:
        """One reduced resource."""
        rows = self._all(
            "SELECT data FROM companion WHERE resource_type = ? AND resource_id = ?",
            (resource_type, resource_id),
        )
        with self._database.guard():
            return _decode_json(decode_companion(rows[0][0]).resource) if rows else None

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._database.rows(sql, parameters)


def meta(db: Connection, key: str) -> str:
    """One value of the table of single values; empty where there is none."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""
