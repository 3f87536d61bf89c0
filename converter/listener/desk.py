"""What an operator sees of the ledger, and may say: resolve, exclude, republish, purge, backup."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from converter.core.rejection import is_note, notes_of
from converter.core.study import assemble
from converter.errors import StoreError
from converter.listener import origins, purged
from converter.listener.ledger import EXCLUDED, LIVE, Ledger, study_blocks
from converter.store.database import Connection

__all__ = ["Desk", "StudyRow"]

_words = msgspec.msgpack.Decoder(list[str]).decode
_header = msgspec.msgpack.Decoder(dict[int, bytes]).decode


_DELIVERY = (
    "coalesce((SELECT o.state FROM outbox o WHERE o.study_uid = s.study_uid ORDER BY CASE o.state "
    "WHEN 'dead' THEN 0 WHEN 'held' THEN 1 WHEN 'frozen' THEN 2 WHEN 'due' THEN 3 ELSE 4 END LIMIT 1), '')"
)


_TO_PURGE = (
    "FROM received_study s WHERE state = 'published' AND last_change < ? AND EXISTS (SELECT 1 "
    "FROM received_instance i WHERE i.study_uid = s.study_uid AND header IS NOT NULL)"
)


class StudyRow(NamedTuple):
    """One study, as ``studies list`` shows it."""

    study_uid: str
    state: str
    reason: str
    revision: int
    published: int
    first_change: float
    last_change: float
    instances: int
    left_out: int
    """Instances of other patients than the one that the study was resolved to."""
    resource_id: str
    findings: list[str]
    delivery: str = ""
    """What became of it at FHIR servers, of several the worst: ``dead``, ``held``, ``frozen``, ``queued``, ``delivered``."""


class Desk(Ledger):
    """The ledger with an operator before it: each command is one short transaction beside the daemon."""

    def studies(self, state: str = "") -> list[StudyRow]:
        """All studies, or those in one state; those that wait for a person first."""
        return self._rows("WHERE s.state = ? OR ? = ''", (state, state))

    def study(self, study_uid: str) -> StudyRow | None:
        """One study."""
        return next(iter(self._rows("WHERE s.study_uid = ?", (study_uid,))), None)

    def _rows(self, where: str, parameters: tuple[Any, ...]) -> list[StudyRow]:
        rows = self.all(
            "SELECT s.study_uid, s.state, s.reason, s.revision, s.published, s.first_change, "  # noqa: S608
            f"s.last_change, count(i.sop_uid), count(CASE WHEN {LIVE} THEN NULL ELSE i.sop_uid END), "
            f"s.resource_id, s.findings, {_DELIVERY} FROM received_study s LEFT JOIN received_instance i "
            f"USING (study_uid) {where} GROUP BY s.study_uid "
            "ORDER BY s.state NOT IN ('conflict', 'held'), s.last_change DESC, s.study_uid",
            parameters,
        )
        return [
            StudyRow._make((*row[:-2], _words(row[-2]), "queued" if row[-1] == "due" else row[-1]))
            for row in rows
        ]

    def senders(self, study_uid: str) -> list[tuple[str, int]]:
        """(AE title, instances) of a study."""
        return self.all(
            "SELECT calling, count(*) FROM received_instance WHERE study_uid = ? GROUP BY 1 ORDER BY 1",
            (study_uid,),
        )

    def patients(self, study_uid: str) -> list[tuple[str, str, int]]:
        """(PatientID, issuer, instances) of a study: patient data, for an operator who asks for it."""
        return self.all(
            "SELECT patient, coalesce(nullif(issuer, ''), universal), count(*) FROM received_instance "
            "WHERE study_uid = ? GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
            (study_uid,),
        )

    def instances(self, study_uid: str) -> list[str]:
        """SOP Instance UIDs of a study."""
        rows = self.all(
            "SELECT sop_uid FROM received_instance WHERE study_uid = ? ORDER BY sop_uid",
            (study_uid,),
        )
        return [row[0] for row in rows]

    def published_before(self, before: float) -> list[str]:
        """Published studies that changed last before a time."""
        rows = self.all(
            "SELECT study_uid FROM received_study WHERE state = 'published' AND last_change < ? "
            "ORDER BY study_uid",
            (before,),
        )
        return [row[0] for row in rows]

    def not_kept(self) -> list[tuple[bytes | None, str, int]]:
        """(tags that were kept, study, instances) of what has no whole header; no tags where none were noted."""
        return self.all(
            "SELECT t.wanted, i.study_uid, count(*) FROM received_instance i "
            "LEFT JOIN received_origin o ON o.study_uid = i.study_uid AND o.sop_uid = i.sop_uid "
            "LEFT JOIN received_tags t ON t.version = o.tag_set "
            "LEFT JOIN received_header h ON h.study_uid = i.study_uid AND h.sop_uid = i.sop_uid "
            "WHERE i.header IS NOT NULL AND h.kept IS NULL GROUP BY t.wanted, i.study_uid"
        )

    def rejections(self, study_uid: str) -> list[tuple[str, str, list[str]]]:
        """(UID of a rejection note, code of its title, instances of the study that it names), by UID."""
        with self.database.guard():
            blocks = study_blocks(self.database.connection, study_uid)
            study = assemble(study_uid, blocks)
        keys = {
            row[0]: row[1:]
            for row in self.all(
                "SELECT sop_uid, patient, issuer, universal FROM received_instance "
                "WHERE study_uid = ?",
                (study_uid,),
            )
        }
        return [
            (
                note.uid,
                note.title,
                [
                    uid
                    for uid in sorted(note.named & keys.keys())
                    # a note of another patient rejects nothing
                    if all(
                        one == other or not one or not other
                        for one, other in zip(keys[uid], keys[note.uid], strict=True)
                    )
                ],
            )
            for note in notes_of(study)
        ]

    def resolve(self, study_uid: str, patient: str, issuer: str | None, now: float) -> bool:
        """Say whose study it is; whether there is such a study with such a patient."""
        with self.database.transaction() as db:
            self.database.lock([study_uid])
            known = db.execute(
                "SELECT 1 FROM received_instance WHERE study_uid = ? AND patient = ? "
                "AND (CAST(? AS TEXT) IS NULL OR issuer = ? OR universal = ?)",
                (study_uid, patient, issuer, issuer, issuer),
            ).fetchone()
            if known is None:
                return False
            db.execute(
                "UPDATE received_study SET rule_patient = ?, rule_issuer = ? WHERE study_uid = ?",
                (patient, issuer, study_uid),
            )
            self._again(db, study_uid, now)
        return True

    def exclude(self, study_uid: str, now: float, *, undo: bool = False) -> bool:
        """Take back what is published of a study and publish it no more, or again; whether that changes anything."""
        with self.database.transaction() as db:
            self.database.lock([study_uid])
            found = db.execute(
                "UPDATE received_study SET excluded = ? WHERE study_uid = ? AND (excluded <> 0 OR ? = 0)",
                (0 if undo else EXCLUDED, study_uid, int(undo)),
            ).rowcount
            if found:
                self._again(db, study_uid, now)
        return bool(found)

    def to_republish(self) -> list[str]:
        """Published studies, and those that notes emptied: whether these count may have changed."""
        rows = self.all(
            "SELECT study_uid FROM received_study WHERE state = 'published' OR "
            "(state = 'excluded' AND reason = 'rejected') ORDER BY study_uid"
        )
        return [row[0] for row in rows]

    def republish(self, study_uid: str, now: float) -> bool:
        """Have a study published again as it is; whether there is such a study, and something to publish it from."""
        with self.database.transaction() as db:
            self.database.lock([study_uid])
            found = db.execute(
                "SELECT excluded FROM received_study WHERE study_uid = ?", (study_uid,)
            ).fetchone()
            # to take back what an operator excluded needs no headers
            if found is None or not (found[0] or self.purged(study_uid)[1]):
                return False
            self._again(db, study_uid, now)
        return True

    def _again(self, db: Connection, uid: str, now: float) -> None:
        if self.judge(db, uid, self.database.now() or now) == "receiving":
            db.execute("UPDATE received_study SET state = 'settled' WHERE study_uid = ?", (uid,))

    def purge(self, before: float) -> tuple[int, int]:
        """Drop the headers of published studies that changed last before a time; (studies, instances)."""
        studies = instances = 0
        uids = [
            row[0]
            for row in self.all(f"SELECT study_uid {_TO_PURGE} ORDER BY study_uid", (before,))
        ]
        for uid in uids:
            # each for itself: the daemon goes on between two of them
            with self.database.transaction() as db:
                self.database.lock([uid])
                # not what came meanwhile
                found = db.execute(f"SELECT 1 {_TO_PURGE} AND study_uid = ?", (before, uid))
                dropped = self._drop(db, uid) if found.fetchone() else 0
            studies += bool(dropped)
            instances += dropped
        return studies, instances

    @staticmethod
    def _drop(db: Connection, uid: str) -> int:
        rows = db.execute(
            "SELECT sop_uid, header FROM received_instance "
            "WHERE study_uid = ? AND header IS NOT NULL",
            (uid,),
        ).fetchall()
        # a rejection note stays: it speaks of what comes late, too
        dropped = [(uid, sop) for sop, header in rows if not is_note(_header(header))]
        db.executemany(
            "UPDATE received_instance SET header = NULL WHERE study_uid = ? AND sop_uid = ?",
            dropped,
        )
        origins.forget(db, uid)
        return len(dropped)

    def purged(self, study_uid: str) -> tuple[int, bool]:
        """How many instances that count have no header any more, and whether others have one."""
        with self.database.guard():
            db = self.database.connection
            missing = len(purged.missing(db, study_uid))
            return missing, not missing or purged.anything(db, study_uid, notes=False)

    def backup(self, target: Path) -> None:
        """Copy the state file while it is in use.

        Raises
        ------
        StoreError
            It cannot be written, or the state is on a server.
        """
        if self.database.several:
            raise StoreError(
                "The state is on a PostgreSQL server: copy it with pg_dump (--schema=dcm2fhir, or its own name)."
            )
        with self.database.guard():
            self.database.connection.execute("VACUUM INTO ?", (str(target),))
