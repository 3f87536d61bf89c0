"""Phases two and three: each study to a resource; then what spans studies, reduced by id."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from converter.core.companions import complete
from converter.core.issues import Issue
from converter.core.study import assemble, unpack_block
from converter.errors import ConverterError, StandingError
from converter.pipeline.pool import Part, Pool, Stop, Workers
from converter.pipeline.remarks import remark_shared, sop_hashes
from converter.store import Companion, Converted, StudyStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from converter.pipeline.request import Parts, Progress, Request

__all__ = [
    "batches",
    "convert_studies",
    "part",
    "reduce_companions",
    "reduce_published",
    "unreadable",
    "where",
]

ROWS = 4000
"""Instances of one task, about: a large study is a task alone."""
SMALL = 100_000
"""Instances that one process converts before others would have started."""
FEW = 10_000
"""And before others that were started would have been told."""
A_STUDY = 40
"""A study costs as much as so many instances, however few it has."""


class _Work(NamedTuple):
    studies: tuple[tuple[str, tuple[bytes, ...]], ...]

    def halves(self) -> list[_Work]:
        middle = len(self.studies) // 2
        return [_Work(self.studies[:middle]), _Work(self.studies[middle:])] if middle else []


class _Job(NamedTuple):
    parts: Parts
    rules: Any
    options: Any


_job: _Job


def _begin(*arguments: Any) -> None:
    global _job  # noqa: PLW0603  one job a worker process
    _job = _Job(*arguments)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Converted]).decode


def _work(work: _Work) -> bytes:
    """Convert in a worker; given back as one piece, for pickling each finding would cost as much again."""
    return _encode(_convert(work, _job))


def _convert(work: _Work, job: _Job) -> list[Converted]:
    return [_convert_one(uid, blocks, job) for uid, blocks in work.studies]


def _convert_one(uid: str, blocks: tuple[bytes, ...], job: _Job) -> Converted:
    """Convert one study: the boundary at which a fault of ours in it stays with it."""
    study = assemble(uid, map(unpack_block, blocks))
    try:
        made = job.parts.convert(study, job.rules, job.options)
        return Converted(
            uid,
            made.state,
            orjson.dumps(made.resource) if made.resource is not None else b"",
            list(made.issues),
            list(made.dropped),
            made.series,
            made.instances,
            [
                (str(companion["resourceType"]), str(companion["id"]), orjson.dumps(companion))
                for companion in made.companions
            ],
            study.duplicates,
            sop_hashes([one.uid for series in study.series for one in series.instances]),
            list(made.tombstones),
            made.withdrawn,
            patient_id=_patient_id(made.resource),
            replaced=study.replaced,
        )
    except ConverterError:
        raise
    except Exception as error:  # noqa: BLE001  one study must not cost the others
        return _failed(uid, len(study.series), study.count, where(error))


def _patient_id(study: dict[str, Any] | None) -> str:
    reference = ((study or {}).get("subject") or {}).get("reference", "")
    kind, _, id_ = reference.partition("/")
    return id_ if kind == "Patient" else ""


def _failed(uid: str, series: int, instances: int, message: str) -> Converted:
    issue = Issue("error", "study-failed", "ImagingStudy", "", message, (uid,))
    return Converted(uid, "failed", b"", [issue], [], series, instances, [], [])


def where(error: Exception) -> str:
    """Kind of an error and the place of its cause; its own words may hold a value of a patient's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname}, line {trace.tb_lineno}"


def _works(store: StudyStore, stop: Stop) -> Iterator[_Work]:
    batch: list[str] = []
    rows = 0
    for uid, count in store.studies(unconverted=True):
        if stop:
            return
        batch.append(uid)
        rows += count + A_STUDY
        if rows >= ROWS:
            yield _read(store, batch)
            batch, rows = [], 0
    if batch:
        yield _read(store, batch)


def _read(store: StudyStore, uids: list[str]) -> _Work:
    return _Work(tuple(zip(uids, map(tuple, store.blocks(uids)), strict=True)))


def part(request: Request) -> Part:
    """What makes a worker ready to convert."""
    return _begin, (request.parts, request.rules, request.options)


def convert_studies(
    request: Request,
    store: StudyStore,
    progress: Progress,
    stop: Stop,
    workers: Workers | None = None,
) -> None:
    """Convert every study that is not converted by these rules yet."""
    store.begin_converting(f"{request.rules.version}|{request.options!r}")
    total = few = 0
    for _, rows in store.studies(unconverted=True):
        total += rows
        few += 1
    progress.phase("converting", total)
    job = _Job(*part(request)[1])
    works = _works(store, stop)
    least = FEW if workers is not None and workers.running else SMALL
    if workers is None or workers.jobs == 1 or few == 1 or total + A_STUDY * few < least:
        for work in works:
            if stop:
                return
            _save(store, progress, _convert(work, job))
        return
    pool = Pool[_Work, bytes](workers, _work, _Work.halves)
    with closing(pool.run(works, stop)) as results:
        for work, given in results:
            if given is not None:
                made = _decode(given)
            else:
                uid, blocks = work.studies[0]
                rows = sum(len(unpack_block(block).rows) for block in blocks)
                made = [_failed(uid, 0, rows, "The process that converted it died.")]
            _save(store, progress, made)


def _save(store: StudyStore, progress: Progress, made: list[Converted]) -> None:
    store.save(made)
    progress.advance(sum(item.instances for item in made))


def reduce_companions(request: Request, store: StudyStore, stop: Stop) -> None:
    """Hold the studies of patients that are two people, then make each resource that spans studies once.

    What a held study says goes into no resource; a companion of it is written only where a published
    study contributes to it as well.
    """
    remark_shared(store)
    for uid, state in store.unmade():
        store.hold([uid], "patient-conflict" if state == "conflict" else "study-failed")
    mismatched: set[str] = set()
    for kind, id_, contributions in store.contributions(
        "Patient", least=1 if _unites(request, "Patient") else 2
    ):
        try:
            standing = _standing(request, kind, id_)
        except StandingError:
            _hold_unreadable(store, kind, id_, contributions)
            continue
        known = [*_read_all(contributions), *([("", standing)] if standing else [])]
        if len(known) > 1 and request.parts.reduce(known).mismatch:
            mismatched.update(uid for uid, _ in contributions)
    store.hold(mismatched, "patient-mismatch")
    reduce_published(request, store, stop)


def reduce_published(request: Request, store: StudyStore, stop: Stop) -> None:
    """Make each resource that spans studies, anew, from what the published ones say of it."""
    while not stop and not _reduced(request, store, stop):
        pass


def _reduced(request: Request, store: StudyStore, stop: Stop) -> bool:
    """Whether that is done: where it made us hold studies they must not speak, and it is done anew."""
    store.begin_reducing()
    done = True
    for batch in batches(store.contributions()):
        if stop:
            return done
        companions = []
        for kind, id_, contributions in batch:
            try:
                standing = _standing(request, kind, id_)
            except StandingError:
                _hold_unreadable(store, kind, id_, contributions)
                done = False
                continue
            if len(contributions) == 1 and not standing:
                [(uid, body)] = contributions  # what one study alone says is the resource
                companions.append(Companion(kind, id_, body, [], uid))
                continue
            reduced = request.parts.reduce(_read_all(contributions))
            made = complete(standing, reduced.resource) if standing else reduced.resource
            companions.append(Companion(kind, id_, orjson.dumps(made), list(reduced.issues)))
        store.save_companions(companions)
    return done


def _read_all(contributions: list[tuple[str, bytes]]) -> list[tuple[str, dict[str, Any]]]:
    return [(uid, orjson.loads(body)) for uid, body in contributions]


def unreadable(kind: str, id_: str) -> Issue:
    """Say which resource of the destination cannot be read."""
    message = (
        f"{kind}/{id_} stands at the destination and cannot be read: look at it, and move it away."
    )
    return Issue("error", "standing-unreadable", "ImagingStudy", "", message)


def _hold_unreadable(
    store: StudyStore, kind: str, id_: str, contributions: list[tuple[str, bytes]]
) -> None:
    """Hold the studies that name a resource which may not be overwritten."""
    for uid in sorted({uid for uid, _ in contributions}):
        store.hold([uid], "standing-unreadable")
        store.remark(uid, [*store.remarks(uid), unreadable(kind, id_)])


def _standing(request: Request, kind: str, id_: str) -> dict[str, Any] | None:
    """Companion that stands in the output and is to be united with ours."""
    return request.sink.stands(kind, id_) if request.sink and _unites(request, kind) else None


def _unites(request: Request, kind: str) -> bool:
    return request.sink is not None and request.ownership == "merge" and request.sink.holds(kind)


def batches(items: Iterable[Any], size: int = 100) -> Iterator[list[Any]]:
    """Items in lists of so many."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
