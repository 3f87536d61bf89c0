"""What a sender counts, and how long it waits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Tally", "Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    lease: float = 600.0
    base: float = 1.0
    cap: float = 300.0
    probe: float = 300.0


@dataclass(slots=True)
class Tally:
    """What a sender did."""

    delivered: int = 0
    unchanged: int = 0
    """Of those, how many stood there already as they are."""
    attempts: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Studies that wait for a person, by reason code."""
    waiting: dict[str, int] = field(default_factory=dict)
    """Studies still due, by destination."""
    circuits: dict[str, str] = field(default_factory=dict)
    """Destination to why nothing can be sent there."""
    last: dict[str, str] = field(default_factory=dict)
    """Destination to how the latest attempt there failed."""

    @property
    def undelivered(self) -> int:
        """Studies that are still due."""
        return sum(self.waiting.values())
