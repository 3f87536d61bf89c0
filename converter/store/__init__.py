"""The study store behind one protocol."""

from __future__ import annotations

from converter.store.address import StatePlace, place_of
from converter.store.interface import (
    Companion,
    Converted,
    FileStamp,
    Outcome,
    PackedBlock,
    Part,
    SkippedRow,
    StudyStore,
)
from converter.store.opening import open_beside, open_database, open_kept, open_temporary

__all__ = [
    "Companion",
    "Converted",
    "FileStamp",
    "Outcome",
    "PackedBlock",
    "Part",
    "SkippedRow",
    "StatePlace",
    "StudyStore",
    "open_beside",
    "open_database",
    "open_kept",
    "open_temporary",
    "place_of",
]
