"""Publishing: a round of due studies through the same pipeline as a batch run, over the same store."""

# ruff: noqa: D102  # what each method does stands in `converter.store.StudyStore`
from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from converter.core.study import pack_block
from converter.listener.ledger import Ledger, study_blocks
from converter.pipeline import Request
from converter.pipeline.converting import convert_studies, reduce_companions
from converter.pipeline.pool import Stop
from converter.pipeline.request import NoProgress
from converter.pipeline.writing import write_resources
from converter.store import Companion, Converted, Outcome, Place, open_database
from converter.store.sql import SqlStore

__all__ = ["RoundStore", "publish"]

logger = logging.getLogger("converter.listener")


class RoundStore(SqlStore):
    """The study store, as far as one round of studies goes.

    What the pipeline asks of "all studies" is asked of these, and of what they share with others.
    """

    def __init__(self, place: Place, ledger: Ledger) -> None:
        super().__init__(
            open_database(place, patient=True), kept=True, scratch="", on_close=lambda: None
        )
        self._ledger = ledger
        self._round: list[str] = []
        self._named: set[tuple[str, str]] = set()
        self._made: dict[tuple[str, str], Companion] = {}
        self._outcomes: dict[str, Outcome] = {}

    def begin(self, study_uids: Iterable[str]) -> None:
        """Begin a round."""
        self._round = sorted(study_uids)
        self._made = {}
        self._outcomes = {}
        self._named = set()
        with self._database.transaction() as db:
            for uid in self._round:
                # What a study named before is made anew as well: perhaps without it.
                self._named.update(self._contributed(uid))
                db.execute("DELETE FROM held WHERE study_uid = ?", (uid,))
                db.execute("DELETE FROM remark WHERE study_uid = ?", (uid,))
                db.execute(
                    "DELETE FROM sop WHERE converted_id IN (SELECT id FROM converted WHERE study_uid = ?)",
                    (uid,),
                )

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
        for uid in self._round:
            rows = self._all("SELECT count(*) FROM received_instance WHERE study_uid = ?", (uid,))
            yield uid, int(rows[0][0])

    def blocks(self, study_uid: str) -> list[bytes]:
        with self._database.guard():
            return [pack_block(b) for b in study_blocks(self._database.connection, study_uid)]

    def converted(self) -> Iterator[Converted]:
        for uid in self._round:
            item = self.conversion(uid)
            if item is not None:
                yield item

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
    ) -> Iterator[tuple[str, str, list[tuple[str, dict[str, Any]]]]]:
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
        for key in sorted(self._made):
            yield self._made[key]

    def save_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        super().save_outcomes(outcomes)
        self._outcomes.update({one.study_uid: one for one in outcomes if one.study_uid})

    def totals(self) -> dict[str, int]:
        return {
            "instances": 0,
            "series": 0,
            "studies": len(self._round),
            "companions": len(self._made),
        }

    def settle(self) -> None:
        """Nothing to note: the ledger knows."""


def publish(
    request: Request, store: RoundStore, ledger: Ledger, revisions: Mapping[str, int], stop: Stop
) -> dict[str, str]:
    """Publish studies at their revisions; give what became of each.

    Raises
    ------
    StoreError, SinkError
        The machine cannot go on with it now; what was not published stays settled.
    """
    store.begin(revisions)
    progress = NoProgress()
    convert_studies(request, store, progress, stop)
    reduce_companions(request, store, stop)
    write_resources(request, store, progress, stop, set())
    states = {}
    for uid, outcome in store.outcomes_of_round().items():
        codes = [issue.code for issue in outcome.issues]
        state = "published" if outcome.state in {"published", "unwritten"} else outcome.state
        if state == "failed":
            state = "held"
        ledger.published(uid, revisions[uid], state, outcome.reason, outcome.resource_id, codes)
        states[uid] = state
    return states
