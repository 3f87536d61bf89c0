"""What a batch of the journal says of instances, into the tables of a ledger: of two copies the later stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from converter.core.header import digest
from converter.listener import origins
from converter.listener.record import Received
from converter.store.database import Connection

__all__ = ["Taken", "take_in"]

_TIMES = 1 << 40
"""Epochs from here on are times (`Ledger.next_epoch`)."""
SOME = 500
"""Instances that one query asks for."""
_INSTANCE = (
    "INSERT INTO received_instance VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (study_uid, sop_uid) DO UPDATE SET series_uid = excluded.series_uid, "
    "epoch = excluded.epoch, stamp = excluded.stamp, digest = excluded.digest, "
    "patient = excluded.patient, issuer = excluded.issuer, universal = excluded.universal, "
    "calling = excluded.calling, findings = excluded.findings, header = excluded.header"
)

_encode = msgspec.msgpack.Encoder().encode


class Taken(NamedTuple):
    """What a batch changed; see `converter.listener.ledger.Ingested`."""

    counts: Counter[str]
    touched: dict[str, set[str]]
    """Study that changed to the names of those who sent what changed it."""
    replaced: list[tuple[str, str, str]]
    older: set[tuple[int, int, str]]


def take_in(db: Connection, batch: Sequence[tuple[int, Received]], *, several: bool) -> Taken:
    """Take in a batch of (epoch, instance), within a transaction; doing it twice changes nothing.

    Parameters
    ----------
    db : Connection
    batch : sequence of (int, Received)
    several : bool
        Whether several hosts write, whose epochs are times (`converter.listener.ledger.Ledger.next_epoch`).
    """
    taken = Taken(Counter(), {}, [], set())
    known = _held(db, batch)
    fresh: list[tuple[int, Received]] = []
    for epoch, one in batch:
        key = (one.study_instance_uid, one.sop_instance_uid)
        kind, before = "new", b""
        if key not in known:
            known.add(key)
            fresh.append((epoch, one))
        else:
            _insert(db, fresh, several=several)  # its first copy may be among them
            fresh = []
            kind, before = _put(db, epoch, one, several=several)
        if kind == "older":
            kind = "known"
            taken.older.add((epoch, one.stamp, one.sop_instance_uid))
        taken.counts[kind] += 1
        if kind in {"new", "changed", "restored"}:
            taken.touched.setdefault(one.study_instance_uid, set()).add(one.peer)
        if kind == "changed" and before:
            after = digest(one.header).hex()
            taken.replaced.append((one.study_instance_uid, before.hex(), after))
    _insert(db, fresh, several=several)
    return taken


def _held(db: Connection, batch: Sequence[tuple[int, Received]]) -> set[tuple[str, str]]:
    """(study, SOP Instance UID) of the instances of a batch that the ledger has already."""
    asked: dict[str, list[str]] = {}
    for _, one in batch:
        asked.setdefault(one.study_instance_uid, []).append(one.sop_instance_uid)
    held: set[tuple[str, str]] = set()
    for study, uids in asked.items():
        for at in range(0, len(uids), SOME):
            some = uids[at : at + SOME]
            rows = db.execute(
                "SELECT sop_uid FROM received_instance WHERE study_uid = ? "  # noqa: S608
                f"AND sop_uid IN ({', '.join('?' * len(some))})",
                (study, *some),
            )
            held.update((study, row[0]) for row in rows.fetchall())
    return held


def _order(epoch: int, one: Received, *, several: bool) -> tuple[int, int]:
    # A time of several hosts is no count of runs: also where what they left comes to a file.
    timed = several or epoch >= _TIMES
    return (0, epoch + one.stamp) if timed else (epoch, one.stamp)


def _insert(db: Connection, fresh: Sequence[tuple[int, Received]], *, several: bool) -> None:
    """Take in instances that are not there yet, and what is to be remembered of each."""
    if not fresh:
        return
    issuers: dict[str, str] = {}
    rows = [_row(db, _order(epoch, one, several=several), one, issuers) for epoch, one in fresh]
    db.executemany(_INSTANCE, [row for row, _ in rows])
    told = zip(fresh, rows, strict=True)
    origins.remember_new(db, [(one, assumed) for (_, one), (_, assumed) in told])


def _row(
    db: Connection,
    order: tuple[int, int],
    one: Received,
    issuers: dict[str, str],
    made: bytes = b"",
) -> tuple[tuple[Any, ...], bool]:
    """Row of an instance, and whether its issuer is that of its sender."""
    patient, issuer, universal = origins.keys_of(one.header)
    assumed = bool(patient) and not issuer and not universal
    if assumed:
        if one.peer not in issuers:
            issuers[one.peer] = origins.issuer_of(db, one.peer)
        issuer = issuers[one.peer]
    return (
        one.study_instance_uid,
        one.sop_instance_uid,
        one.series_instance_uid,
        *order,
        made or digest(one.header),
        patient,
        issuer,
        universal,
        one.calling.replace("\0", " "),  # PostgreSQL takes none
        _encode(one.findings),
        _encode(one.header),
    ), assumed


def _put(db: Connection, epoch: int, one: Received, *, several: bool) -> tuple[str, bytes]:
    """Take in a copy of an instance that is there."""
    key = (one.study_instance_uid, one.sop_instance_uid)
    held = db.execute(
        "SELECT epoch, stamp, digest, series_uid, header IS NULL FROM received_instance "
        "WHERE study_uid = ? AND sop_uid = ?",
        key,
    ).fetchone()
    order = _order(epoch, one, several=several)
    if (held[0], held[1]) >= order:
        return "known" if (held[0], held[1]) == order else "older", b""
    made = digest(one.header)
    if held[2] == made and held[3] == one.series_instance_uid:
        db.execute(
            "UPDATE received_instance SET epoch = ?, stamp = ? WHERE study_uid = ? AND sop_uid = ?",
            (*order, *key),
        )
        origins.remember_again(db, one)
        if not held[4]:
            return "same", b""
        db.execute(
            "UPDATE received_instance SET header = ?, findings = ? WHERE study_uid = ? AND sop_uid = ?",
            (_encode(one.header), _encode(one.findings), *key),
        )
        return "restored", b""
    row, assumed = _row(db, order, one, {}, made)
    db.execute(_INSTANCE, row)
    alike = origins.remember(db, one, assumed=assumed)
    return "changed", bytes(held[2]) if alike else b""
