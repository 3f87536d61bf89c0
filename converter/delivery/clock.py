"""Time as the sender sees it; a test may let it run faster."""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import TypeVar

__all__ = ["Clock"]

T = TypeVar("T")
SET = 2.0
"""Seconds from which on a clock that differs was set."""


class Clock:
    """Seconds since 1970, and waiting.

    Parameters
    ----------
    scale : float
        How many of its seconds go by in a real one.
    ahead : float
        Seconds by which the clock that others share is ahead of this machine's.
    """

    def __init__(self, scale: float = 1.0, *, ahead: float = 0.0) -> None:
        self.scale = scale
        self._ahead = ahead
        self._start = time.time()
        self._real = time.monotonic()
        self._apart = time.time() - self._real

    def now(self) -> float:
        """Seconds since 1970."""
        if self.scale == 1.0:
            return time.time() + self._ahead
        return self._start + (time.monotonic() - self._real) * self.scale

    def apart(self) -> tuple[str, float]:
        """(name, seconds) of the clock that nobody sets, and by how much the machine's is ahead of it.

        It counts from the start of the machine, so each start gives it another name; empty where the system has none.
        """
        try:
            name = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            name = ""
        return name, time.time() - time.monotonic()

    def set_by(self) -> float:
        """Seconds by which the machine's clock was set since this was asked last; 0 where nobody did."""
        by = time.time() - time.monotonic() - self._apart
        if self.scale != 1.0 or abs(by) < SET:
            return 0.0
        self._apart += by
        return by

    def keep(self, by: float) -> None:
        """Go on as before, although the machine's clock was set: for a clock that is shared with others."""
        self._ahead -= by

    def get(self, box: queue.SimpleQueue[T], seconds: float) -> T | None:
        """Wait for something in a queue, for so long at most."""
        try:
            return box.get(timeout=max(0.0, seconds / self.scale))
        except queue.Empty:
            return None
