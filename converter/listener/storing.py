"""One object: its header taken out, checked, brought to the journal, and what to answer. Both paths come here."""

from __future__ import annotations

import logging
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from converter.core.header import Unreadable, Wanted
from converter.listener.dataset import SMALL, DataSet, preamble
from converter.listener.files import fault_of
from converter.listener.hub import Pending
from converter.listener.journal import MAX_RECORD, Journal, JournalError
from converter.listener.keeping import Keeper, Keeping
from converter.listener.notes import Notes
from converter.listener.record import Received, pack_received
from converter.listener.status import STATUSES, Answer, of_reason
from converter.listener.wire import Command, Interruption
from converter.reading import Limits, Read, read_bytes, read_stream

__all__ = ["DURATIONS", "Connection", "Guard", "Storer", "Whole"]

LIMITS: Final = Limits(header=1 << 20, inflate=64 << 20)
"""Of one object: no value beyond 1 MiB, so that no peer decides how much memory we take."""

DURATIONS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Upper bounds, in seconds, by which C-STOREs are counted."""

logger = logging.getLogger("converter.listener")
_preamble = cache(preamble)


@dataclass(slots=True)
class Connection:
    """One connection, as the receiver knows it."""

    number: int
    address: str
    calling: str = ""
    peer: str = ""
    """Its name in the configuration."""
    study: str = ""
    """Study of the object that arrives now, or came last."""
    established: bool = False


class Guard:
    """Says when nothing more is taken: disk under its reserve, journal not taken in, end of the drain.

    Parameters
    ----------
    folders : sequence of Path
        The journal's, and that of whole objects.
    reserve : int
        Bytes that must stay free, on the disk of each.
    backlog : callable
        Gives bytes that wait in the journal.
    limit : int
        Of the backlog.
    """

    INTERVAL = 0.25

    def __init__(
        self, folders: Sequence[Path], reserve: int, backlog: Callable[[], int], limit: int
    ) -> None:
        self._folders = folders
        self._reserve = reserve
        self._backlog = backlog
        self._limit = limit
        self._next = 0.0
        self._held = ""
        self.closing = False

    def refuses(self) -> str:
        """Name of the status to refuse with, or empty."""
        if self.closing:
            return "shutting-down"
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self.INTERVAL
            self._held = self._look()
        return self._held

    def _look(self) -> str:
        try:
            for folder in self._folders:
                disk = os.statvfs(folder)
                if disk.f_bavail * disk.f_frsize < self._reserve:
                    return "disk-reserve"
            return "backlog" if self._backlog() > self._limit else ""
        except OSError:
            return "journal-failed"


class Whole:
    """`DataSet` that is in memory as a whole: what the stock path has."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def whole(self) -> bytes | None:
        """See `DataSet.whole`."""
        return self.read() if len(self._data) <= SMALL else None

    def read(self, size: int = -1, /) -> bytes:
        """See `DataSet.read`."""
        data = self._data[self._at : self._at + size if size >= 0 else None]
        self._at += len(data)
        return data

    def skip(self, size: int, /) -> int:
        """See `DataSet.skip`."""
        size = min(size, len(self._data) - self._at)
        self._at += size
        return size

    def seekable(self) -> bool:
        """See `DataSet.seekable`."""
        return False

    def drain(self) -> None:
        """See `DataSet.drain`."""


@dataclass(slots=True)
class _Prefixed:
    """A data set with a preamble before it, as the header reader's stream."""

    before: bytes
    data: DataSet

    def read(self, size: int = -1, /) -> bytes:
        if self.before:
            before, self.before = self.before, b""
            return before + self.data.read(size)
        return self.data.read(size)

    def skip(self, size: int, /) -> int:
        return self.data.skip(size)

    def seekable(self) -> bool:
        return False


@dataclass(slots=True)
class Storer:
    """What a receiver does with objects.

    Parameters
    ----------
    journal : Journal or None
        ``None`` answers without keeping anything: for measuring what receiving costs by itself.
    wanted : Wanted
    guard : Guard
    success : str
        Name of the status for success.
    """

    journal: Journal | None
    wanted: Wanted
    guard: Guard
    success: str = "success"
    tag_set: str = ""
    """Name of `wanted`."""
    keeper: Keeper | None = None
    """Keeps more than the wanted attributes."""
    notes: Notes = field(default_factory=Notes)
    statuses: Counter[str] = field(default_factory=Counter)
    durations: Counter[str] = field(default_factory=Counter)
    """Objects by place among `DURATIONS`, and all their microseconds (``us``)."""

    def store(
        self, connection: Connection, context: tuple[str, str], command: Command, data: DataSet
    ) -> Answer:
        """See `converter.listener.fastpath.Storing.store`."""
        pending = self.begin(connection, context, command, data)
        return self._answer(pending, pending.name or self._append((pending.payload,)))

    def begin(
        self, connection: Connection, context: tuple[str, str], command: Command, data: DataSet
    ) -> Pending:
        """Take an object's header out and check it: all that comes before the journal.

        Raises
        ------
        Interruption
            From the data set.
        """
        pending = Pending(time.perf_counter(), sender=connection, sop_instance=command.sop_instance)
        try:
            self._begin(connection, context, command, data, pending)
        except Interruption:
            self.statuses["interrupted"] += 1
            _discard(pending)
            raise
        except Exception as error:  # a fault of ours must not look like a fault of the object
            logger.exception("an object could not be stored: %s", type(error).__name__)
            pending.name = "internal"
        return pending

    def keep(self, several: Sequence[Pending]) -> list[Answer]:
        """Bring objects to the journal, with one sync for all, and say what to answer each."""
        payloads = [pending.payload for pending in several if not pending.name]
        name = self._append(payloads) if payloads else ""
        return [self._answer(pending, pending.name or name) for pending in several]

    def _append(self, payloads: Sequence[bytes]) -> str:
        """Name of the status of objects that are to be in the journal."""
        if self.journal is not None:
            try:
                self.journal.append_all(payloads)
            except JournalError:
                return "journal-failed"
            except Exception as error:
                logger.exception("objects could not be kept: %s", type(error).__name__)
                return "internal"
        return self.success

    def _answer(self, pending: Pending, name: str) -> Answer:
        if name != self.success:
            _discard(pending)
            self._refused(pending, name)
        took = time.perf_counter() - pending.began
        self.durations[str(bisect_left(DURATIONS, took))] += 1
        self.durations["us"] += int(took * 1e6)
        self.statuses[name] += 1
        return STATUSES[name]

    def _refused(self, pending: Pending, name: str) -> None:
        sender = pending.sender
        self.notes.note(
            f"object refused with 0x{STATUSES[name].code:04X}, {name}",
            sender.address if sender else "",
            sender.calling if sender else "",
            sop_instance=pending.sop_instance,
        )

    def _begin(
        self,
        connection: Connection,
        context: tuple[str, str],
        command: Command,
        data: DataSet,
        pending: Pending,
    ) -> None:
        abstract_syntax, transfer_syntax = context
        if name := self.guard.refuses():
            pending.name = name
            return
        if _text(command.sop_class) != abstract_syntax:
            pending.name = "sop-class-not-supported"
            return
        keeping = None
        if self.keeper is not None:
            try:
                keeping = self.keeper.begin(transfer_syntax, command, connection.calling, data)
            except OSError as error:
                pending.name = fault_of(error)
                return
            pending.discard = keeping.discard
            data = keeping.data
        read = self._read(connection, context, command, data)
        if isinstance(read, str):
            pending.name = read
        else:
            self._pack(connection, read, keeping, pending)

    def _read(
        self, connection: Connection, context: tuple[str, str], command: Command, data: DataSet
    ) -> Read | str:
        """Header of an object, or the name of the status to refuse it with."""
        abstract_syntax, transfer_syntax = context
        before = _preamble(transfer_syntax)
        small = data.whole()
        read: Read | Unreadable
        if small is not None:
            read = read_bytes(before + small, self.wanted, limits=LIMITS)
        else:
            read = read_stream(_Prefixed(before, data), None, self.wanted, limits=LIMITS)  # type: ignore[arg-type]
        if isinstance(read, Unreadable):
            return of_reason(read.reason).name
        if (
            read.sop_class_uid != abstract_syntax
            or _text(command.sop_instance) != read.sop_instance_uid
        ):
            return "uid-mismatch"
        connection.study = read.study_instance_uid
        data.drain()
        return read

    def _pack(
        self, connection: Connection, read: Read, keeping: Keeping | None, pending: Pending
    ) -> None:
        findings, header, file = list(read.findings), b"", ""
        if keeping is not None:
            if fault := keeping.finish():
                pending.name = fault
                return
            header, file = keeping.header(), keeping.file
            if not header and self.keeper is not None and self.keeper.headers:
                findings.append("header-not-kept")
        if self.journal is None:
            return
        pending.payload = pack_received(
            Received(
                time.monotonic_ns(),
                connection.number,
                connection.calling,
                read.study_instance_uid,
                read.series_instance_uid,
                read.sop_instance_uid,
                findings,
                read.header,
                connection.peer,
                self.tag_set,
                header,
                file,
            )
        )
        if len(pending.payload) > MAX_RECORD:
            pending.name = "header-limit"


def _discard(pending: Pending) -> None:
    if pending.discard is not None:
        pending.discard()


def _text(uid: bytes) -> str:
    return uid.rstrip(b"\0 ").decode("latin_1")
