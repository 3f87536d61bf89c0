"""A segment of a journal while it is written, and who waits for it."""

from __future__ import annotations

import os
from threading import Lock

from converter.listener.tail import HEADER

__all__ = ["Segment", "Waiter"]


class Waiter:
    """Somebody whose record waits for a sync that another makes."""

    __slots__ = ("leads", "lock", "synced")

    def __init__(self) -> None:
        self.lock = Lock()
        self.lock.acquire()
        self.synced = False
        self.leads = False

    def tell(self, *, synced: bool = False, leads: bool = False) -> None:
        """Wake it: its record is durable, or not, or it is its turn to sync."""
        self.synced, self.leads = synced, leads
        self.lock.release()


class Segment:
    """A file of the journal that is being written; its lock is the journal's."""

    __slots__ = (
        "coming",
        "descriptor",
        "end",
        "number",
        "pending",
        "size",
        "syncing",
        "waiting",
        "written",
    )

    def __init__(self, number: int, descriptor: int, size: int) -> None:
        self.number = number
        self.descriptor = descriptor
        self.size = size
        self.end = self.written = HEADER
        self.pending: list[bytes] = []
        """What callers appended and is not written yet: it takes the place from ``written`` to ``end``."""
        self.coming = 0
        """Records in these."""
        self.syncing = False
        """Whether somebody writes and syncs, or was told to."""
        self.waiting: list[Waiter] = []
        """Whose records are pending, the one that syncs left out."""

    def release(self) -> None:
        """Close the file for good."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
