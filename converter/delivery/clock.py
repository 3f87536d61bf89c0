"""Time as the sender sees it; a test may let it run faster."""

from __future__ import annotations

import queue
import time
from typing import TypeVar

__all__ = ["Clock"]

T = TypeVar("T")


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

    def now(self) -> float:
        """Seconds since 1970."""
        if self.scale == 1.0:
            return time.time() + self._ahead
        return self._start + (time.monotonic() - self._real) * self.scale

    def get(self, box: queue.SimpleQueue[T], seconds: float) -> T | None:
        """Wait for something in a queue, for so long at most."""
        try:
            return box.get(timeout=max(0.0, seconds / self.scale))
        except queue.Empty:
            return None
