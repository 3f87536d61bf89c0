"""Whom a study was published for before, and who may say that it is somebody else's.

A published subject is replaced where an operator resolved the study, or an authoritative sender's objects left one
patient in it; what it may be replaced of are subjects that we made ourselves.
"""

from __future__ import annotations

from collections.abc import Iterable

from converter.store.database import Connection

__all__ = ["SCHEMA", "confirm", "former", "remember", "replaceable"]

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS received_subject (
        study_uid TEXT NOT NULL, subject TEXT NOT NULL, PRIMARY KEY (study_uid, subject))""",
    """CREATE TABLE IF NOT EXISTS received_confirmed (
        study_uid TEXT PRIMARY KEY, patient TEXT NOT NULL, issuer TEXT NOT NULL,
        universal TEXT NOT NULL)""",
)


def remember(db: Connection, study_uid: str, subjects: Iterable[bytes]) -> None:
    """Note subjects that a study had in what we made of it."""
    for subject in sorted(subjects):
        db.execute(
            "INSERT INTO received_subject VALUES (?, ?) ON CONFLICT DO NOTHING",
            (study_uid, subject.decode()),
        )


def former(db: Connection, study_uid: str) -> list[bytes]:
    """All subjects that a study had, but for the one that it has."""
    rows = db.execute(
        "SELECT subject FROM received_subject WHERE study_uid = ? ORDER BY 1", (study_uid,)
    )
    return [str(row[0]).encode() for row in rows]


def replaceable(db: Connection, study_uid: str) -> list[bytes]:
    """Those of them that may be replaced, for somebody who may said whose study it is."""
    rows = db.execute(
        "SELECT subject FROM received_subject f WHERE study_uid = ? AND (EXISTS (SELECT 1 "
        "FROM received_study s WHERE s.study_uid = f.study_uid AND rule_patient IS NOT NULL) "
        "OR EXISTS (SELECT 1 FROM received_confirmed c WHERE c.study_uid = f.study_uid "
        "AND NOT EXISTS (SELECT 1 FROM received_instance i WHERE i.study_uid = c.study_uid "
        "AND (i.patient NOT IN ('', c.patient) OR i.issuer NOT IN ('', c.issuer) "
        "OR i.universal NOT IN ('', c.universal))))) ORDER BY 1",
        (study_uid,),
    )
    return [str(row[0]).encode() for row in rows]


def confirm(db: Connection, study_uid: str) -> None:
    """An authoritative sender's objects leave one patient in a study: it is that one's."""
    db.execute("DELETE FROM received_confirmed WHERE study_uid = ?", (study_uid,))
    db.execute(
        "INSERT INTO received_confirmed SELECT study_uid, max(patient), max(issuer), max(universal) "
        "FROM received_instance WHERE study_uid = ? GROUP BY study_uid",
        (study_uid,),
    )
