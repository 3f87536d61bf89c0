"""Publishing: a round of due studies through the same pipeline as a batch run, over the same store."""

# ruff: noqa: D102  # what each method does stands in `converter.store.StudyStore`
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import orjson

from converter.core.ids import study_id
from converter.core.merge import unite
from converter.core.rejection import withdraw
from converter.core.study import pack_block
from converter.listener import purged, subjects
from converter.listener.ledger import Ledger, removed, study_blocks
from converter.listener.notes import log_name
from converter.pipeline import Request
from converter.pipeline.converting import convert_studies, reduce_companions
from converter.pipeline.pool import Stop
from converter.pipeline.request import NoProgress
from converter.pipeline.writing import write_resources
from converter.store import Companion, Converted, Outcome, StatePlace, open_database
from converter.store.sql import SqlStore

__all__ = ["RoundStore", "publish"]

Json = dict[str, Any]

_PUBLISHED = {"published", "unwritten"}
_WITHDRAWN = {"excluded", "rejected"}
"""Reasons for which nothing is listed of a study, which is told wherever it was published."""

logger = logging.getLogger("converter.listener")


class RoundStore(SqlStore):
    """The study store, as far as one round of studies goes.

    What the pipeline asks of "all studies" is asked of these, and of what they share with others.
    """

    def __init__(
        self, place: StatePlace, ledger: Ledger, united: Callable[..., Any] = unite
    ) -> None:
        super().__init__(
            open_database(place, patient=True), kept=True, scratch="", on_close=lambda: None
        )
        self._ledger = ledger
        self._unite = united
        self._round: list[str] = []
        self._named: set[tuple[str, str]] = set()
        self._made: dict[tuple[str, str], Companion] = {}
        self._written: set[tuple[str, str]] = set()
        self._outcomes: dict[str, Outcome] = {}
        self._gone: dict[str, set[str]] = {}
        """UIDs in each study of the round that an operator took away."""
        self.excluded: set[str] = set()
        """Studies of the round that an operator excluded."""
        self.rejected: set[str] = set()
        """Those of which rejection notes leave nothing."""
        self._missing: dict[str, set[str]] = {}
        """Instances in each study of the round that count and whose headers were purged."""
        self._bare: set[str] = set()
        """Studies of the round of which no header is there."""
        self.unknown: set[str] = set()
        """Those of which nothing can be said until they come again."""

    def begin(self, study_uids: Iterable[str]) -> None:
        """Begin a round."""
        self._round = sorted(study_uids)
        self._made = {}
        self._written = set()
        self._outcomes = {}
        self._named = set()
        self._gone = {}
        self.excluded = set()
        self.rejected = set()
        self._missing = {}
        self._bare = set()
        self.unknown = set()
        with self._database.transaction() as db:
            self._database.lock(self._round)
            for uid in self._round:
                # What a study named before is made anew as well: perhaps without it.
                self._named.update(self._contributed(uid))
                # Not what a conflict that came this moment holds.
                db.execute(
                    "DELETE FROM held WHERE study_uid = ? AND EXISTS (SELECT 1 FROM received_study s "
                    "WHERE s.study_uid = held.study_uid AND s.state = 'settled')",
                    (uid,),
                )
                db.execute("DELETE FROM remark WHERE study_uid = ?", (uid,))
                db.execute(
                    "DELETE FROM sop WHERE converted_id IN (SELECT id FROM converted WHERE study_uid = ?)",
                    (uid,),
                )

        for uid in self._round:
            with self._database.guard():
                excluded, self._gone[uid] = removed(self._database.connection, uid)
            if excluded:
                self.excluded.add(uid)
                super().save([self._withdrawn(uid)])
            else:
                self._look(uid)

    def _look(self, uid: str) -> None:
        """See what was purged of a study; one of which no header is left stays what was made of it."""
        db = self._database.connection
        with self._database.guard():
            missing = purged.missing(db, uid)
            bare = bool(missing) and not purged.anything(db, uid, notes=True)
        if missing:
            self._missing[uid] = missing
        if bare:
            self._bare.add(uid)
            before = self.conversion(uid)
            if before is None:
                self.unknown.add(uid)
                return
            said = msgspec.structs.replace(
                before, tombstones=sorted(self._gone[uid]), replaces=self._replaced(before)
            )
            if made := self._left(said, missing):
                super().save([made])

    def _left(self, said: Converted, missing: set[str]) -> Converted | None:
        uid = said.study_uid
        made = purged.left(
            self.conversion(uid), said, missing, self._contributions_of(uid), self._unite
        )
        if made is None:
            self.unknown.add(uid)
        return made

    def _contributions_of(self, study_uid: str) -> list[tuple[str, str, bytes]]:
        sql = (
            "SELECT resource_type, resource_id, body FROM contribution WHERE study_uid = ? "
            "ORDER BY resource_type, resource_id, ordinal"
        )
        return [(kind, id_, bytes(body)) for kind, id_, body in self._all(sql, (study_uid,))]

    def _withdrawn(self, study_uid: str) -> Converted:
        """What takes back what is published of a study: none of the instances that came is listed any more."""
        held = self.conversion(study_uid)
        known: Json = {
            "resourceType": "ImagingStudy",
            "id": study_id(study_uid),
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study_uid}"}],
        }
        if held is not None and held.resource:
            known = orjson.loads(held.resource)
        subject = [
            one
            for one in self._contributions_of(study_uid)
            if one[0] in {"Patient", "Device"} and self._was_published(study_uid)
        ]
        gone = self._gone[study_uid].union(held.tombstones if held is not None else ())
        resource = orjson.dumps(withdraw(known))
        with self._database.guard():
            before = subjects.former(self._database.connection, study_uid)
        replaces = sorted({*before, *(held.replaces if held is not None else [])})
        return Converted(
            study_uid,
            "converted",
            resource,
            [],
            [],
            0,
            0,
            subject,
            [],
            [],
            sorted(gone),
            "excluded",
            replaces,
        )

    def save(self, conversions: Sequence[Converted]) -> None:
        made = [self._whole(item) for item in conversions]
        self.rejected.update(item.study_uid for item in made if item.withdrawn)
        super().save(made)

    def _whole(self, item: Converted) -> Converted:
        """A conversion, with what is known of the study beside the headers that are there."""
        uid = item.study_uid
        item = msgspec.structs.replace(
            item,
            tombstones=sorted(self._gone[uid].union(item.tombstones)),
            replaces=self._replaced(item),
        )
        missing = self._missing.get(uid, set()).difference(item.tombstones)
        if not missing:
            return item
        if item.withdrawn:  # of what is there; the rest stands
            return self._left(item, missing) or item
        contributions = self._contributions_of(uid)
        return purged.together(self.conversion(uid), item, missing, contributions, self._unite)

    def _replaced(self, item: Converted) -> list[bytes]:
        """Subjects that we published of a study before somebody said whose it is, and that give way now."""
        held = self.conversion(item.study_uid)
        if held is None:
            return []
        now = _subject(item)
        if before := {*held.replaces, _subject(held)} - {now, b""}:
            with self._database.transaction() as db:
                subjects.remember(db, item.study_uid, before)
        with self._database.guard():
            found = subjects.replaceable(self._database.connection, item.study_uid)
        return [subject for subject in found if subject != now]

    def alone(self) -> AbstractContextManager[None]:
        """While what spans studies is made and written, other hosts wait: the last one speaks for all studies."""
        return self._database.alone()

    def _contributed(self, study_uid: str) -> list[tuple[str, str]]:
        sql = "SELECT DISTINCT resource_type, resource_id FROM contribution WHERE study_uid = ?"
        return self._all(sql, (study_uid,))

    def outcomes_of_round(self) -> Mapping[str, Outcome]:
        """What became of each study."""
        return self._outcomes

    def begin_converting(self, fingerprint: str) -> None:
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO meta VALUES ('fingerprint', ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (fingerprint,),
            )

    def studies(self, *, unconverted: bool = False) -> Iterator[tuple[str, int]]:
        del unconverted
        for uid in (uid for uid in self._round if uid not in self.excluded | self._bare):
            rows = self._all("SELECT count(*) FROM received_instance WHERE study_uid = ?", (uid,))
            yield uid, int(rows[0][0])

    def blocks(self, study_uids: Sequence[str]) -> list[list[bytes]]:
        db, tags = self._database.connection, self._ledger.tags
        with self._database.guard():
            return [[pack_block(one) for one in study_blocks(db, uid, tags)] for uid in study_uids]

    def converted(self) -> Iterator[Converted]:
        for uid in self._round:
            item = self.conversion(uid)
            if item is not None:
                yield item

    def unmade(self) -> Iterator[tuple[str, str]]:
        for item in self.converted():
            if item.state != "converted":
                yield item.study_uid, item.state

    def shared(self) -> Iterator[tuple[str, set[int]]]:
        sql = (
            "SELECT a.hash FROM converted c JOIN sop a ON a.converted_id = c.id WHERE c.study_uid = ? AND "
            "EXISTS (SELECT 1 FROM sop b JOIN converted d ON d.id = b.converted_id WHERE b.hash = a.hash "
            "AND d.study_uid <> c.study_uid)"
        )
        for uid in self._round:
            if found := {row[0] for row in self._all(sql, (uid,))}:
                yield uid, found

    def hold(self, study_uids: Iterable[str], reason: str) -> None:
        round_ = set(self._round)
        held = [uid for uid in study_uids if uid in round_]
        if reason == "patient-mismatch":
            # What is published stays as it is and goes on; only what is not yet is held.
            held = [uid for uid in held if not self._was_published(uid)]
        super().hold(held, reason)

    def _was_published(self, study_uid: str) -> bool:
        sql = "SELECT published > 0 FROM received_study WHERE study_uid = ?"
        rows = self._all(sql, (study_uid,))
        return bool(rows and rows[0][0])

    def contributions(
        self, resource_type: str = "", *, least: int = 1
    ) -> Iterator[tuple[str, str, list[tuple[str, bytes]]]]:
        named = set(self._named)
        for uid in self._round:
            named.update(self._contributed(uid))
        for kind, id_ in sorted(named):
            if resource_type in {"", kind}:
                found = self.contributions_to(kind, id_)
                if len({uid for uid, _ in found}) >= least:
                    yield kind, id_, found

    def begin_reducing(self) -> None:
        self._made = {}

    def save_companions(self, companions: Sequence[Companion]) -> None:
        super().save_companions(companions)
        self._made.update({(one.resource_type, one.resource_id): one for one in companions})

    def companions(self) -> Iterator[Companion]:
        for key in sorted(self._made.keys() - self._written):
            yield self._made[key]

    def save_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        super().save_outcomes(outcomes)
        self._outcomes.update({one.study_uid: one for one in outcomes if one.study_uid})
        self._written.update((o.resource_type, o.resource_id) for o in outcomes if not o.study_uid)

    def totals(self) -> dict[str, int]:
        return {
            "instances": 0,
            "series": 0,
            "studies": len(self._round),
            "companions": len(self._made),
        }

    def settle(self) -> None:
        """Nothing to note: the ledger knows."""


def _subject(item: Converted) -> bytes:
    subject = orjson.loads(item.resource).get("subject") if item.resource else None
    return orjson.dumps(subject) if subject else b""


def publish(
    request: Request,
    store: RoundStore,
    ledger: Ledger,
    revisions: Mapping[str, int],
    stop: Stop,
    enqueue: Callable[[Sequence[str]], None],
) -> dict[str, str]:
    """Publish studies at their revisions; give what became of each.

    ``enqueue`` gets the published ones before that is noted: a crash between the two publishes again, and loses
    nothing.

    Raises
    ------
    StoreError, SinkError
        The machine cannot go on with it now; what was not published stays settled.
    """
    store.begin(revisions)
    progress = NoProgress()
    convert_studies(request, store, progress, stop)
    with store.alone():
        reduce_companions(request, store, stop)
        write_resources(request, store, progress, stop, set())
    states = {}
    outcomes = store.outcomes_of_round()
    enqueue(
        [
            uid
            for uid, made in outcomes.items()
            if made.state in _PUBLISHED or made.reason in _WITHDRAWN
        ]
    )
    for uid, outcome in outcomes.items():
        codes = [issue.code for issue in outcome.issues]
        state = "published" if outcome.state in _PUBLISHED else outcome.state
        reason = outcome.reason
        if uid in store.unknown:
            state, reason = "held", "headers-purged"
        elif reason in _WITHDRAWN or (state == "published" and uid in store.excluded):
            state, reason = "excluded", reason or "excluded"
        elif state == "published" and uid in store.rejected:
            state, reason = "excluded", "rejected"
        if state == "failed":
            state = "held"
        if state == "held":
            logger.warning("study %s is held: %s", log_name(uid), reason)
        ledger.published(uid, revisions[uid], state, reason, outcome.resource_id, codes)
        states[uid] = state
    for uid in store.unknown - outcomes.keys():
        ledger.published(uid, revisions[uid], "held", "headers-purged", "", [])
        states[uid] = "held"
    return states
