"""What is known of the running daemon, for ``/livez``, ``/readyz``, ``/metrics`` and the status page.

No UID, no title, no address is in what it tells but in `Board.open`, which only the status page shows, to those with its token.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, get_args

from converter.listener.policy import REJECTIONS
from converter.listener.status import STATUSES
from converter.listener.storing import DURATIONS
from converter.listener.window import STATES
from converter.store.outbox import State

__all__ = ["Board", "Summary", "Waiting"]

STALE = 30.0
"""Seconds without a sign of life after which a part counts as dead."""

_HELP = {
    "associations_active": ("gauge", "Associations that are open."),
    "associations_total": ("counter", "Associations that were accepted."),
    "associations_rejected_total": ("counter", "Associations that were rejected."),
    "connections_dropped_total": ("counter", "Connections that asked for nothing, or broke off."),
    "cstore_total": ("counter", "C-STORE requests by how they were answered."),
    "cstore_duration_seconds": (
        "histogram",
        "From a C-STORE's first data to its answer, the network and the sync within.",
    ),
    "cecho_total": ("counter", "C-ECHO requests."),
    "received_bytes_total": ("counter", "Bytes received on all connections."),
    "journal_records_total": ("counter", "Instances written to the journals."),
    "journal_syncs_total": ("counter", "Syncs of the journals."),
    "journal_waiting_bytes": ("gauge", "Journals that the study store has still to take in."),
    "journal_age_seconds": ("gauge", "Time since the study store last had taken in all journals."),
    "journal_failures_total": ("counter", "Writes or syncs of the journals that failed."),
    "journal_damaged_records_total": (
        "counter",
        "Records of journals that senders take for stored, and that cannot be read; at least.",
    ),
    "instances_total": (
        "counter",
        "Instances taken into the study store: new, same, changed, restored (after a purge), known.",
    ),
    "studies": ("gauge", "Studies by state."),
    "unpublished_oldest_age_seconds": ("gauge", "Age of the oldest change that is not published."),
    "outbox": ("gauge", "Deliveries to FHIR servers by state; dead and held wait for a person."),
    "outbox_oldest_age_seconds": ("gauge", "Age of the oldest delivery that is due."),
    "circuits_open": (
        "gauge",
        "Destinations that nothing is sent to but one try from time to time.",
    ),
    "publish_failures_total": ("counter", "Rounds of publishing that failed."),
    "disk_free_bytes": (
        "gauge",
        "Free space where the journals are, or whole objects if that is less.",
    ),
    "receivers": ("gauge", "Receiver processes that run."),
    "receivers_hung": ("gauge", "Of these, how many do not move; they get no connections."),
    "receiver_restarts_total": ("counter", "Receiver processes that ended unasked."),
}
_COUNTS = {
    "associations.accepted": ("associations_total", ""),
    "rejected.": ("associations_rejected_total", "reason"),
    "dropped.": ("connections_dropped_total", "reason"),
    "cstore.": ("cstore_total", "status"),
    "cecho.": ("cecho_total", ""),
    "bytes": ("received_bytes_total", ""),
    "journal.records": ("journal_records_total", ""),
    "journal.syncs": ("journal_syncs_total", ""),
    "journal.failures": ("journal_failures_total", ""),
    "journal.damaged": ("journal_damaged_records_total", ""),
    "ingest.": ("instances_total", "kind"),
    "studies.": ("studies", "state"),
    "outbox.": ("outbox", "state"),
    "publish.failures": ("publish_failures_total", ""),
    "restarts": ("receiver_restarts_total", ""),
}
_FROM_THE_START = {
    **{name: 0 for name in _COUNTS if not name.endswith(".")},
    "cecho.success": 0,
    **{f"cstore.{name}": 0 for name in STATUSES},
    **{f"rejected.{rejection.reason}": 0 for rejection in REJECTIONS},
    **{f"studies.{state}": 0 for state in STATES},
    **{f"outbox.{state}": 0 for state in get_args(State)},
}
"""Counts that are there before the first event, so that a rate sees it."""


class Waiting(NamedTuple):
    """What the outbox holds."""

    states: Mapping[str, int] = {}
    oldest: float = 0.0
    """Seconds since 1970 from which on the oldest is due; 0 where none is."""
    circuits: int = 0
    """Destinations whose circuit is open."""


class Summary(NamedTuple):
    """How the daemon is, in numbers."""

    faults: list[str]
    """Why it is not ready; parts that do not move any more."""
    unpublished: list[str]
    """Why studies cannot be published now."""
    associations: int
    counts: dict[str, int]
    """Totals, as ``cstore.success``."""
    studies: dict[str, int]
    outbox: Mapping[str, int]
    unpublished_age: float
    outbox_age: float
    journal_age: float
    journal_bytes: int
    disk_free: int
    circuits: int


class Board:
    """Counts and signs of life, from all threads of the supervisor."""

    def __init__(self, journal: Path, reserve: int, files: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._journal = journal
        self._folders = [journal, *([files] if files else [])]
        self._reserve = reserve
        self._receivers: dict[int, dict[str, int]] = {}
        self._ended: Counter[str] = Counter()
        self._own: Counter[str] = Counter()
        self._studies: dict[str, int] = {}
        self._beats: dict[str, float] = {}
        self._faults: dict[str, str] = {}
        self.open: list[tuple[int, str, str]] = []
        """(number, address, study) of each association."""
        self.running = 0
        self.hung: list[int] = []
        """Receivers that do not move."""
        self.waiting = Waiting()
        self.journal_bytes = 0
        self.journal_empty = time.monotonic()
        """When the store last had taken in all journals."""
        self.oldest = 0.0
        self.bound = False
        self.draining = False

    def beat(self, part: str, fault: str = "") -> None:
        """A part is alive, and what hinders it."""
        with self._lock:
            self._beats[part] = time.monotonic()
            self._faults[part] = fault

    def receiver(self, index: int, counts: Mapping[str, int]) -> None:
        """Totals of one receiver since its start."""
        with self._lock:
            self._receivers[index] = dict(counts)
            self._beats[_part(index)] = time.monotonic()

    def receiver_ended(self, index: int) -> None:
        """A receiver ended: its totals stay counted."""
        with self._lock:
            self._ended.update(self._receivers.pop(index, {}))
            self._beats.pop(_part(index), None)

    def count(self, name: str, number: int = 1) -> None:
        """Count something of the supervisor's own."""
        with self._lock:
            self._own[name] += number

    def set_totals(self, counts: Mapping[str, int], studies: Mapping[str, int]) -> None:
        """Totals of the writer, and studies by state."""
        with self._lock:
            for name, number in counts.items():
                self._own[f"ingest.{name}"] = number
            self._studies = {f"studies.{state}": number for state, number in studies.items()}

    def summary(self) -> Summary:
        """Give what the status page shows anybody."""
        faults = list(
            dict.fromkeys([f"{part} does not move" for part in self.alive()] + self.not_ready())
        )
        unpublished = self.unpublished()
        with self._lock:
            return Summary(
                faults,
                unpublished,
                self.associations,
                dict(self._counts()),
                {name.removeprefix("studies."): n for name, n in self._studies.items()},
                self.waiting.states,
                _age(self.oldest),
                _age(self.waiting.oldest),
                time.monotonic() - self.journal_empty,
                self.journal_bytes,
                self._free(),
                self.waiting.circuits,
            )

    @property
    def associations(self) -> int:
        """How many are open."""
        return len(self.open)

    def _counts(self) -> Counter[str]:
        """Totals of all processes of this run; the lock is held."""
        counts = Counter(self._own)
        counts.update(self._ended)
        for held in self._receivers.values():
            counts.update(held)
        return counts

    def alive(self) -> list[str]:
        """What does not move any more; empty where all does."""
        now = time.monotonic()
        with self._lock:
            return [part for part, beat in self._beats.items() if now - beat > STALE]

    def _still(self) -> list[str]:
        """What does not move, of that which an image needs: receivers sooner, they get nothing meanwhile."""
        dead = [part for part in self.alive() if part != "publisher"]
        return list(dict.fromkeys([*map(_part, self.hung), *dead]))

    def not_ready(self) -> list[str]:
        """Why no image should be sent now; empty where it may."""
        reasons = []
        if self.draining:
            reasons.append("draining")
        elif not self.bound:
            reasons.append("not-listening")
        if not self.running:
            reasons.append("no-receiver")
        reasons += [f"{part} does not move" for part in self._still()]
        if self._free() < self._reserve:
            reasons.append("disk-reserve")
        with self._lock:
            failing = any(held.get("journal.failing") for held in self._receivers.values())
        if failing or not self._writable():
            reasons.append("journal-not-writable")
        return reasons + self._hindered(publisher=False)

    def unpublished(self) -> list[str]:
        """Why studies cannot be published now: no reason to send images elsewhere, what is received is kept."""
        return self._hindered(publisher=True)

    def _hindered(self, *, publisher: bool) -> list[str]:
        with self._lock:
            faults = [(part, fault) for part, fault in self._faults.items() if fault]
        return [f"{part}: {why}" for part, why in faults if (part == "publisher") == publisher]

    def _free(self) -> int:
        try:
            disks = [os.statvfs(folder) for folder in self._folders]
        except OSError:
            return 0
        return min(disk.f_bavail * disk.f_frsize for disk in disks)

    def _writable(self) -> bool:
        try:
            read_only = os.statvfs(self._journal).f_flag & os.ST_RDONLY
        except OSError:
            return False
        return not read_only and os.access(self._journal, os.W_OK)

    def metrics(self) -> str:
        """Text of the Prometheus exposition format, version 0.0.4."""
        with self._lock:
            counts = self._counts()
            counts.update(self._studies)
        counts.update({f"outbox.{state}": number for state, number in self.waiting.states.items()})
        found: dict[str, dict[str, float]] = {
            "associations_active": {"": self.associations},
            "receivers": {"": self.running},
            "receivers_hung": {"": len(self.hung)},
            "disk_free_bytes": {"": self._free()},
            "unpublished_oldest_age_seconds": {"": _age(self.oldest)},
            "journal_waiting_bytes": {"": self.journal_bytes},
            "journal_age_seconds": {"": time.monotonic() - self.journal_empty},
            "outbox_oldest_age_seconds": {"": _age(self.waiting.oldest)},
            "circuits_open": {"": self.waiting.circuits},
            "cstore_duration_seconds": _histogram(counts),
        }
        counts.update(_FROM_THE_START)
        for name, number in sorted(counts.items()):
            for start, (metric, label) in _COUNTS.items():
                if name == start or (start.endswith(".") and name.startswith(start)):
                    labels = f'{{{label}="{name.removeprefix(start)}"}}' if label else ""
                    group = found.setdefault(metric, {})
                    group[labels] = group.get(labels, 0) + number
                    break
        lines: list[str] = []
        for metric, (kind, text) in _HELP.items():
            values = found.get(metric, {})
            lines += [f"# HELP dcm2fhir_{metric} {text}", f"# TYPE dcm2fhir_{metric} {kind}"]
            lines += [f"dcm2fhir_{metric}{labels} {value}" for labels, value in values.items()]
        return "\n".join(lines) + "\n"


def _part(receiver: int) -> str:
    return f"receiver {receiver}"


def _age(moment: float) -> float:
    return max(0.0, time.time() - moment) if moment else 0.0


def _histogram(counts: Counter[str]) -> dict[str, float]:
    """Samples of a histogram of the exposition format: buckets add up."""
    samples: dict[str, float] = {}
    total = 0
    for number, bound in enumerate((*DURATIONS, "+Inf")):
        total += counts[f"duration.{number}"]
        samples[f'_bucket{{le="{bound}"}}'] = total
    return {**samples, "_sum": counts["duration.us"] / 1e6, "_count": total}
