"""Reads of studies and of what they name, and what is in the scope of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from converter.core.issues import Issue
from converter.store.database import Connection, Database
from converter.store.interface import Companion, Converted, Outcome

__all__ = [
    "PAGE",
    "PUBLISHED",
    "Reads",
    "decode_companion",
    "decode_converted",
    "decode_issues",
    "decode_json",
    "decode_outcome",
    "marks",
    "meta",
    "set_meta",
]

decode_converted = msgspec.msgpack.Decoder(Converted).decode
decode_companion = msgspec.msgpack.Decoder(Companion).decode
decode_outcome = msgspec.msgpack.Decoder(Outcome).decode
decode_json = msgspec.json.Decoder(dict[str, Any]).decode

decode_issues = msgspec.msgpack.Decoder(list[Issue]).decode

PAGE = 200

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

    def missed(self, folders: Iterable[bytes]) -> bytes | None:
        """Folder that the store holds files of, none of which this run saw; see `StudyStore`."""
        if self._none_seen("TRUE"):
            return b""
        for folder in folders:
            root = folder.rstrip(b"/")
            # "0" comes after "/"
            if self._none_seen("path > ? AND path < ?", (root + b"/", root + b"0")):
                return folder
        return None

    def _none_seen(self, where: str, parameters: Sequence[bytes] = ()) -> bool:
        held, seen = (
            self._all(f"SELECT 1 FROM file WHERE {where} {run} LIMIT 1", parameters)  # noqa: S608
            for run in ("", f"AND run = {self.run}")
        )
        return bool(held) and not seen

    def gone(self, study_uids: Sequence[str]) -> list[str]:
        """Those of some studies of which the store holds nothing; see `StudyStore`."""
        sql = "SELECT 1 FROM block WHERE study_uid = ? LIMIT 1"
        return [uid for uid in study_uids if not self._all(sql, (uid,))]

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

    def contributions_to(self, resource_type: str, resource_id: str) -> list[tuple[str, bytes]]:
        """(study UID, JSON) of every published study that contributes to one resource."""
        sql = (
            "SELECT study_uid, body FROM contribution "  # noqa: S608
            f"WHERE resource_type = ? AND resource_id = ? AND {PUBLISHED} ORDER BY study_uid, ordinal"
        )
        return [(uid, body) for uid, body in self._all(sql, (resource_type, resource_id))]

    def contributions(
        self, resource_type: str = "", *, least: int = 1
    ) -> Iterator[tuple[str, str, list[tuple[str, bytes]]]]:
        """(type, id, [(study UID, JSON)]) by type and id; see `StudyStore`."""
        kind = "AND resource_type = ?" if resource_type else "AND ? = ''"
        sql = (
            "SELECT resource_type, resource_id, count(*) FROM contribution "  # noqa: S608
            f"WHERE (resource_type, resource_id) > (?, ?) {kind} {self._keys_in_scope()} AND {PUBLISHED} "
            "GROUP BY resource_type, resource_id HAVING count(DISTINCT study_uid) >= ? "
            f"ORDER BY resource_type, resource_id LIMIT {PAGE}"
        )
        last = ("", "")
        while page := self._all(sql, (*last, resource_type, least)):
            for together in _together(page):
                if len(together) == 1 or least > 1 or self._scope:
                    for type_, id_ in together:
                        # another run may have taken them back meanwhile, to make them anew
                        if held := self.contributions_to(type_, id_):
                            yield type_, id_, held
                else:
                    yield from self._contributions_to(together)
            last = page[-1][:2]

    def _contributions_to(
        self, keys: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[str, str, list[tuple[str, bytes]]]]:
        """Contributions to several resources that stand in a row."""
        sql = (
            "SELECT resource_type, resource_id, study_uid, body FROM contribution "  # noqa: S608
            "WHERE (resource_type, resource_id) >= (?, ?) AND (resource_type, resource_id) <= (?, ?) "
            f"AND {PUBLISHED} ORDER BY resource_type, resource_id, study_uid, ordinal"
        )
        found: dict[tuple[str, str], list[tuple[str, bytes]]] = {key: [] for key in keys}
        for type_, id_, study_uid, body in self._all(sql, (*keys[0], *keys[-1])):
            if (held := found.get((type_, id_))) is not None:
                held.append((study_uid, body))
        for (type_, id_), contributions in found.items():
            yield type_, id_, contributions

    def companion(self, resource_type: str, resource_id: str) -> dict[str, Any] | None:
        """One reduced resource."""
        rows = self._all(
            "SELECT data FROM companion WHERE resource_type = ? AND resource_id = ?",
            (resource_type, resource_id),
        )
        with self._database.guard():
            return decode_json(decode_companion(rows[0][0]).resource) if rows else None

    def reduced(self, resource_type: str, resource_ids: Sequence[str]) -> dict[str, Companion]:
        """Reduced resources of one type, by id; see `StudyStore`."""
        if not resource_ids:
            return {}
        rows = self._all(
            "SELECT data FROM companion WHERE resource_type = ? "  # noqa: S608
            f"AND resource_id IN ({marks(resource_ids)})",
            (resource_type, *resource_ids),
        )
        with self._database.guard():
            found = [decode_companion(data) for (data,) in rows]
        return {item.resource_id: item for item in found}

    def said_of(self, study_uids: Sequence[str]) -> tuple[dict[str, str], dict[str, list[Issue]]]:
        """Reasons for which studies are held, and findings of this run; see `StudyStore`."""
        some = f"WHERE study_uid IN ({marks(study_uids)})"
        held = self._all(f"SELECT study_uid, reason FROM held {some}", study_uids)  # noqa: S608
        remarks = self._all(f"SELECT study_uid, data FROM remark {some}", study_uids)  # noqa: S608
        with self._database.guard():
            return dict(held), {uid: decode_issues(data) for uid, data in remarks}

    def unmade(self) -> Iterator[tuple[str, str]]:
        """(Study UID, state) of conversions that gave no resource."""
        sql = (
            "SELECT study_uid, state FROM converted WHERE state <> 'converted' AND study_uid > ? "  # noqa: S608
            f"{self._in_scope()} ORDER BY study_uid LIMIT {PAGE}"
        )
        last = ""
        while page := self._all(sql, (last,)):
            yield from page
            last = page[-1][0]

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._database.rows(sql, parameters)


def _together(page: Sequence[tuple[str, str, int]]) -> Iterator[list[tuple[str, str]]]:
    """Keys of a page that are asked for at once: few contributions at a time, so that memory stays flat."""
    together: list[tuple[str, str]] = []
    rows = 0
    for type_, id_, count in page:
        if together and rows + count > PAGE:
            yield together
            together, rows = [], 0
        together.append((type_, id_))
        rows += count
    if together:
        yield together


def marks(values: Sequence[Any]) -> str:
    """Place holders for so many values, to stand after ``IN``."""
    return ", ".join("?" * len(values)) or "NULL"


def meta(db: Connection, key: str) -> str:
    """One value of the table of single values; empty where there is none."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


def set_meta(db: Connection, key: str, value: str) -> None:
    """Set one value of that table."""
    db.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )
