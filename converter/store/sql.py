"""The study store in a database. Reads go in pages, so that writing beside them is safe and memory flat."""

# ruff: noqa: D102  what each method promises stands in `StudyStore`

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from converter.store.database import Connection, Database
from converter.store.files import (
    Known,
    begin,
    drop,
    forget_unseen,
    known,
    lost,
    note_lost,
    settle_lost,
    touch,
)
from converter.store.interface import (
    Companion,
    Converted,
    FileStamp,
    Outcome,
    Part,
    SkippedRow,
)
from converter.store.outbox import Outbox
from converter.store.reads import (
    PAGE,
    Reads,
    decode_companion,
    decode_converted,
    decode_issues,
    decode_outcome,
    marks,
    meta,
    set_meta,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from converter.core.issues import Issue

__all__ = ["SqlStore"]

_encode = msgspec.msgpack.Encoder().encode

_BLOCK = "INSERT INTO block (study_uid, series_uid, rows, data) VALUES (?, ?, ?, ?)"


class SqlStore(Reads):
    """`StudyStore` in a database."""

    several = False
    _strays = "skipped"
    """Table of what this run skipped on its way."""
    _all_skipped = "skipped"

    def __init__(
        self, database: Database, *, kept: bool, scratch: str, on_close: Callable[[], None]
    ) -> None:
        self.kept = kept
        self.on_close = on_close
        self._scratch = scratch
        self._database = database
        self.run = 0
        self._pruned: list[str] = []
        self._scope = ""
        self.outbox = Outbox(self._database)

    # inputs

    def begin_run(self) -> None:
        with self._database.transaction() as db:
            db.execute("DELETE FROM skipped WHERE file_id IS NULL AND study_uid IS NULL")
            db.execute("DELETE FROM held")
            db.execute("DELETE FROM remark")
            db.execute("DELETE FROM companion")
            db.execute("DELETE FROM outcome")
            self.run = 1 + int(meta(db, "run") or 0)
            set_meta(db, "run", str(self.run))

    def unchanged(self, files: Sequence[FileStamp], version: str) -> list[bool]:
        known = []
        with self._database.transaction() as db:
            for path, size, mtime_ns in files:
                cursor = db.execute(
                    "UPDATE file SET run = ? WHERE path = ? AND size = ? AND mtime_ns = ? AND version = ?",
                    (self.run, path, size, mtime_ns, version),
                )
                known.append(cursor.rowcount > 0)
        return known

    def add(self, parts: Iterable[Part], version: str, *, fresh: Sequence[bytes] = ()) -> None:
        with self._database.transaction() as db:
            before = self._known(db, fresh) if self.kept and fresh else {}
            changed: set[str] = set()
            short: set[bytes] = set()
            first: int | None = None
            ids: dict[bytes, int] = {}

            def file_id(path: bytes) -> int:
                # A row without a version is a file on its way: never taken for unchanged.
                if path not in ids and path in before:
                    ids[path] = begin(db, before[path], self.run)
                elif path not in ids:
                    db.execute("DELETE FROM file WHERE path = ?", (path,))
                    ids[path] = self._database.insert(
                        "INSERT INTO file (path, size, mtime_ns, version, run) VALUES (?, -1, -1, '', ?)",
                        (path, self.run),
                    )
                return ids[path]

            for part in parts:
                changed.update(block.study_uid for block in part.blocks)
                short.update(part.unread)
                if not self.kept:
                    db.executemany(_BLOCK, [block[:4] for block in part.blocks])
                for block in part.blocks if self.kept else ():
                    block_id = self._database.insert(_BLOCK, block[:4])
                    first = first or block_id
                    db.executemany(
                        "INSERT INTO file_block VALUES (?, ?)",
                        [(file_id(path), block_id) for path in block.files],
                    )
                of_files = [row for row in part.skipped if self.kept and row.file is not None]
                db.executemany(
                    "INSERT INTO skipped (file_id, path, reason, detail) VALUES (?, ?, ?, ?)",
                    [(file_id(row.file or b""), *row[:3]) for row in of_files],
                )
                db.executemany(
                    f"INSERT INTO {self._strays} (path, reason, detail) VALUES (?, ?, ?)",  # noqa: S608
                    [row[:3] for row in part.skipped if not self.kept or row.file is None],
                )
                if self.kept:
                    db.executemany(
                        "UPDATE file SET size = ?, mtime_ns = ?, version = ? WHERE id = ?",
                        [
                            (stamp.size, stamp.mtime_ns, version, file_id(stamp.path))
                            for stamp in part.done
                        ],
                    )
            seen = [(self.run, before[path].id) for path in short & before.keys() - ids.keys()]
            db.executemany("UPDATE file SET run = ? WHERE id = ?", seen)
            anew = {path: file for path, file in before.items() if path in ids}
            replaced, less = drop(db, anew, short=short, since=first)
            self._database.lock(changed | replaced)
            touch(db, changed | replaced)
            note_lost(db, less)

    def _known(self, db: Connection, paths: Sequence[bytes]) -> dict[bytes, Known]:
        return known(db, paths)

    def prune(self) -> list[str]:
        with self._database.transaction() as db:
            forget_unseen(db, self.run)
            self._pruned = lost(db)
        return self._pruned

    def settle(self) -> None:
        with self._database.transaction() as db:
            settle_lost(db, self._pruned)

    # studies

    def studies(self, *, unconverted: bool = False) -> Iterator[tuple[str, int]]:
        only = (
            "AND NOT EXISTS (SELECT 1 FROM converted c WHERE c.study_uid = block.study_uid)"
            if unconverted
            else ""
        )
        sql = (
            "SELECT study_uid, CAST(sum(rows) AS BIGINT) FROM block WHERE study_uid > ? "  # noqa: S608
            f"{only} {self._readable()} GROUP BY study_uid ORDER BY study_uid LIMIT {PAGE}"
        )
        last = ""
        while page := self._all(sql, (last,)):
            yield from page
            last = page[-1][0]

    def _readable(self) -> str:
        return ""

    def blocks(self, study_uids: Sequence[str]) -> list[list[bytes]]:
        found: dict[str, list[bytes]] = {uid: [] for uid in study_uids}
        sql = f"SELECT study_uid, data FROM block WHERE study_uid IN ({marks(study_uids)}) ORDER BY id"  # noqa: S608
        for uid, data in self._all(sql, study_uids):
            found[uid].append(data)
        return [found[uid] for uid in study_uids]

    def begin_converting(self, fingerprint: str) -> None:
        with self._database.transaction() as db:
            self._database.lock(("rules",))
            if meta(db, "fingerprint") != fingerprint:
                db.execute("DELETE FROM converted")
                db.execute("DELETE FROM contribution")
                db.execute("DELETE FROM skipped WHERE study_uid IS NOT NULL")
                set_meta(db, "fingerprint", fingerprint)
            # Rows of conversions that were redone stay behind until here: finding them costs an index.
            db.execute(
                "DELETE FROM sop WHERE NOT EXISTS (SELECT 1 FROM converted c WHERE c.id = converted_id)"
            )

    def save(self, conversions: Sequence[Converted]) -> None:
        with self._database.transaction() as db:
            saved = self._current(conversions)
            touch(db, {item.study_uid for item in saved})
            db.executemany(
                "INSERT INTO contribution VALUES (?, ?, ?, ?, ?)",
                [
                    (kind, id_, item.study_uid, ordinal, body)
                    for item in saved
                    for ordinal, (kind, id_, body) in enumerate(item.contributions)
                ],
            )
            db.executemany(
                "INSERT INTO skipped (study_uid, path, reason, detail) VALUES (?, ?, ?, '')",
                [
                    (item.study_uid, source, reason)
                    for item in saved
                    for reason, sources in (
                        ("duplicate", item.duplicates),
                        ("duplicate-differs", item.replaced),
                    )
                    for source in sources
                ],
            )
            db.executemany(
                "INSERT INTO converted (study_uid, state, series, instances, data) VALUES (?, ?, ?, ?, ?)",
                [(i.study_uid, i.state, i.series, i.instances, _encode(_slim(i))) for i in saved],
            )
            self._save_sops(db, saved)

    def _save_sops(self, db: Connection, saved: Sequence[Converted]) -> None:
        uids = [item.study_uid for item in saved]
        sql = f"SELECT study_uid, id FROM converted WHERE study_uid IN ({marks(uids)})"  # noqa: S608
        ids: dict[str, int] = dict(db.execute(sql, uids).fetchall())
        sops = sorted((sop, ids[item.study_uid]) for item in saved for sop in item.sops)
        db.executemany("INSERT INTO sop VALUES (?, ?) ON CONFLICT DO NOTHING", sops)

    def _current(self, conversions: Sequence[Converted]) -> Sequence[Converted]:
        """Conversions of what the store holds now."""
        return conversions

    def converted(self) -> Iterator[Converted]:
        sql = (
            "SELECT study_uid, data FROM converted WHERE study_uid > ? "  # noqa: S608
            f"{self._in_scope()} ORDER BY study_uid LIMIT 20"
        )
        last = ""
        while page := self._all(sql, (last,)):
            for _, data in page:
                with self._database.guard():
                    item = decode_converted(data)
                yield item
            last = page[-1][0]

    def shared(self) -> Iterator[tuple[str, set[int]]]:
        # Few rows, if any: a SOP Instance UID is in one study, unless somebody copied wrongly.
        found: dict[str, set[int]] = {}
        sql = (
            "SELECT study_uid, hash FROM sop JOIN converted ON id = converted_id WHERE hash IN ("
            "SELECT hash FROM sop GROUP BY hash HAVING count(*) > 1)"
        )
        for study_uid, sop in self._all(sql):
            found.setdefault(study_uid, set()).add(sop)
        yield from sorted(found.items())

    def shared_series(self) -> Iterator[tuple[str, list[str]]]:
        # None in nearly every run: one look at all blocks says so.
        twice = "SELECT series_uid FROM block GROUP BY series_uid HAVING min(study_uid) < max(study_uid)"
        found: dict[str, list[str]] = {}
        for (series_uid,) in self._all(twice):
            sql = "SELECT DISTINCT study_uid FROM block WHERE series_uid = ?"
            for (study_uid,) in self._all(sql, (series_uid,)):
                found.setdefault(study_uid, []).append(series_uid)
        for study_uid, series in sorted(found.items()):
            yield study_uid, sorted(series)

    def remark(self, study_uid: str, issues: Sequence[Issue]) -> None:
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO remark VALUES (?, ?) "
                "ON CONFLICT (study_uid) DO UPDATE SET data = excluded.data",
                (study_uid, _encode(issues)),
            )

    def remarks(self, study_uid: str) -> list[Issue]:
        rows = self._all("SELECT data FROM remark WHERE study_uid = ?", (study_uid,))
        with self._database.guard():
            return decode_issues(rows[0][0]) if rows else []

    def hold(self, study_uids: Iterable[str], reason: str) -> None:
        with self._database.transaction() as db:
            db.executemany(
                "INSERT INTO held VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(uid, reason) for uid in sorted(study_uids)],
            )

    def held(self, study_uid: str) -> str:
        rows = self._all("SELECT reason FROM held WHERE study_uid = ?", (study_uid,))
        return str(rows[0][0]) if rows else ""

    # companions

    def begin_reducing(self) -> None:
        with self._database.transaction() as db:
            db.execute("DELETE FROM companion")

    def save_companions(self, companions: Sequence[Companion]) -> None:
        with self._database.transaction() as db:
            db.executemany(
                "INSERT INTO companion VALUES (?, ?, ?) "
                "ON CONFLICT (resource_type, resource_id) DO UPDATE SET data = excluded.data",
                sorted(
                    (item.resource_type, item.resource_id, _encode(item)) for item in companions
                ),
            )

    def companions(self) -> Iterator[Companion]:
        sql = (
            "SELECT resource_type, resource_id, data FROM companion c "  # noqa: S608
            "WHERE (resource_type, resource_id) > (?, ?) AND NOT EXISTS (SELECT 1 FROM outcome o WHERE "
            "o.study_uid = '' AND o.resource_type = c.resource_type AND o.resource_id = c.resource_id) "
            f"ORDER BY resource_type, resource_id LIMIT {PAGE}"
        )
        last = ("", "")
        while page := self._all(sql, last):
            for _, _, data in page:
                with self._database.guard():
                    item = decode_companion(data)
                yield item
            last = page[-1][:2]

    # results

    def save_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        with self._database.transaction() as db:
            db.executemany(
                "INSERT INTO outcome VALUES (?, ?, ?, ?) "
                "ON CONFLICT (study_uid, resource_type, resource_id) DO UPDATE SET data = excluded.data",
                [
                    (item.study_uid, item.resource_type, item.resource_id, _encode(item))
                    for item in outcomes
                ],
            )

    def outcomes(self, *, companions: bool = True) -> Iterator[Outcome]:
        only = "" if companions else "WHERE study_uid <> ''"
        sql = (
            f"SELECT data FROM outcome {only} "  # noqa: S608
            "ORDER BY study_uid = '', study_uid, resource_type, resource_id"
        )
        with self._database.guard():
            for (data,) in self._database.stream(sql):
                yield decode_outcome(data)

    def skipped(self) -> Iterator[SkippedRow]:
        sql = (
            f"SELECT path, reason, detail FROM {self._all_skipped} {self._skipped_in_scope()} "  # noqa: S608
            "ORDER BY path, reason, detail"
        )
        with self._database.guard():
            for row in self._database.stream(sql):
                yield SkippedRow(*row)

    def skipped_counts(self) -> dict[str, int]:
        sql = (
            f"SELECT reason, count(*) FROM {self._all_skipped} {self._skipped_in_scope()} "  # noqa: S608
            "GROUP BY reason ORDER BY reason"
        )
        return dict(self._all(sql))

    def totals(self) -> dict[str, int]:
        row = self._all(
            "SELECT CAST(coalesce(sum(instances), 0) AS BIGINT), "  # noqa: S608
            "CAST(coalesce(sum(series), 0) AS BIGINT), count(*), "
            f"(SELECT count(*) FROM companion) FROM converted WHERE TRUE {self._in_scope()}"
        )[0]
        return dict(zip(("instances", "series", "studies", "companions"), row, strict=True))

    def scratch(self) -> str:
        return self._scratch

    def close(self) -> None:
        try:
            self._database.close()
        finally:
            self.on_close()


def _slim(item: Converted) -> Converted:
    """Leave out what has tables of its own."""
    return msgspec.structs.replace(item, contributions=[], duplicates=[], replaced=[], sops=[])
