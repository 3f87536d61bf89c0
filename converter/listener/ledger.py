"""What was received, study by study: instances, revisions and states, in tables of their own in the state file.

A study is ``receiving``, ``settled``, ``published``, and back to ``receiving`` when an instance comes; beside these
``conflict`` (two patients), ``held`` and ``excluded``. Its revision counts what changed it; it is published when
``published`` has caught up. Nothing is removed but by an operator (`converter.listener.desk`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from converter.core.header import Header
from converter.core.study import Block, pack
from converter.listener import origins, subjects
from converter.listener.intake import take_in
from converter.listener.origins import Origins, TagSet
from converter.listener.record import Received
from converter.store import StatePlace, open_database
from converter.store.database import Connection

__all__ = ["LIVE", "Ingested", "Ledger", "study_blocks"]

CHUNK = 1000
"""Instances of one block."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS received_instance (
        study_uid TEXT NOT NULL, sop_uid TEXT NOT NULL, series_uid TEXT NOT NULL,
        epoch INTEGER NOT NULL, stamp INTEGER NOT NULL, digest BLOB NOT NULL,
        patient TEXT NOT NULL, issuer TEXT NOT NULL, universal TEXT NOT NULL,
        calling TEXT NOT NULL, findings BLOB NOT NULL, header BLOB,
        PRIMARY KEY (study_uid, sop_uid))""",
    """CREATE TABLE IF NOT EXISTS received_study (
        study_uid TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
        revision INTEGER NOT NULL DEFAULT 0, published INTEGER NOT NULL DEFAULT 0,
        first_change REAL NOT NULL, last_change REAL NOT NULL,
        excluded INTEGER NOT NULL DEFAULT 0, conflicted INTEGER NOT NULL DEFAULT 0,
        rule_patient TEXT, rule_issuer TEXT,
        resource_id TEXT NOT NULL DEFAULT '', findings BLOB NOT NULL DEFAULT x'90') WITHOUT ROWID""",
    "DROP INDEX IF EXISTS received_study_state",
    "CREATE INDEX IF NOT EXISTS received_study_change ON received_study (state, last_change, study_uid)",
    "CREATE INDEX IF NOT EXISTS outbox_state ON outbox (state, since, destination, study_uid)",
    "CREATE INDEX IF NOT EXISTS sop_converted ON sop (converted_id)",
    """CREATE TABLE IF NOT EXISTS received_arriving (
        host TEXT NOT NULL, study_uid TEXT NOT NULL, until REAL NOT NULL,
        PRIMARY KEY (host, study_uid)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS received_claim (
        study_uid TEXT PRIMARY KEY, host TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID""",
)

_encode = msgspec.msgpack.Encoder().encode
_header = msgspec.msgpack.Decoder(dict[int, bytes]).decode
_words = msgspec.msgpack.Decoder(list[str]).decode


EXCLUDED, WITHDRAWN = 1, 2
"""An operator said so; and what was published is taken back."""


class Ingested(NamedTuple):
    """What a batch of the journal changed."""

    changed: dict[str, str]
    """Study to its state."""
    counts: Counter[str]
    """``new``, ``same``, ``changed``, ``restored`` (the same, whose header had been purged), ``known`` (read from the
    journal before)."""
    replaced: list[tuple[str, str, str]]
    """(study UID, digest before, digest after) of each replacement, where these were taken of the same tags."""
    older: set[tuple[int, int, str]]
    """(epoch, stamp, SOP Instance UID) of what something later was taken in before."""


LIVE = (
    "(s.rule_patient IS NULL OR ((i.patient IN ('', s.rule_patient)) "
    "AND (s.rule_issuer IS NULL OR i.issuer IN ('', s.rule_issuer) OR i.universal = s.rule_issuer)))"
)
"""Instances that count, where an operator said whose study it is."""


def study_blocks(db: Connection, study_uid: str, tags: TagSet | None = None) -> Iterator[Block]:
    """Blocks of what is live in a study, in the order of series and SOP Instance UID; ``tags``: what rules read now."""
    known = Origins(db, tags)
    rows = db.execute(
        "SELECT i.series_uid, i.sop_uid, i.header, i.findings, coalesce(o.peer, ''), "  # noqa: S608
        "coalesce(o.assumed, 0), coalesce(o.tag_set, ''), h.kept FROM received_instance i "
        "JOIN received_study s ON s.study_uid = i.study_uid "
        "LEFT JOIN received_origin o ON o.study_uid = i.study_uid AND o.sop_uid = i.sop_uid "
        "LEFT JOIN received_header h ON h.study_uid = i.study_uid AND h.sop_uid = i.sop_uid "
        "AND o.tag_set <> ? "
        f"WHERE i.study_uid = ? AND i.header IS NOT NULL AND {LIVE} ORDER BY i.series_uid, i.sop_uid",
        (tags.version if tags else None, study_uid),
    )
    held: list[tuple[str, Header, str, Sequence[str]]] = []
    series = ""
    for series_uid, sop_uid, stored, found, peer, assumed, tag_set, kept in rows:
        if held and (series_uid != series or len(held) >= CHUNK):
            yield pack(study_uid, series, held)
            held = []
        series = series_uid
        header, findings = known.header(
            _header(stored),
            _words(found),
            peer=peer,
            assumed=bool(assumed),
            tag_set=tag_set,
            kept=kept,
        )
        held.append((sop_uid, header, "", findings))
    if held:
        yield pack(study_uid, series, held)


def removed(db: Connection, study_uid: str) -> tuple[bool, set[str]]:
    """Whether an operator excluded a study, and what is not live in it, as `converter.core.merge.unite` takes it."""
    rows = db.execute(
        f"SELECT i.sop_uid, i.series_uid, s.excluded, CASE WHEN {LIVE} THEN 1 ELSE 0 END "  # noqa: S608
        "FROM received_instance i JOIN received_study s ON s.study_uid = i.study_uid "
        "WHERE i.study_uid = ? AND (s.excluded <> 0 OR s.rule_patient IS NOT NULL)",
        (study_uid,),
    ).fetchall()
    excluded = any(row[2] for row in rows)
    live = {row[1] for row in rows if row[3] and not excluded}
    gone = {row[0] for row in rows if excluded or not row[3]}
    emptied = Counter(row[1] for row in rows if row[1] not in live)
    return excluded, gone | {f"{uid}:{count}" for uid, count in emptied.items()}


class Ledger:
    """The tables of one state; one object a thread.

    Parameters
    ----------
    place : Path or ServerPlace
    patient, role
        As of `converter.store.open_database`.
    reading : float
        Seconds for which it may be read, and not written; 0: it is written as well.
    """

    def __init__(
        self, place: StatePlace, *, reading: float = 0.0, patient: bool = False, role: str = ""
    ) -> None:
        self.database = open_database(place, patient=patient, role=role)
        self.tags: TagSet | None = None
        """What the rules in force read, where studies are published from here."""
        if reading:
            self.database.only_read(reading)
            return
        self.database.prepare((*_SCHEMA, *origins.SCHEMA, *subjects.SCHEMA))

    def close(self) -> None:
        """Close the connection."""
        self.database.close()

    def next_epoch(self) -> int:
        """Begin a run of the daemon; give its number: what a later run receives is later.

        Several hosts share no count, so there it is the time at which this machine's monotonic clock stood at
        0: with an instance's stamp it tells when that came, in nanoseconds since 1970.
        """
        if self.database.several:
            return time.time_ns() - time.monotonic_ns()
        with self.database.transaction() as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            epoch = 1 + int(row[0] if row else 0)
            db.execute(
                "INSERT INTO meta VALUES ('epoch', ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (str(epoch),),
            )
        return epoch

    # receiving

    def ingest(
        self, batch: Sequence[tuple[int, Received]], now: float, authoritative: Iterable[str] = ()
    ) -> Ingested:
        """Take in a batch of (epoch, instance), in one transaction; doing it twice changes nothing.

        Of two copies of one instance the later stands, by epoch and stamp.
        """
        with self.database.transaction() as db, self.database.queued():
            self.database.lock({one.study_instance_uid for _, one in batch})
            now = self.database.now() or now
            taken = take_in(db, batch, several=self.database.several)
            believed = set(authoritative)
            states = {
                uid: self.judge(db, uid, now, confirmed=senders <= believed and bool(senders))
                for uid, senders in sorted(taken.touched.items())
            }
        return Ingested(states, taken.counts, taken.replaced, taken.older)

    def judge(self, db: Connection, uid: str, now: float, *, confirmed: bool = False) -> str:
        """Count a change of a study, and compute its state anew."""
        db.execute(
            "INSERT INTO received_study (study_uid, state, revision, first_change, last_change) "
            "VALUES (?, 'receiving', 1, ?, ?) ON CONFLICT (study_uid) DO UPDATE SET "
            "revision = received_study.revision + 1, last_change = excluded.last_change, "
            "first_change = CASE WHEN received_study.published >= received_study.revision "
            "THEN excluded.first_change ELSE received_study.first_change END",
            (uid, now, now),
        )
        excluded, conflicted, rule, published = db.execute(
            "SELECT excluded, conflicted, rule_patient, published FROM received_study "
            "WHERE study_uid = ?",
            (uid,),
        ).fetchone()
        reason = ""
        if excluded == WITHDRAWN:
            state, reason = "excluded", "excluded"
        elif excluded:  # what is published of it is taken back first
            state, reason = "settled", "excluded"
        elif rule is None and self._two_patients(db, uid):
            state, reason, conflicted = "conflict", "patient-conflict", 1
        elif rule is None and conflicted and not confirmed:
            state, reason = "held", "patient-unconfirmed"
        else:
            if confirmed and (conflicted or published):
                subjects.confirm(db, uid)
            state, conflicted = "receiving", 0
        db.execute(
            "UPDATE received_study SET state = ?, reason = ?, conflicted = ? WHERE study_uid = ?",
            (state, reason, conflicted, uid),
        )
        # that it is taken back may still be on its way
        self._hold(db, uid, "" if state == "excluded" else reason, now)
        return state

    @staticmethod
    def _hold(db: Connection, uid: str, reason: str, now: float) -> None:
        """Hold a study back from every destination, or no longer; what is published stays as it is."""
        db.execute("DELETE FROM held WHERE study_uid = ?", (uid,))
        if reason:
            db.execute("INSERT INTO held VALUES (?, ?)", (uid, reason))
            db.execute(
                "UPDATE outbox SET state = 'frozen', lease = NULL, since = ?, reason = ? "
                "WHERE study_uid = ? AND state <> 'frozen'",
                (now, reason, uid),
            )

    @staticmethod
    def _two_patients(db: Connection, uid: str) -> bool:
        row = db.execute(
            "SELECT count(DISTINCT nullif(patient, '')), count(DISTINCT nullif(issuer, '')), "
            "count(DISTINCT nullif(universal, '')) FROM received_instance WHERE study_uid = ?",
            (uid,),
        ).fetchone()
        return int(max(row)) > 1

    # publishing

    def unpublished(self) -> list[tuple[str, str, float]]:
        """(study UID, state, time of its first change) of what is to be published."""
        return self.all(
            "SELECT study_uid, state, first_change FROM received_study "
            "WHERE state IN ('receiving', 'settled') ORDER BY first_change, study_uid"
        )

    def settle(self, study_uids: Iterable[str]) -> dict[str, int]:
        """Mark studies as settled; give the revision of those that are to be published."""
        found = {}
        with self.database.transaction() as db:
            for uid in study_uids:
                db.execute(
                    "UPDATE received_study SET state = 'settled' "
                    "WHERE study_uid = ? AND state = 'receiving'",
                    (uid,),
                )
                row = db.execute(
                    "SELECT revision FROM received_study WHERE study_uid = ? AND state = 'settled'",
                    (uid,),
                ).fetchone()
                if row is not None:
                    found[uid] = int(row[0])
        return found

    def published(
        self,
        study_uid: str,
        revision: int,
        state: str,
        reason: str,
        resource_id: str,
        findings: Iterable[str],
    ) -> bool:
        """Note what became of a study at a revision; whether nothing came meanwhile."""
        with self.database.transaction() as db:
            count = db.execute(
                "UPDATE received_study SET state = ?, reason = ?, "
                "excluded = CASE WHEN excluded <> 0 AND CAST(? AS TEXT) = 'excluded' THEN ? ELSE excluded END "
                "WHERE study_uid = ? AND revision = ? AND state = 'settled'",
                (state, reason, state, WITHDRAWN, study_uid, revision),
            ).rowcount
            if state == "published":
                db.execute(
                    "UPDATE received_study SET published = ?, resource_id = ?, findings = ?, first_change = "
                    "CASE WHEN revision > ? THEN last_change ELSE first_change END WHERE study_uid = ?",
                    (revision, resource_id, _encode(sorted(set(findings))), revision, study_uid),
                )
            db.execute("DELETE FROM received_claim WHERE study_uid = ?", (study_uid,))
        return bool(count)

    def counts(self) -> dict[str, int]:
        """Studies by state."""
        return dict(self.all("SELECT state, count(*) FROM received_study GROUP BY state"))

    def waiting(self) -> tuple[dict[str, int], float, int]:
        """Deliveries by state, since when the oldest is due (0: none is), destinations with an open circuit."""
        rows = self.all("SELECT state, count(*), min(since) FROM outbox GROUP BY state")
        oldest = next((float(since) for state, _, since in rows if state == "due"), 0.0)
        circuits = self.all("SELECT count(*) FROM destination WHERE circuit <> ''")[0][0]
        return {state: int(count) for state, count, _ in rows}, oldest, int(circuits)

    def oldest_unpublished(self) -> float:
        """Seconds since 1970 of the first change that is not published; 0 where all are."""
        row = self.all(
            "SELECT min(first_change) FROM received_study WHERE state IN ('receiving', 'settled')"
        )[0]
        return float(row[0] or 0.0)

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows of a query."""
        return self.database.rows(sql, parameters)
