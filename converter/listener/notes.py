"""Log lines that peers cause: each kind at once, then once a minute with a count, so that no peer fills the disk."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, TextIO

from converter.core.values import is_uid

__all__ = ["Notes", "log_name", "quiet_warnings"]

logger = logging.getLogger("converter.listener")
INTERVAL: Final = 60.0
MOST: Final = 64
"""Kinds that are told apart within an interval: a scanner takes another title each time."""
Key = tuple[int, str, str]


def log_name(uid: str) -> str:
    """A study or object in a log line: enough to find it by its UID, too little to be an identifier."""
    return blake2b(uid.encode(), digest_size=4).hexdigest()


class Notes:
    """What happened, to whom, and how often.

    Parameters
    ----------
    clock : callable
        Gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[Key, list[float]] = {}
        """Level, event and sender to when it is due again, and how often it came since it was told."""
        self._next = float("inf")

    def note(
        self,
        what: str,
        address: str = "",
        title: str = "",
        *,
        sop_instance: bytes = b"",
        level: int = logging.WARNING,
    ) -> None:
        """Log an event, or count it.

        Parameters
        ----------
        what : str
            The event, in our words alone.
        address, title : str
            Of the peer; what it sent is cleaned here.
        sop_instance : bytes
            Of the object; where it is a UID, its name in log lines is told.
        """
        with self._lock:
            key = level, what, _sender(address, title)
            if key not in self._held and len(self._held) >= MOST:
                key = level, what, "more senders"
            held = self._held.get(key)
            if held is not None:
                held[1] += 1
                return
            due = self._clock() + INTERVAL
            self._held[key] = [due, 0]
            self._next = min(self._next, due)
        uid = sop_instance.rstrip(b"\0 ").decode("latin_1")
        about = f", SOP instance {log_name(uid)}" if is_uid(uid) else ""
        logger.log(level, "%s: %s%s", what, key[2], about)

    def settle(self) -> None:
        """Log the counts that are due; to be called from time to time."""
        now = self._clock()
        if now < self._next:
            return
        lines = []
        with self._lock:
            for key, held in list(self._held.items()):
                if held[0] > now:
                    continue
                if held[1]:
                    lines.append((*key, int(held[1])))
                    self._held[key] = [now + INTERVAL, 0]
                else:
                    del self._held[key]
            self._next = min((due for due, _ in self._held.values()), default=float("inf"))
        for level, what, sender, count in lines:
            logger.log(level, "%s: %s, %d more within %d s", what, sender, count, INTERVAL)


def _sender(address: str, title: str) -> str:
    """Name a peer; a title is whatever somebody sent."""
    clean = "".join(c if c.isascii() and c.isprintable() and c not in "'\\" else "?" for c in title)
    return f"{address}, AE title '{clean[:16]}'" if clean else address


def quiet_warnings(notes: Notes) -> None:
    """Log of a library's warning its kind and place alone, from here on: its words hold values of peers."""

    def show(
        message: Warning | str,  # noqa: ARG001
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        place = "/".join(filename.rsplit("/", 2)[-2:])
        notes.note(f"{category.__name__} of a library", f"{place}:{lineno}", level=logging.INFO)

    # "default" would remember each text that a peer makes up
    warnings.simplefilter("always")
    warnings.showwarning = show
