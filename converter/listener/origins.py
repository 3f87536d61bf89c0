"""Of each instance: who sent it, which tags were kept of it, and its whole header where that is kept.

What a sender's objects do not state (`converter.listener.policy.Peer`) is put to them when a study is published, by the
configuration in force: publishing again after it was put right applies what is right.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from converter.core.dictionary import keyword_of, tag_of
from converter.core.header import (
    ASSUMED_CHARSET,
    ASSUMED_ZONE,
    SPECIFIC_CHARACTER_SET,
    Header,
    Wanted,
    items,
)
from converter.core.patient import compared
from converter.core.rules import RuleSet
from converter.core.text import charset_of
from converter.core.wanted import rules_in, wanted_by
from converter.listener.control import flat, unflat
from converter.listener.policy import Peer
from converter.listener.record import Received
from converter.reading import Limits, Read, read_bytes
from converter.store.database import Connection, Database

__all__ = [
    "LARGEST_HEADER",
    "SCHEMA",
    "Origins",
    "TagSet",
    "forget",
    "issuer_of",
    "keys_of",
    "lacking",
    "note",
    "remember",
    "remember_again",
    "remember_new",
    "unkept",
]

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS received_origin (
        study_uid TEXT NOT NULL, sop_uid TEXT NOT NULL, peer TEXT NOT NULL, assumed INTEGER NOT NULL,
        tag_set TEXT NOT NULL, PRIMARY KEY (study_uid, sop_uid)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS received_header (
        study_uid TEXT NOT NULL, sop_uid TEXT NOT NULL, kept BLOB NOT NULL,
        PRIMARY KEY (study_uid, sop_uid))""",
    """CREATE TABLE IF NOT EXISTS received_peer (
        name TEXT PRIMARY KEY, titles TEXT NOT NULL, timezone TEXT NOT NULL, charset TEXT NOT NULL,
        issuer TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS received_tags (
        version TEXT PRIMARY KEY, wanted BLOB NOT NULL) WITHOUT ROWID""",
)

LARGEST_HEADER = 1 << 20
"""Bytes that a kept header inflates to, at most."""
_PATIENT_ID = tag_of("PatientID") or 0
_ISSUER = tag_of("IssuerOfPatientID") or 0
_QUALIFIERS = tag_of("IssuerOfPatientIDQualifiersSequence") or 0
_UNIVERSAL = tag_of("UniversalEntityID") or 0
_LIMITS = Limits(header=LARGEST_HEADER, inflate=LARGEST_HEADER)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class TagSet(NamedTuple):
    """Tags that are kept of an instance, and a name for just these."""

    version: str
    wanted: Wanted

    @classmethod
    def of(cls, wanted: Wanted) -> TagSet:
        """Name a set of tags."""
        return cls(_version(flat(wanted)), wanted)


def _version(tags: list[Any]) -> str:
    """The same for the same tags, in whatever order."""

    def ordered(items: list[Any]) -> list[Any]:
        return sorted([tag, ordered(inner) if inner is not None else None] for tag, inner in items)

    return blake2b(_encode(ordered(tags)), digest_size=8).hexdigest()


def keys_of(header: Header) -> tuple[str, str, str]:
    """PatientID, issuer and universal id of an issuer, as the engine compares them."""
    return _keys(*map(header.get, (SPECIFIC_CHARACTER_SET, _PATIENT_ID, _ISSUER, _QUALIFIERS)))


@lru_cache(maxsize=256)  # they are the same in all instances of a study
def _keys(
    held: bytes | None, patient: bytes | None, issuer: bytes | None, qualifiers: bytes | None
) -> tuple[str, str, str]:
    charset = charset_of({SPECIFIC_CHARACTER_SET: held} if held else {})

    universal = next((item.get(_UNIVERSAL) for item in items(qualifiers)), None)
    return compared(patient, charset), compared(issuer, charset), compared(universal, charset)


def lacking(wanted: Wanted, kept: Wanted, within: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Paths of tags that are wanted and were not kept."""
    found: list[tuple[int, ...]] = []
    for tag, inner in sorted(wanted.items()):
        if tag not in kept:
            found.append((*within, tag))
        elif inner is not None:
            found += lacking(inner, kept[tag] or {}, (*within, tag))
    return found


def note(database: Database, peers: Sequence[Peer], tags: TagSet) -> None:
    """Note the configuration in force: what is assumed of senders, and which tags are kept from here on."""
    told = {
        peer.name: (peer.name, "\\".join(peer.ae_titles), peer.timezone, peer.charset, peer.issuer)
        for peer in peers
    }
    with database.transaction() as db:
        db.execute(
            "INSERT INTO received_tags VALUES (?, ?) ON CONFLICT (version) DO NOTHING",
            (tags.version, _encode(flat(tags.wanted))),
        )
        held = {row[0]: tuple(row) for row in db.execute("SELECT * FROM received_peer").fetchall()}
        if held == told:
            return
        db.execute("DELETE FROM received_peer")
        for row in told.values():
            db.execute("INSERT INTO received_peer VALUES (?, ?, ?, ?, ?)", row)
        _known_now(db, peers)
        db.execute(
            "UPDATE received_instance SET issuer = coalesce((SELECT p.issuer FROM received_origin o "
            "JOIN received_peer p ON p.name = o.peer WHERE o.study_uid = received_instance.study_uid "
            "AND o.sop_uid = received_instance.sop_uid), '') WHERE EXISTS (SELECT 1 FROM received_origin o "
            "WHERE o.study_uid = received_instance.study_uid AND o.sop_uid = received_instance.sop_uid "
            "AND o.assumed = 1)"
        )


def _known_now(db: Connection, peers: Sequence[Peer]) -> None:
    """Of what came before its sender had a section, the title tells the sender, where one section alone has it."""
    titles = [title for peer in peers for title in peer.ae_titles]
    for peer in peers:
        for title in peer.ae_titles:
            if titles.count(title) == 1:
                db.execute(
                    "UPDATE received_origin SET peer = ? WHERE peer NOT IN (SELECT name FROM received_peer) "
                    "AND EXISTS (SELECT 1 FROM received_instance i WHERE i.study_uid = received_origin.study_uid "
                    "AND i.sop_uid = received_origin.sop_uid AND i.calling = ?)",
                    (peer.name, title),
                )


_ORIGIN = (
    "INSERT INTO received_origin VALUES (?, ?, ?, ?, ?) ON CONFLICT (study_uid, sop_uid) DO UPDATE SET "
    "peer = excluded.peer, assumed = excluded.assumed, tag_set = excluded.tag_set"
)


def remember_new(db: Connection, several: Sequence[tuple[Received, bool]]) -> None:
    """Remember who sent instances that were not there, whether their issuers are their senders', what is kept."""
    db.executemany(_ORIGIN, [_origin(one, assumed=assumed) for one, assumed in several])
    for one, _ in several:
        if one.kept:
            _keep(db, one)


def _origin(one: Received, *, assumed: bool) -> tuple[Any, ...]:
    return (
        one.study_instance_uid,
        one.sop_instance_uid,
        one.peer,
        int(assumed),
        one.tag_set,
    )


def remember(db: Connection, one: Received, *, assumed: bool) -> bool:
    """Remember who sent another copy of an instance, and what is kept of it; whether the copy before was of the same tags.

    Parameters
    ----------
    db : Connection
    one : Received
    assumed : bool
        Its issuer is that of its sender.
    """
    key = (one.study_instance_uid, one.sop_instance_uid)
    before = db.execute(
        "SELECT tag_set FROM received_origin WHERE study_uid = ? AND sop_uid = ?", key
    ).fetchone()
    db.execute("DELETE FROM received_header WHERE study_uid = ? AND sop_uid = ?", key)
    db.execute(_ORIGIN, _origin(one, assumed=assumed))
    if one.kept:
        _keep(db, one)
    return before is not None and before[0] == one.tag_set


def remember_again(db: Connection, one: Received) -> None:
    """Remember of an instance that came again as it was what is kept of it now; its first sender stays."""
    db.execute(
        "UPDATE received_origin SET tag_set = ? WHERE study_uid = ? AND sop_uid = ?",
        (one.tag_set, one.study_instance_uid, one.sop_instance_uid),
    )
    if one.kept:
        _keep(db, one)


def issuer_of(db: Connection, peer: str) -> str:
    """IssuerOfPatientID that is assumed of a sender."""
    if not peer:
        return ""
    row = db.execute("SELECT issuer FROM received_peer WHERE name = ?", (peer,)).fetchone()
    return str(row[0]) if row is not None else ""


def _keep(db: Connection, one: Received) -> None:
    db.execute(
        "INSERT INTO received_header VALUES (?, ?, ?) ON CONFLICT (study_uid, sop_uid) DO UPDATE SET "
        "kept = excluded.kept",
        (one.study_instance_uid, one.sop_instance_uid, one.kept),
    )


def forget(db: Connection, study_uid: str) -> None:
    """Drop the kept headers of a study."""
    db.execute("DELETE FROM received_header WHERE study_uid = ?", (study_uid,))


class _Assumed(NamedTuple):
    timezone: str
    charset: str
    issuer: str


class Origins:
    """What is known of senders and tag sets, to make headers of what is stored.

    Parameters
    ----------
    db : Connection
    tags : TagSet or None
        What the rules read now; ``None``: whatever is stored.
    """

    def __init__(self, db: Connection, tags: TagSet | None) -> None:
        self._tags = tags
        self._peers = {
            row[0]: _Assumed(*row[1:])
            for row in db.execute(
                "SELECT name, timezone, charset, issuer FROM received_peer"
            ).fetchall()
        }
        self._lacks: dict[str, bool] = {}
        self._sets: Mapping[str, bytes] = {}
        if tags is not None:
            rows = db.execute("SELECT version, wanted FROM received_tags").fetchall()
            self._sets = {version: bytes(wanted) for version, wanted in rows}

    def header(
        self,
        header: Header,
        findings: Iterable[str],
        *,
        peer: str,
        assumed: bool,
        tag_set: str,
        kept: bytes | None,
    ) -> tuple[Header, list[str]]:
        """Header and findings of one instance as the rules in force want it.

        From its whole header, where that is kept and the stored tags are not those that the rules read now; with
        the finding ``tags-not-kept`` where some of these are not there to be read.
        """
        codes = list(findings)
        if self._tags is not None and tag_set != self._tags.version:
            read = _again(kept, self._tags.wanted) if kept else None
            if read is not None:
                header = read.header
            elif self._lacking(tag_set):
                codes.append("tags-not-kept")
        told = self._peers.get(peer)
        if told is not None:
            if assumed and told.issuer:
                header[_ISSUER] = told.issuer.encode()
            if told.charset:
                header[ASSUMED_CHARSET] = told.charset.encode()
            if told.timezone:
                header[ASSUMED_ZONE] = told.timezone.encode()
        return header, codes

    def _lacking(self, tag_set: str) -> bool:
        if tag_set not in self._lacks:
            stored = self._sets.get(tag_set)
            wanted = self._tags.wanted if self._tags is not None else {}
            self._lacks[tag_set] = stored is None or bool(lacking(wanted, unflat(_decode(stored))))
        return self._lacks[tag_set]


def _again(kept: bytes, wanted: Wanted) -> Read | None:
    """Read a kept header anew."""
    inflater = zlib.decompressobj()
    read = read_bytes(inflater.decompress(kept, LARGEST_HEADER + 4096), wanted, limits=_LIMITS)
    return read if isinstance(read, Read) else None


class Unkept(NamedTuple):
    """A rule that reads what was not kept of some instances."""

    rule: str
    """Path of the element."""
    attributes: list[str]
    studies: int
    instances: int


def unkept(rules: RuleSet, stored: Iterable[tuple[bytes | None, str, int]]) -> list[Unkept]:
    """Rules that read what was not kept, of (tags that were kept, study, instances)."""
    by_tags: dict[bytes, Counter[str]] = {}
    for kept, study, instances in stored:
        by_tags.setdefault(bytes(kept or b""), Counter())[study] += instances
    several = [rule for node in rules.resources.values() for rule in rules_in(node)]
    names: dict[str, set[str]] = {}
    held: dict[str, Counter[str]] = {}
    for kept, counts in by_tags.items():
        tags = unflat(_decode(kept)) if kept else {}
        for rule in several:
            paths = lacking(wanted_by(rule, rules.resources), tags)
            if paths:
                words = (".".join(map(keyword_of, path)) for path in paths)
                names.setdefault(rule.path, set()).update(words)
                held.setdefault(rule.path, Counter()).update(counts)
    return [
        Unkept(path, sorted(names[path]), len(held[path]), held[path].total())
        for path in sorted(names)
    ]
