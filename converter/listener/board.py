"""What is known of the running daemon, for ``/livez``, ``/readyz`` and ``/metrics``. No UID, no title, no address in it."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Board"]

STALE = 30.0
"""Seconds without a sign of life after which a part counts as dead."""

_HELP = {
    "associations_active": ("gauge", "Associations that are open."),
    "associations_total": ("counter", "Associations that were accepted."),
    "associations_rejected_total": ("counter", "Associations that were rejected."),
    "connections_dropped_total": ("counter", "Connections that never asked for an association."),
    "cstore_total": ("counter", "C-STORE requests by how they were answered."),
    "cecho_total": ("counter", "C-ECHO requests."),
    "received_bytes_total": ("counter", "Bytes received on all connections."),
    "journal_records_total": ("counter", "Instances written to the journals."),
    "journal_syncs_total": ("counter", "Syncs of the journals."),
    "journal_failures_total": ("counter", "Writes or syncs of the journals that failed."),
    "instances_total": (
        "counter",
        "Instances taken into the study store: new, same, changed, known.",
    ),
    "studies": ("gauge", "Studies by state."),
    "unpublished_oldest_age_seconds": ("gauge", "Age of the oldest change that is not published."),
    "publish_failures_total": ("counter", "Rounds of publishing that failed."),
    "disk_free_bytes": ("gauge", "Free space where the journals are."),
    "receivers": ("gauge", "Receiver processes that run."),
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
    "ingest.": ("instances_total", "kind"),
    "studies.": ("studies", "state"),
    "publish.failures": ("publish_failures_total", ""),
    "restarts": ("receiver_restarts_total", ""),
}


class Board:
    """Counts and signs of life, from all threads of the supervisor."""

    def __init__(self, journal: Path, reserve: int) -> None:
        self._lock = threading.Lock()
        self._journal = journal
        self._reserve = reserve
        self._receivers: dict[int, dict[str, int]] = {}
        self._ended: Counter[str] = Counter()
        self._own: Counter[str] = Counter()
        self._studies: dict[str, int] = {}
        self._beats: dict[str, float] = {}
        self._faults: dict[str, str] = {}
        self.associations = 0
        self.running = 0
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

    def receiver_ended(self, index: int) -> None:
        """A receiver ended: its totals stay counted."""
        with self._lock:
            self._ended.update(self._receivers.pop(index, {}))

    def count(self, name: str, number: int = 1) -> None:
        """Count something of the supervisor's own."""
        with self._lock:
            self._own[name] += number

    def set_totals(self, counts: Mapping[str, int], studies: Mapping[str, int]) -> None:
        """Totals of the writer, and studies by state."""
        with self._lock:
            for name, number in counts.items():
                self._own[f"ingest.{name}"] = number
            self._studies = dict(studies)

    def alive(self) -> list[str]:
        """What does not move any more; empty where all does."""
        now = time.monotonic()
        with self._lock:
            return [part for part, beat in self._beats.items() if now - beat > STALE]

    def not_ready(self) -> list[str]:
        """Why no image should be sent now; empty where it may."""
        reasons = []
        if self.draining:
            reasons.append("draining")
        elif not self.bound:
            reasons.append("not-listening")
        if not self.running:
            reasons.append("no-receiver")
        if self._free() < self._reserve:
            reasons.append("disk-reserve")
        with self._lock:
            failing = any(held.get("journal.failing") for held in self._receivers.values())
        if failing or not self._writable():
            reasons.append("journal-not-writable")
        with self._lock:
            reasons += [f"{part}: {fault}" for part, fault in self._faults.items() if fault]
        return reasons

    def _free(self) -> int:
        try:
            disk = os.statvfs(self._journal)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def _writable(self) -> bool:
        try:
            read_only = os.statvfs(self._journal).f_flag & os.ST_RDONLY
        except OSError:
            return False
        return not read_only and os.access(self._journal, os.W_OK)

    def metrics(self) -> str:
        """Text of the Prometheus exposition format, version 0.0.4."""
        with self._lock:
            counts = Counter(self._own)
            counts.update(self._ended)
            for held in self._receivers.values():
                counts.update(held)
            counts.update(self._studies)
        found: dict[str, dict[str, float]] = {
            "associations_active": {"": self.associations},
            "receivers": {"": self.running},
            "disk_free_bytes": {"": self._free()},
            "unpublished_oldest_age_seconds": {
                "": max(0.0, time.time() - self.oldest) if self.oldest else 0.0
            },
        }
        for name, number in sorted(counts.items()):
            for start, (metric, label) in _COUNTS.items():
                if name == start or (start.endswith(".") and name.startswith(start)):
                    labels = f'{{{label}="{name.removeprefix(start)}"}}' if label else ""
                    group = found.setdefault(metric, {})
                    group[labels] = group.get(labels, 0) + number
                    break
        lines: list[str] = []
        for metric, (kind, text) in _HELP.items():
            values = found.get(metric)
            if values:
                lines += [f"# HELP dcm2fhir_{metric} {text}", f"# TYPE dcm2fhir_{metric} {kind}"]
                lines += [f"dcm2fhir_{metric}{labels} {value}" for labels, value in values.items()]
        return "\n".join(lines) + "\n"
