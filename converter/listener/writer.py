"""The one writer: takes in what the receivers' journals hold, in batches, and deletes what is taken in."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from converter.errors import StoreError
from converter.listener.files import settle
from converter.listener.journal import lock_folder, segments
from converter.listener.ledger import Ledger
from converter.listener.notes import log_name
from converter.listener.record import Received, unpack_received
from converter.listener.tail import Tail

__all__ = ["Writer", "receiver_folders", "waiting_bytes"]

BATCH = 2 << 20
"""Bytes of the journals that one transaction takes in."""
KEPT_TORN = 4
logger = logging.getLogger("converter.listener")


def receiver_folders(journal: Path) -> list[Path]:
    """Folders of receivers, of this run and of earlier ones."""
    return sorted(path for path in journal.glob("r[0-9]*") if path.is_dir())


def waiting_bytes(journal: Path) -> int:
    """Bytes of finished segments that are still to be taken in, where no `Writer` knows what is of those in use."""
    total = 0
    for folder in receiver_folders(journal):
        for _, path in segments(folder)[:-1]:
            with suppress(FileNotFoundError):
                total += path.stat().st_size
    return total


class Writer:
    """Ingests journals into the ledger.

    Parameters
    ----------
    ledger : Ledger
    changed : callable
        Told of each study that changed, with its state and its last connections: ``(study, state)``.
    authoritative : callable
        Whether a peer (by its name) ends a conflict of patients.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        changed: Callable[[str, str], None],
        authoritative: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._changed = changed
        self._authoritative = authoritative
        self._clock = clock
        self._tails: dict[Path, Tail] = {}
        self.counts: Counter[str] = Counter()
        self.damaged = 0
        """Records that cannot be read although others follow, at least."""
        self.behind = False
        """Whether the latest batch left something for the next."""

    def ingest(self, folders: Iterable[Path], *, finished: bool = False) -> int:
        """Take in what is there; give the number of records.

        Parameters
        ----------
        folders : iterable of Path
        finished : bool
            Nobody appends any more, so the last segment goes as well.

        Raises
        ------
        StoreError
            The store cannot take it now; nothing is lost, the next call tries again.
        """
        batch: list[tuple[int, Received]] = []
        reading: list[tuple[Tail, int]] = []
        over: list[tuple[Path, Tail]] = []
        size = 0
        for folder in folders:
            found = segments(folder)
            last = found[-1][0] if found else 0
            for number, path in found:
                if size >= BATCH:
                    break
                tail = self._tail(path)
                reading.append((tail, tail.offset))
                ended = finished or number < last
                while size < BATCH and ((payloads := tail.read()) or (ended and tail.skip())):
                    size += sum(map(len, payloads))
                    batch += [(tail.epoch, one) for one in map(self._unpack, payloads) if one]
                if size < BATCH and ended:
                    over.append((path, tail))
        if batch:
            # Of two copies that came on two associations the later must come later here as well.
            batch.sort(key=lambda item: (item[0], item[1].stamp))
            try:
                self._take(batch)
            except BaseException:
                for tail, offset in reading:
                    tail.offset = offset
                raise
        for path, tail in over:
            self._delete(path, tail)
        self.behind = size >= BATCH
        return len(batch)

    def _take(self, batch: list[tuple[int, Received]]) -> None:
        senders = {one.peer for _, one in batch}
        believed = {name for name in senders if self._authoritative(name)}
        done = self._ledger.ingest(batch, self._clock(), believed)
        self.counts.update(done.counts)
        for study, before, after in done.replaced:
            logger.info(
                "an instance of study %s was replaced: digest %s by %s",
                log_name(study),
                before,
                after,
            )
        for study, state in done.changed.items():
            if state == "conflict":
                logger.warning("study %s holds two patients: it is held back", log_name(study))
            self._changed(study, state)
        self._place(batch, done.older)  # last: where it fails, what is taken in still settles

    @staticmethod
    def _place(batch: list[tuple[int, Received]], older: set[tuple[int, int, str]]) -> None:
        """Move the files of a batch to their places."""
        moved: list[tuple[str, str, str]] = []
        left: list[str] = []
        for epoch, one in batch:
            if not one.file:
                continue
            if (epoch, one.stamp, one.sop_instance_uid) in older:
                left.append(one.file)
            else:
                moved.append((one.file, one.study_instance_uid, one.sop_instance_uid))
        try:
            if moved or left:
                settle(moved, left)
        except OSError as error:
            raise StoreError(
                f"Files of whole objects cannot be moved ({error.strerror}): look at the disk of --keep-files."
            ) from error

    def _unpack(self, payload: bytes) -> Received | None:
        try:
            return unpack_received(payload)
        except msgspec.MsgspecError:
            self.counts["unreadable"] += 1
            logger.error("a record of the journal is of another version and was left out")  # noqa: TRY400
            return None

    def _tail(self, path: Path) -> Tail:
        tail = self._tails.get(path)
        if tail is None:
            tail = self._tails[path] = Tail(path)
        return tail

    def _delete(self, path: Path, tail: Tail) -> None:
        """Remove a segment that is taken in; what could not be read of it is said, and the file is kept."""
        name = f"{path.parent.name}/{path.name}"
        torn = tail.torn()
        gaps = list(tail.gaps.values())
        tail.close()
        del self._tails[path]
        for gap in gaps:
            logger.error(
                "the journal %s is damaged: %d bytes from %d on; at least %d records, which senders take for stored, are lost",
                name,
                gap.end - gap.start,
                gap.start,
                gap.records,
            )
        if not tail.known:
            logger.error("the journal %s cannot be read: %d bytes, no header", name, tail.size)
        elif not tail.whole:
            logger.error(
                "the header of the journal %s is damaged; the one at its end is used", name
            )
        lost = sum(gap.records for gap in gaps) + (not tail.known)
        self.damaged += lost
        if lost or not tail.whole:
            self._keep(path, "damaged")
        elif torn:
            # Cut where its writer died. It was never acknowledged, but nobody is to take our word for it.
            logger.warning(
                "the journal %s ends in a torn record: %d bytes from %d on", name, torn, tail.offset
            )
            self._keep(path, "torn")
            for old in sorted(path.parent.glob("*.torn"))[:-KEPT_TORN]:
                old.unlink()
        else:
            path.unlink()

    def _keep(self, path: Path, kind: str) -> None:
        """Set a segment aside. Numbers begin again, times do not: no file takes the place of another."""
        path.rename(path.with_name(f"{time.time_ns()}-{path.stem}.{kind}"))

    def waiting(self, folders: Iterable[Path]) -> int:
        """Bytes that are still to be taken in, those of segments in use as well."""
        total = 0
        for folder in folders:
            found = segments(folder)
            for number, path in found:
                with suppress(FileNotFoundError):
                    if number == found[-1][0]:
                        self._tail(path)  # most of it may be empty
                    tail = self._tails.get(path)
                    total += tail.waiting() if tail else path.stat().st_size
        return total

    def recover(self, journal: Path, *, patience: float = 10.0) -> int:
        """Take in what an earlier run left.

        Raises
        ------
        StoreError
            A receiver of an earlier run does not end.
        """
        count = 0
        for folder in receiver_folders(journal):
            deadline = time.monotonic() + patience
            while True:
                try:
                    lock = lock_folder(folder)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreError(
                            f"A receiver of an earlier run still holds {folder}: end that process."
                        ) from None
                    time.sleep(0.02)
                else:
                    break
            try:
                for left in folder.glob("*.new"):
                    left.unlink()
                while taken := self.ingest([folder], finished=True):
                    count += taken
            finally:
                os.close(lock)
        return count

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()
