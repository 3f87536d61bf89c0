"""When is a study quiet? DIMSE gives no meaning to the end of an association (PS3.4 B.4), so nothing is ever closed."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

__all__ = ["Settler"]


@dataclass(slots=True)
class _Timer:
    first: float
    """When the first change came that is not published."""
    last: float
    """When the last one came, or an association last carried the study."""


class Settler:
    """Timers of studies that changed. All times are monotonic seconds, given by the caller.

    Parameters
    ----------
    quiet : float
        Seconds without a change after which a study is published.
    cap : float
        Seconds after the first change after which it is published however busy it is.
    """

    def __init__(self, quiet: float, cap: float) -> None:
        self.quiet = quiet
        self.cap = cap
        self._timers: dict[str, _Timer] = {}

    def changed(self, study_uid: str, now: float, *, first: float | None = None) -> None:
        """Note a change.

        Parameters
        ----------
        study_uid : str
        now : float
        first : float, optional
            When the first change came, where that is known from before a restart.
        """
        timer = self._timers.get(study_uid)
        if timer is None:
            self._timers[study_uid] = _Timer(now if first is None else first, now)
        else:
            timer.last = now

    def due(self, now: float, carried: Container[str] = ()) -> list[str]:
        """Studies that are quiet or at their cap, the longest waiting first.

        Parameters
        ----------
        now : float
        carried : container of str
            Studies whose object an open association carries now or carried last: it holds their quiet period
            back, but not their cap.
        """
        found = []
        for study_uid, timer in self._timers.items():
            if study_uid in carried:
                timer.last = now
            if now - timer.last >= self.quiet or now - timer.first >= self.cap:
                found.append((timer.first, study_uid))
        return [study_uid for _, study_uid in sorted(found)]

    def next(self) -> float | None:
        """When something may be due, if nothing comes; nothing waits: ``None``."""
        return min(
            (min(t.last + self.quiet, t.first + self.cap) for t in self._timers.values()),
            default=None,
        )

    def done(self, study_uid: str) -> None:
        """Forget a study; a change that comes later starts it anew."""
        self._timers.pop(study_uid, None)

    def __contains__(self, study_uid: str) -> bool:
        return study_uid in self._timers

    def __len__(self) -> int:
        return len(self._timers)
