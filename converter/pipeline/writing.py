"""Phase four: unite, check, claim, write; studies by UID, then what they name; workers do it where there is much.

Into files, for which no order counts, a Patient of whom one study alone speaks goes with that study.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from converter.core.ids import study_id
from converter.core.rejection import withdraw
from converter.pipeline.converting import batches, reduce_published
from converter.pipeline.pool import Part, Pool, Workers
from converter.pipeline.publishing import (
    Draft,
    LeftToTheRunError,
    Tools,
    Written,
    lost,
    write_companion,
    write_study,
)
from converter.sinks import FileSink
from converter.store import Companion, Converted, Outcome, StudyStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from converter.pipeline.pool import Stop
    from converter.pipeline.request import Progress, Request
    from converter.sinks import Files

__all__ = ["part", "write_resources"]

Json = dict[str, Any]

FEW = 1000
"""Resources that one process writes before others would have started."""
A_TASK = 100
"""Resources of one task."""
ROWS = 4000
"""Instances of one task, about: a large study is a task alone."""


_Item = TypeVar("_Item", Draft, Companion)


class _Work(NamedTuple):
    """Studies, or resources that span studies."""

    items: tuple[Any, ...]

    def halves(self) -> list[_Work]:
        middle = len(self.items) // 2
        return [_Work(self.items[:middle]), _Work(self.items[middle:])] if middle else []

    def __reduce__(self) -> tuple[Any, ...]:
        """To a worker as one piece: pickled finding by finding it would cost as much as what is done there."""
        return _unpacked, (isinstance(self.items[0], Draft), _encode(self.items))


_json = msgspec.json.Encoder().encode
_encode = msgspec.msgpack.Encoder().encode
_drafts = msgspec.msgpack.Decoder(tuple[Draft, ...]).decode
_companions = msgspec.msgpack.Decoder(tuple[Companion, ...]).decode
_results = msgspec.msgpack.Decoder(list[Written | None]).decode


def _unpacked(studies: bool, items: bytes) -> _Work:
    return _Work(_drafts(items) if studies else _companions(items))


_tools: Tools


def _begin(files: Files | None, *others: Any) -> None:
    global _tools  # noqa: PLW0603  one job a worker process
    if files is not None:
        files.in_worker()
    _tools = Tools(files, *others)


def _work(work: _Work) -> bytes:
    return _encode([_written(item) for item in work.items])


def _written(item: Draft | Companion) -> Written | None:
    """What became of it; ``None`` where that is left to the run."""
    try:
        if isinstance(item, Draft):
            return write_study(item, _tools)
        return Written(write_companion(item, _tools))
    except LeftToTheRunError:
        return None


class _Writer:
    def __init__(
        self,
        request: Request,
        store: StudyStore,
        progress: Progress,
        stop: Stop,
        pruned: set[str],
        workers: Workers | None,
    ) -> None:
        self.request = request
        self.workers = workers
        self.store = store
        self.progress = progress
        self.stop = stop
        self.pruned = pruned
        self.tools = Tools(
            request.sink, request.judge, request.parts.unite, request.ownership, self._patient
        )
        self.in_any_order = _in_any_order(request)
        self.outcomes: list[Outcome] = []
        self.together = 0
        """Patients that were written with their study."""
        self.held_now = False
        """Whether the writing itself held a study, so that its companions must not speak for it."""
        self.silent: set[str] = set()
        """Studies of which nothing was written although they are not held."""
        self.looked_at: set[str] = set()
        """Ids of Patients that the check of the run saw with a study of theirs."""

    def _patient(self, id_: str) -> Json | None:
        self.looked_at.add(id_)
        return self.store.companion("Patient", id_)

    def note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.progress.advance()
        if len(self.outcomes) >= 200:
            self.flush()

    def flush(self) -> None:
        self.store.save_outcomes(self.outcomes)
        self.outcomes = []

    def take(self, made: Written) -> None:
        """Note what became of a study."""
        uid = made.outcome.study_uid
        if made.hold:
            self.store.hold([uid], made.hold)
            self.held_now = True
        if made.silent:
            self.silent.add(uid)
        self.note(made.outcome)
        if made.patient is not None:
            self.together += 1
            self.note(made.patient)

    def drafts(self, items: Iterable[Converted]) -> Iterator[Draft]:
        """Studies with what the store says of them."""
        for batch in batches(items, 20):
            held, remarks = self.store.said_of([item.study_uid for item in batch])
            named = sorted({item.patient_id for item in batch} - {""})
            patients = self.store.reduced("Patient", named)
            for item in batch:
                uid = item.study_uid
                patient = patients.get(item.patient_id)
                yield Draft(
                    item,
                    held.get(uid, ""),
                    remarks.get(uid, ()),
                    uid in self.pruned,
                    patient.resource if patient is not None else b"",
                    self.in_any_order and patient is not None and patient.study_uid == uid,
                )

    def studies(self, *, shared: bool) -> None:
        """Write all studies; ``shared``: in workers."""
        drafts = self.drafts(self.store.converted())
        if shared:
            left = []
            for draft, made in self._in_workers(drafts):
                if made is None:
                    left.append(draft.item.study_uid)
                else:
                    self.take(made)
            # by UID, as if the run had written all: what the check says of a first one hangs on the order
            drafts = self.drafts(filter(None, map(self.store.conversion, sorted(left))))
        for draft in drafts:
            if self.stop:
                return
            self.looked_at.add(draft.item.patient_id)
            self.take(write_study(draft, self.tools))

    def gone(self, study_uids: Iterable[str]) -> None:
        """Take back what stands of studies of which ``--prune`` left nothing."""
        for uid in study_uids:
            made = write_study(Draft(_withdrawn(uid), pruned=True), self.tools)
            if not made.silent or made.outcome.state == "published":  # else nothing stands
                self.take(made._replace(silent=False))

    def companions(self, *, shared: bool) -> None:
        """Write what spans studies, as far as it was not written with one."""
        self.flush()
        companions: Iterable[Companion] = filter(self._is_named, self.store.companions())
        if shared:
            left: list[Companion] = []
            for companion, made in self._in_workers(self._unseen(companions, left)):
                if made is None:
                    left.append(companion)
                else:
                    self.note(made.outcome)
            companions = sorted(left, key=lambda item: (item.resource_type, item.resource_id))
        for companion in companions:
            if self.stop:
                return
            self.note(write_companion(companion, self.tools))

    def _is_named(self, companion: Companion) -> bool:
        """Whether a study that was written names it."""
        if not self.silent:
            return True
        kind, id_ = companion.resource_type, companion.resource_id
        return not all(uid in self.silent for uid, _ in self.store.contributions_to(kind, id_))

    def _unseen(
        self, companions: Iterable[Companion], left: list[Companion]
    ) -> Iterator[Companion]:
        """Companions without those of which the check of the run has more to say."""
        for companion in companions:
            if companion.resource_type == "Patient" and companion.resource_id in self.looked_at:
                left.append(companion)
            else:
                yield companion

    def _in_workers(self, items: Iterator[_Item]) -> Iterator[tuple[_Item, Written | None]]:
        """Give what became of each, in any order; ``None`` where that is left to the run."""
        assert self.workers is not None
        sink = self.request.sink if isinstance(self.request.sink, FileSink) else None
        pool = Pool[_Work, bytes](self.workers, _work, _Work.halves)
        with closing(pool.run(_works(items), self.stop)) as results:
            for work, given in results:
                # without a result: it killed its worker
                told = map(lost, work.items) if given is None else _results(given)
                for item, made in zip(work.items, told, strict=True):
                    for one in (made.outcome, made.patient) if made is not None else ():
                        if sink is not None and one is not None and one.state == "published":
                            sink.wrote(one.resource_type)
                    yield item, made
        if pool.died and sink is not None:
            sink.sweep()


def _withdrawn(study_uid: str) -> Converted:
    """What takes back a study of which nothing is known any more but its UID."""
    known = {
        "resourceType": "ImagingStudy",
        "id": study_id(study_uid),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study_uid}"}],
    }
    resource = _json(withdraw(known))
    return Converted(study_uid, "converted", resource, [], [], 0, 0, [], [], withdrawn="pruned")


def _works(items: Iterator[_Item]) -> Iterator[_Work]:
    batch: list[Any] = []
    rows = 0
    for item in items:
        batch.append(item)
        rows += item.item.instances if isinstance(item, Draft) else 0
        if len(batch) >= A_TASK or rows >= ROWS:
            yield _Work(tuple(batch))
            batch, rows = [], 0
    if batch:
        yield _Work(tuple(batch))


def _in_any_order(request: Request) -> bool:
    """Whether no order counts: files are written, or nothing at all."""
    return request.sink is None or isinstance(request.sink, FileSink)


def part(request: Request) -> Part | None:
    """What makes a worker ready to write; nothing where the run alone does that."""
    if not _in_any_order(request) or request.worker_judge is None:
        return None
    sink = request.sink if isinstance(request.sink, FileSink) else None
    files = sink.for_workers() if sink is not None else None
    return _begin, (files, request.worker_judge, request.parts.unite, request.ownership)


def write_resources(
    request: Request,
    store: StudyStore,
    progress: Progress,
    stop: Stop,
    pruned: set[str],
    gone: Sequence[str] = (),
    workers: Workers | None = None,
) -> None:
    """Write every published study, then its companions.

    Parameters
    ----------
    pruned : set of str
        Studies that ``--prune`` took instances of: what stands of those is replaced.
    gone : sequence of str
        Those of which it left nothing: what stands of those is emptied and cancelled.
    """
    totals = store.totals()
    progress.phase("writing", totals["studies"] + totals["companions"])
    writer = _Writer(request, store, progress, stop, pruned, workers)
    able = writer.in_any_order and request.worker_judge is not None
    able = able and workers is not None and workers.jobs > 1
    writer.studies(shared=able and totals["studies"] + totals["instances"] // 40 > FEW)
    if not stop:
        writer.gone(gone)
    if writer.held_now:
        reduce_published(request, store, stop)
    writer.companions(shared=able and totals["companions"] - writer.together > FEW)
    writer.flush()
    if not stop and (request.sink is not None or request.deliver is not None):
        store.settle()
