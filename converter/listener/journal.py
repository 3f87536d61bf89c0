"""A receiver's journal: what it acknowledged, durable before the acknowledgement leaves.

A folder of segments. A segment is a file, written full of zeros and synced before its first record, so that
a record costs one write and one ``fdatasync`` that has no metadata to write. A record is a marker, its length, a
CRC-32 over length and payload, and the payload (`converter.listener.tail`); zeros end a segment. Only one process
appends (it holds the folder's lock), only one reads and deletes. A segment gets its name when the one before it is
finished, so a higher number says that nothing more comes. No file is used twice.

Records that come while a sync runs are written together by the first of those who wait: one write and one sync
for all of them, and nobody is woken who is not told something. Those who had their answer a moment ago are
waited for, a sync's time at most: one sync for all is better than two for a half each.

After a failed write or sync the kernel may have thrown the pages away and call the next sync a success. So a
segment that failed once is closed for good, and whoever waited for it is told; the next record opens a new one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Condition
from typing import Protocol

from converter.listener.segment import Segment, Waiter
from converter.listener.tail import HEADER, MAX_RECORD, pack_header, pack_record

__all__ = [
    "MAX_RECORD",
    "Journal",
    "JournalError",
    "System",
    "segments",
    "sync_folder",
]

SEGMENT = 8 << 20
RETRY = 0.5
"""Seconds after a failure in which no new segment is tried: a full disk is not asked once an image."""
HEAL = 2.0
"""Seconds after which one is tried although nobody sends."""
PATIENCE = 0.002
"""Seconds that a sync waits at most for records that may come; never longer than the last sync took."""
_NAME = re.compile(r"([0-9]{10})\.journal")
_ZEROS = bytes(1 << 20)


class JournalError(Exception):
    """A record is not durable and must not be acknowledged."""


class System(Protocol):
    """What the journal asks of the operating system."""

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write at an offset; give the number of bytes."""

    def datasync(self, descriptor: int) -> None:
        """Bring data to the disk."""

    def sync(self, descriptor: int) -> None:
        """Bring data and metadata to the disk."""


class _Real:
    write = staticmethod(os.pwrite)
    datasync = staticmethod(os.fdatasync if hasattr(os, "fdatasync") else os.fsync)
    sync = staticmethod(os.fsync)


def segments(folder: Path) -> list[tuple[int, Path]]:
    """(number, path) of the segments in a folder, in order."""
    names = (_NAME.fullmatch(entry.name) for entry in os.scandir(folder))
    return sorted((int(name[1]), folder / name[0]) for name in names if name is not None)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Journal:
    """The appending end.

    Parameters
    ----------
    folder : Path
        Made where it is absent (0700). Held by a lock as long as the journal is open.
    epoch : int
        Number of the daemon's run, kept in each segment: it orders what was received over restarts.
    segment_size : int
        Bytes of a segment; a larger record gets a segment of its size.
    system : System
        For tests of failing disks.

    Raises
    ------
    JournalError
        Another process holds the folder, or it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        epoch: int,
        *,
        segment_size: int = SEGMENT,
        system: System | None = None,
    ) -> None:
        self.folder = folder
        self._epoch = epoch
        self._marker = os.urandom(8)
        self._size = segment_size
        self._system: System = system or _Real()
        self._changed = Condition()
        self._segment: Segment | None = None
        self._retry_at = 0.0
        self._expected = 0
        """Callers that may come before the next sync: as many as were in the last, and came since."""
        self._patience = 0.0
        self.failing = False
        """Whether the last thing that was tried failed: what comes next may well be refused."""
        self.records = 0
        self.syncs = 0
        self.failures = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = lock_folder(folder)
            numbers = [number for number, _ in segments(folder)]
        except OSError as error:
            raise JournalError(f"The journal folder cannot be used ({error.strerror}).") from error
        self._next = 1 + max(numbers, default=0)

    def append(self, payload: bytes) -> None:
        """Append a record and return when it is durable.

        Callers that come while a sync runs share the next one.

        Raises
        ------
        JournalError
            It is not durable.
        """
        self.append_all((payload,))

    def append_all(self, payloads: Sequence[bytes]) -> None:
        """Append records, as `append` does one: all with one sync.

        Raises
        ------
        JournalError
            None of them may be acknowledged.
        """
        if any(len(payload) > MAX_RECORD for payload in payloads):
            raise JournalError("A record is larger than the journal takes.")
        record = b"".join([pack_record(payload, self._marker) for payload in payloads])
        with self._changed:
            segment = self._room(len(record))
            segment.pending.append(record)
            segment.coming += len(payloads)
            segment.end += len(record)
            if len(segment.pending) == self._expected:
                self._changed.notify_all()
            if not segment.syncing:
                self._sync(segment)
                return
            waiter = Waiter()
            segment.waiting.append(waiter)
        waiter.lock.acquire()  # until it is told
        if waiter.leads:
            with self._changed:
                self._sync(segment)
        elif not waiter.synced:
            raise JournalError("The journal was not brought to the disk.")

    def _sync(self, segment: Segment) -> None:
        """Bring all that is pending to the disk; then it is the turn of the first of those that came since."""
        segment.syncing = True
        if len(segment.pending) < self._expected:
            # Those who were told a moment ago bring their next one at once, or never: one sync for all is worth a wait.
            self._changed.wait_for(lambda: len(segment.pending) >= self._expected, self._patience)
        at, segment.written = segment.written, segment.end
        records, segment.pending = segment.pending, []
        count, segment.coming = segment.coming, 0
        covered, segment.waiting = segment.waiting, []
        failure: BaseException | None = None
        self._changed.release()
        began = time.monotonic()
        try:
            data = b"".join(records)
            if self._system.write(segment.descriptor, data, at) != len(data):
                raise OSError(errno.EIO, "written in part")  # noqa: TRY301  # as any other failure
            self._system.datasync(segment.descriptor)
        except OSError as error:
            failure = error
            raise JournalError(
                f"The journal was not brought to the disk ({error.strerror})."
            ) from error
        except BaseException as error:
            failure = error
            raise
        finally:
            self._changed.acquire()
            if failure is None:
                self.syncs += 1
                self.records += count
            else:
                self._fail(segment)
                covered += segment.waiting
                segment.waiting = []
            self._expected = len(records) + len(segment.waiting)
            self._patience = min(time.monotonic() - began, PATIENCE)
            for waiter in covered:
                waiter.tell(synced=failure is None)
            if segment.waiting:
                segment.waiting.pop(0).tell(leads=True)
            else:
                segment.syncing = False
                self._changed.notify_all()

    def _room(self, size: int) -> Segment:
        while (segment := self._segment) is not None:
            if segment.end + size <= segment.size:
                return segment
            if segment.syncing:
                self._changed.wait()  # those who wait for it come first
            else:
                self._segment = None
                segment.release()
        if time.monotonic() < self._retry_at:
            raise JournalError("The journal failed a moment ago.")
        self._segment = self._open(max(self._size, 2 * HEADER + size))
        return self._segment

    def _open(self, size: int) -> Segment:
        name = f"{self._next:010d}.journal"
        path = self.folder / (name + ".new")
        descriptor = -1
        try:
            descriptor = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            header = pack_header(self._epoch, self._marker)
            self._write_all(descriptor, header, 0)
            at, end = HEADER, size - HEADER
            while at < end:
                at += self._write_all(descriptor, _ZEROS[: end - at], at)
            self._write_all(descriptor, header, end)
            self._system.sync(descriptor)
            path.rename(self.folder / name)
            sync_folder(self.folder)
        except (OSError, JournalError) as error:
            self.failures += 1
            self.failing = True
            self._retry_at = time.monotonic() + RETRY
            if descriptor >= 0:
                os.close(descriptor)
            path.unlink(missing_ok=True)
            (self.folder / name).unlink(missing_ok=True)
            raise JournalError("No new segment of the journal can be made.") from error
        self._next += 1
        self.failing = False
        return Segment(self._next - 1, descriptor, end)

    def _write_all(self, descriptor: int, data: bytes, offset: int) -> int:
        done = 0
        while done < len(data):
            count = self._system.write(descriptor, data[done:], offset + done)
            if count <= 0:
                raise JournalError("The journal was written in part.")
            done += count
        return done

    def _fail(self, segment: Segment) -> None:
        """Close a segment for good; its number is used up, so that its reader knows that it is finished."""
        self.failures += 1
        self.failing = True
        self._retry_at = time.monotonic() + RETRY
        if self._segment is segment:
            self._segment = None
        segment.release()

    def heal(self) -> None:
        """After a failure, try a new segment: who is told that nothing is taken sends nothing that would try it."""
        with self._changed:
            if self.failing and time.monotonic() >= self._retry_at + HEAL:
                with suppress(JournalError):
                    self._room(0)

    def backlog(self) -> int:
        """Bytes of segments that nobody has taken in yet, the one in use left out."""
        with self._changed:
            current = self._segment.number if self._segment else self._next
        total = 0
        for number, path in segments(self.folder):
            if number < current:
                try:
                    total += path.stat().st_size
                except FileNotFoundError:
                    continue
        return total

    def close(self) -> None:
        """Close; whatever was acknowledged is on the disk."""
        with self._changed:
            segment, self._segment = self._segment, None
            while segment is not None and segment.syncing:
                self._changed.wait()
            if segment is not None:
                segment.release()
        os.close(self._lock)


def lock_folder(folder: Path) -> int:
    """Take the lock of a journal folder and give its descriptor.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    """
    descriptor = os.open(
        folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
