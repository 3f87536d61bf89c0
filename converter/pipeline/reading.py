"""Phase one: every input into the store."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from converter import __version__
from converter.core.header import Wanted, merge_wanted
from converter.errors import StoreError
from converter.pipeline.pool import Part, Pool, Stop, Workers
from converter.sources import Entry, Filters, Skipped, Task, TaskResult, plan, printable, read_task
from converter.sources.task import is_remote
from converter.sources.worker import MODALITY
from converter.store import FileStamp, PackedBlock, SkippedRow, StudyStore
from converter.store import Part as Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from converter.pipeline.engine import Place
    from converter.pipeline.request import Progress, Request
    from converter.sources.planning import Input

__all__ = ["NOTHING", "Reading", "part", "read_inputs"]

FEW = 300
"""Files that one process reads before others would have started."""
TRANSIENT = frozenset(
    {"permission-denied", "read-error", "changed-while-reading", "not-found", "reader-crashed"}
)
"""Reasons that may be gone at the next run: such a file is never taken for unchanged."""
BROKEN = frozenset({"unreadable-archive", "unreadable-member", "inflate-limit"})
"""Reasons for which nobody knows what else an archive holds."""
CUT = frozenset({"empty", "truncated-header", "malformed"})
"""Reasons of a file that was damaged or is being copied, rather than one that holds something else now."""
UNLISTED = frozenset({"permission-denied", "read-error"})
"""And for which nobody knows what there is."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(TaskResult).decode


class _Job(NamedTuple):
    wanted: Wanted
    filters: Filters
    readers: Any
    ignore_changed: bool
    scratch: str

    def parts(self, task: Task) -> Iterator[TaskResult]:
        return read_task(
            task, self.wanted, self.filters, self.readers, ignore_changed=self.ignore_changed
        )


class _Read(NamedTuple):
    """What a worker hands over: the first part, the others in a file, so that memory stays flat."""

    first: TaskResult
    spool: str = ""

    def parts(self) -> Iterator[TaskResult]:
        yield self.first
        if self.spool:
            with Path(self.spool).open("rb") as file:
                while length := file.read(8):
                    yield _decode(file.read(int.from_bytes(length, "big")))


_job: _Job


def _begin(*arguments: Any) -> None:
    global _job  # noqa: PLW0603  one job a worker process
    _job = _Job(*arguments)


def _work(task: Task) -> _Read:
    parts = _job.parts(task)
    first = next(parts)
    spool = None
    try:
        for part in parts:
            if spool is None:
                spool = NamedTemporaryFile(  # noqa: SIM115  closed below, removed by who reads it
                    dir=_job.scratch, prefix="parts-", delete=False
                )
            data = _encode(part)
            spool.write(len(data).to_bytes(8, "big") + data)
    finally:
        if spool is not None:
            spool.close()
    return _Read(first, spool.name if spool is not None else "")


NOTHING = "nothing-there"
"""In the place of a reason code: the state holds files of it, of which this run saw none."""


class Reading(NamedTuple):
    """What the run has to know of the reading."""

    files: int
    """Files and members that were looked at."""
    doubt: Skipped | None = None
    """For ``--prune``: a place of which nobody knows now what it holds."""


class _Ingest:
    """Puts results into the store, one transaction a task."""

    def __init__(self, store: StudyStore, progress: Progress, version: str) -> None:
        self.store = store
        self.progress = progress
        self.version = version
        self.files = 0
        self.strays: list[SkippedRow] = []
        self.doubt: Skipped | None = None

    def skip(self, item: Skipped) -> None:
        if item.reason in UNLISTED:
            self.doubt = self.doubt or item
        self.strays.append(SkippedRow(*item))
        if len(self.strays) >= 1000:
            self.flush()

    def flush(self) -> None:
        if self.strays:
            self.store.add([Stored((), self.strays)], self.version)
            self.strays = []

    def halves(self, task: Task) -> list[Task]:
        """Split a task that killed its reader; a kept state replaces an archive as a whole: it is one suspect."""
        return [] if self.store.kept and task.kind == "archive" else task.halves()

    def add(self, task: Task, results: Iterable[TaskResult]) -> None:
        fresh = [entry.key for entry in task.entries] if self.store.kept else []
        self.store.add(self._parts(task, results), self.version, fresh=fresh)

    def _parts(self, task: Task, results: Iterable[TaskResult]) -> Iterator[Stored]:
        done = 0
        bad: set[int] = set()
        for result in results:
            self.files += result.files
            self.progress.advance(result.files)
            bad |= {row[0] for row in result.skipped if row[2] in TRANSIENT}
            yield self._part(task, result, range(done, done + result.done), bad)
            done += result.done

    def _part(self, task: Task, result: TaskResult, done: range, bad: set[int]) -> Stored:
        keys = {}
        if self.store.kept:
            keys = {index: entry.key for index, entry in enumerate(task.entries)}
        blocks = [
            PackedBlock(
                block.study_uid,
                block.series_uid,
                block.rows,
                block.data,
                tuple(keys[index] for index in block.entries) if keys else (),
            )
            for block in result.blocks
        ]
        for _, path, reason, detail in result.skipped:
            if self.doubt is None and reason in BROKEN:
                self.doubt = Skipped(path, reason, detail)
        skipped = [
            SkippedRow(path, reason, detail, keys.get(index) if reason not in TRANSIENT else None)
            for index, path, reason, detail in result.skipped
        ]
        stamps = [
            FileStamp(keys[index], task.entries[index].size, task.entries[index].mtime_ns)
            for index in done
            if keys and index not in bad and task.entries[index].known
        ]
        unread = {
            keys[index]
            for index, path, reason, _ in result.skipped
            if keys
            and (
                reason in TRANSIENT | BROKEN
                # not of a member: the key is that of the archive, which was read
                or (reason in CUT and path == printable(task.entries[index].path))
            )
        }
        return Stored(blocks, skipped, stamps, sorted(unread))


def part(request: Request, store: StudyStore) -> Part:
    """What makes a worker ready to read."""
    wanted = request.wanted
    if request.filters.modalities:
        wanted = merge_wanted(wanted, {MODALITY: None})
    readers = SimpleNamespace(
        read_file=request.parts.read_file, read_stream=request.parts.read_stream
    )
    job = _Job(wanted, request.filters, readers, request.ignore_changed, store.scratch())
    return _begin, tuple(job)


def read_inputs(
    request: Request,
    inputs: list[Input],
    store: StudyStore,
    progress: Progress,
    stop: Stop,
    workers: Workers,
) -> Reading:
    """Read all inputs into the store."""
    job = _Job(*part(request, store)[1])
    version = f"{_tag_version(job.wanted)}|{request.filters.key()}"
    ingest = _Ingest(store, progress, version)
    progress.phase("reading")
    folders: list[str] = []
    planned = plan(
        inputs,
        names=request.names,
        filters=request.filters,
        follow_links=request.follow_links,
        with_stat=store.kept,
        folders=folders,
    )
    tasks = _todo(planned, ingest, stop)
    early: list[Task] = []
    if request.place is not None:
        _on_cluster(request.place, job, inputs, tasks, ingest, stop)
        tasks = iter(())
    elif request.jobs > 1:
        # Few files are read sooner than a worker starts.
        for task in tasks:
            early.append(task)
            if sum(len(t.entries) for t in early) > FEW or any(_large(t) for t in early):
                break
    if request.jobs > 1 and (sum(len(t.entries) for t in early) > FEW or any(map(_large, early))):
        _in_workers(workers, _chain(early, tasks), ingest, stop)
    else:
        for task in _chain(early, tasks):
            if stop:
                break
            _in_process(job, task, ingest, stop)
    ingest.flush()
    doubt = ingest.doubt
    if request.prune and store.kept and doubt is None:
        doubt = _missed(store, folders)
    return Reading(ingest.files, doubt)


def _missed(store: StudyStore, folders: list[str]) -> Skipped | None:
    """Give a folder that gives nothing now and did before: a disk that is not mounted is no reason to prune."""
    missed = store.missed(Entry(folder).key for folder in folders)
    return None if missed is None else Skipped(os.fsdecode(missed), NOTHING)


def _large(task: Task) -> bool:
    return task.kind == "archive" and (task.last is None or task.last - task.first > FEW)


def _chain(early: list[Task], rest: Iterator[Task]) -> Iterator[Task]:
    yield from early
    yield from rest


def _tag_version(wanted: Wanted) -> str:
    from hashlib import blake2b

    def plain(level: Wanted) -> list[Any]:
        return [[tag, plain(inner) if inner else None] for tag, inner in sorted(level.items())]

    return blake2b(_encode(plain(wanted)), digest_size=8).hexdigest()


def _todo(planned: Iterable[Task | Skipped], ingest: _Ingest, stop: Stop) -> Iterator[Task]:
    """Tasks without what an earlier run read as it is; skipped inputs go to the store on the way."""
    for item in planned:
        if stop:
            return
        if isinstance(item, Skipped):
            ingest.skip(item)
        elif not ingest.store.kept:
            yield item
        else:
            stamps = [FileStamp(e.key, e.size, e.mtime_ns) for e in item.entries]
            known = ingest.store.unchanged(stamps, ingest.version)
            left: tuple[Entry, ...] = tuple(
                entry for entry, same in zip(item.entries, known, strict=True) if not same
            )
            count = len(item.entries) - len(left)
            ingest.files += count
            ingest.progress.advance(count)
            if left:
                yield item._replace(entries=left)


class _Interrupted(Exception):  # noqa: N818  # a signal inside this module
    pass


def _in_process(job: _Job, task: Task, ingest: _Ingest, stop: Stop) -> None:
    def parts() -> Iterator[TaskResult]:
        for part in job.parts(task):
            yield part
            if stop and task.kind == "archive":
                raise _Interrupted

    try:
        ingest.add(task, parts())
    except _Interrupted:
        return  # half an archive is rolled back


def _in_workers(workers: Workers, tasks: Iterator[Task], ingest: _Ingest, stop: Stop) -> None:
    pool = Pool[Task, _Read](workers, _work, ingest.halves)
    try:
        with closing(pool.run(tasks, stop)) as results:
            for task, read in results:
                if read is None:
                    ingest.add(task, [_crashed(task)])
                    continue
                try:
                    ingest.add(task, read.parts())
                finally:
                    if read.spool:
                        Path(read.spool).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"Workers cannot hand over what they read ({error.strerror}). Free some space "
            "(TMPDIR names another folder for temporary files) and run again."
        ) from error


def _on_cluster(
    place: Place, job: _Job, inputs: list[Input], tasks: Iterator[Task], ingest: _Ingest, stop: Stop
) -> None:
    from converter.pipeline.cluster import Far, check, connected
    from converter.pipeline.far import Job

    with connected(place) as cluster:
        check(cluster, [item.real for item in inputs if not is_remote(item.real)])
        far = Far(cluster, Job(__version__, *job[:4]), ingest.halves)
        with closing(far.run(tasks, stop)) as results:
            for task, parts in results:
                ingest.add(task, [_crashed(task)] if parts is None else parts)


def _crashed(task: Task) -> TaskResult:
    """Result for a task whose reader died: its one file is the culprit."""
    return TaskResult(
        [],
        [(index, printable(e.path), "reader-crashed", "") for index, e in enumerate(task.entries)],
        files=len(task.entries),
    )
