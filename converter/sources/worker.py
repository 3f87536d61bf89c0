"""Read one task: headers in, packed blocks out. Runs in whatever process, knows no store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, cast

from converter.core.header import Header, Split, Unreadable, Wanted
from converter.core.study import pack, pack_block
from converter.reading.result import DEFAULT, Limits
from converter.sources import archives
from converter.sources.ahead import Ahead
from converter.sources.task import Entry, Filters, Packed, Task, TaskResult, is_remote, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from converter.reading.reader import Opened

__all__ = ["Readers", "read_task"]

ROWS = 2000
"""Instances of one part of a result at most, and so of one block."""
SIZE = 16 << 20
"""Bytes of headers of one part, about: evidence and content sequences may be large."""
MODALITY = 0x00080060

_MAYBE_ARCHIVE = frozenset(
    {
        "not-dicom",
        "malformed",
        "truncated-header",
        "not-an-instance",
        "no-study-uid",
        "no-series-uid",
        "no-sop-uid",
        "invalid-uid",
        "too-deep",
    }
)
"""What a reader says of an archive, which it does not know."""


class HeaderRead(Protocol):
    """What a reader gives for an instance (`converter.reading.Read`)."""

    @property
    def header(self) -> Header: ...
    @property
    def kept(self) -> Header | Split: ...
    @property
    def study_instance_uid(self) -> str: ...
    @property
    def series_instance_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def findings(self) -> Sequence[str]: ...


class Readers(Protocol):
    """How bytes become headers; `converter.reading` is the real one."""

    def read_file(
        self,
        path: str,
        wanted: Wanted,
        *,
        ignore_changed: bool = False,
        opened: Opened | None = None,
    ) -> HeaderRead | Unreadable:
        """Read a file, which may have been opened ahead."""
        ...

    def read_stream(
        self, stream: BinaryIO, size: int | None, wanted: Wanted, *, limits: Limits = DEFAULT
    ) -> HeaderRead | Unreadable:
        """Read a member of an archive, or an object in a store."""
        ...


class _Collector:
    """Groups what was read by (study, series) and gives it away in bounded parts."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters
        self.groups: dict[
            tuple[str, str], list[tuple[str, Header | Split, str, Sequence[str]]]
        ] = {}
        self.entries: dict[tuple[str, str], dict[int, None]] = {}
        self.rows = 0
        self.size = 0
        self.result = TaskResult([], [])

    def skip(self, index: int, path: str, reason: str, detail: str = "") -> None:
        self.result.skipped.append((index, path, reason, detail))

    def add(self, index: int, source: str, read: HeaderRead | Unreadable) -> None:
        if isinstance(read, Unreadable):
            self.skip(index, source, read.reason, read.detail)
            return
        filters = self.filters
        if filters.study_uids and read.study_instance_uid not in filters.study_uids:
            self.skip(index, source, "filtered", "--study-uid")
            return
        if filters.modalities:
            modality = (
                read.header.get(MODALITY, b"").decode("ascii", "replace").strip(" \0").upper()
            )
            if modality not in filters.modalities:
                self.skip(index, source, "filtered", "--modality")
                return
        key = (read.study_instance_uid, read.series_instance_uid)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = []
            self.entries[key] = {}
        kept = read.kept
        group.append((read.sop_instance_uid, kept, source, read.findings))
        self.entries[key][index] = None
        self.rows += 1
        # what a header shares with others is held once
        self.size += sum(map(len, kept.values if isinstance(kept, Split) else kept.values()))

    @property
    def full(self) -> bool:
        return self.rows >= ROWS or self.size >= SIZE or len(self.result.skipped) >= 5 * ROWS

    def take(self) -> TaskResult:
        result = self.result
        for (study, series), instances in self.groups.items():
            result.blocks.append(
                Packed(
                    study,
                    series,
                    len(instances),
                    pack_block(pack(study, series, instances)),
                    list(self.entries[study, series]),
                )
            )
        result.instances = self.rows
        self.groups, self.entries, self.rows, self.size = {}, {}, 0, 0
        self.result = TaskResult([], [])
        return result


def read_task(
    task: Task,
    wanted: Wanted,
    filters: Filters,
    readers: Readers,
    *,
    ignore_changed: bool = False,
) -> Iterator[TaskResult]:
    """Read a task in bounded parts: at least one, the last of which finishes its entries.

    Parameters
    ----------
    task : Task
    wanted : Wanted
        Attributes to keep.
    filters : Filters
    readers : Readers
        `converter.reading`.
    ignore_changed : bool
        Take a file that changed while it was read.
    """
    collector = _Collector(filters)
    if task.kind == "files" and any(is_remote(entry.path) for entry in task.entries):
        yield from _far(task, collector, wanted, readers, ignore_changed)
        return
    with Ahead([entry.path for entry in task.entries] if task.kind == "files" else ()) as ahead:
        for index, entry in enumerate(task.entries):
            kind = archives.sniff(entry.path) if task.kind == "archive" else ""
            if task.kind == "files":
                opened = ahead.reach(index)
                collector.result.files += 1
                read = readers.read_file(
                    entry.path, wanted, ignore_changed=ignore_changed, opened=opened
                )
                if isinstance(read, Unreadable) and read.reason in _MAYBE_ARCHIVE:
                    kind = archives.sniff(entry.path)
                if not kind:
                    path = entry.path
                    collector.add(index, path if path.isascii() else printable(path), read)
            if kind or task.kind == "archive":
                yield from _archive(task, index, collector, wanted, readers, ignore_changed)
            collector.result.done += 1
            if collector.full:
                yield collector.take()
    yield collector.take()


def _far(
    task: Task, collector: _Collector, wanted: Wanted, readers: Readers, ignore_changed: bool
) -> Iterator[TaskResult]:
    """Do as `read_task` where some of the entries are addresses."""
    from converter.sources.ranges import Heads

    with Heads(task.entries, ignore_changed=ignore_changed) as heads:
        for index, entry in enumerate(task.entries):
            collector.result.files += 1
            read: HeaderRead | Unreadable
            if is_remote(entry.path):
                read, start = heads.read(index, wanted, readers)
            else:
                read, start = (
                    readers.read_file(entry.path, wanted, ignore_changed=ignore_changed),
                    b"",
                )
            kind = ""
            if isinstance(read, Unreadable) and read.reason in _MAYBE_ARCHIVE:
                kind = archives.sniff_bytes(start) if start else archives.sniff(entry.path)
            if kind and not archives.is_document(printable(entry.path)):
                yield from _archive(task, index, collector, wanted, readers, ignore_changed)
            else:
                collector.add(index, printable(entry.path), read)
            collector.result.done += 1
            if collector.full:
                yield collector.take()
    yield collector.take()


def _archive(
    task: Task,
    index: int,
    collector: _Collector,
    wanted: Wanted,
    readers: Readers,
    ignore_changed: bool,
) -> Iterator[TaskResult]:
    entry = task.entries[index]
    shown = printable(entry.path)
    before = _stamp(entry)
    taken = False
    for member in archives.members(entry.path, task.first, task.last):
        if not isinstance(member, archives.Member):
            name, why = member
            reason, detail = why.reason, why.detail
            if not (collector.filters.takes(name) if name else taken or _meant(entry, collector)):
                reason, detail = "filtered", ""
            collector.skip(index, f"{shown}!/{name}" if name else shown, reason, detail)
            continue
        source = f"{shown}!/{member.name}"
        collector.result.files += 1
        if collector.filters.takes(member.name):
            taken = True
            collector.add(index, source, _member(member, wanted, readers))
        else:
            collector.skip(index, source, "filtered")
        if collector.full:
            yield collector.take()
    if not ignore_changed and _stamp(entry) != before:
        collector.skip(index, shown, "changed-while-reading", "What was read of it is used.")


def _meant(entry: Entry, collector: _Collector) -> bool:
    """Whether the filters let an archive through by its own name, however its input was named."""
    parts = printable(entry.path).split("/")
    return any(collector.filters.takes("/".join(parts[at:])) for at in range(len(parts)))


def _stamp(entry: Entry) -> tuple[int, int] | None:
    if is_remote(entry.path):
        from converter.sources.ranges import stamp

        return stamp(entry.path)
    try:
        status = os.stat(entry.path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _member(member: archives.Member, wanted: Wanted, readers: Readers) -> HeaderRead | Unreadable:
    """Read one member: the boundary at which what is wrong with it becomes a value."""
    try:
        with member.open() as stream:
            kind = "" if archives.is_document(member.name) else archives.sniff_bytes(stream.head)
            read = readers.read_stream(
                cast("BinaryIO", stream), member.size if member.size >= 0 else None, wanted
            )
            if kind and isinstance(read, Unreadable) and read.reason in _MAYBE_ARCHIVE:
                return Unreadable("nested-archive", f"A {kind} archive within an archive.")
            return read
    except archives.InflateLimitError:
        return Unreadable("inflate-limit")
    except RuntimeError as error:  # zipfile: a password is needed
        return Unreadable("encrypted-member", type(error).__name__)
    except (*archives.BROKEN, OSError) as error:
        return Unreadable("unreadable-member", archives.words(error))
