"""What the threads of a sender know together of one server."""

from __future__ import annotations

import threading

__all__ = ["Shared"]


class Shared:
    """What threads know together of companions at one server, so that each is made by one of them."""

    MOST = 5000

    def __init__(self) -> None:
        self._references: dict[str, str] = {}
        self._locks = [threading.Lock() for _ in range(64)]

    def lock(self, of: str) -> threading.Lock:
        """Lock of a companion."""
        return self._locks[hash(of) % len(self._locks)]

    def get(self, of: str) -> str:
        """Reference there; empty where nobody knows."""
        return self._references.get(of, "")

    def put(self, of: str, reference: str) -> None:
        """Note one; an empty reference forgets it."""
        if len(self._references) >= self.MOST:
            self._references.clear()  # the outbox remembers
        self._references[of] = reference
