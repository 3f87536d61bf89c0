"""What a C-STORE is answered with: PS3.4 Table B.2-1, in one table.

Success is 0x0000 and says that the header is durable. 0xA7xx asks the sender to try again later, 0xA9xx and 0xCxxx
say that sending the same object again will not help. The sub-codes of 0xC000 are ours and are documented in the
conformance statement, which is held against this table by a test.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STATUSES", "Answer", "of_reason"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One status that we give."""

    code: int
    name: str
    """For metrics and logs."""
    comment: str
    """ErrorComment (0000,0902), at most 64 characters; empty for none."""
    meaning: str
    """Condition, as the conformance statement gives it."""


def _table(*rows: Answer) -> dict[str, Answer]:
    return {row.name: row for row in rows}


STATUSES: dict[str, Answer] = _table(
    Answer(0x0000, "success", "", "The header is durable; a duplicate likewise."),
    Answer(
        0xB006,
        "elements-discarded",
        "Header kept, pixel data discarded",
        "As success, where `success_status` asks for it: the pixel data was discarded.",
    ),
    Answer(
        0x0122,
        "sop-class-not-supported",
        "SOP class not accepted in this context",
        "The SOP class of the command is not the one that the presentation context was accepted for.",
    ),
    Answer(0xA700, "journal-failed", "Journal not writable", "Writing or syncing failed."),
    Answer(
        0xA700,
        "file-failed",
        "File not writable",
        "Writing or syncing the file failed (`--keep-files`).",
    ),
    Answer(
        0xA700,
        "disk-reserve",
        "Disk under its reserve",
        "The disk has less free space than `--disk-reserve`.",
    ),
    Answer(
        0xA700,
        "backlog",
        "Journal backlog over its limit",
        "The study store does not take in what was received.",
    ),
    Answer(0xA700, "shutting-down", "Shutting down", "The daemon ends and its drain time is over."),
    Answer(0xA700, "internal", "Internal error", "A fault of dcm2fhir; it is logged."),
    Answer(
        0xA900,
        "uid-mismatch",
        "Command and data set name different UIDs",
        "SOP class or SOP instance of command and data set differ.",
    ),
    Answer(
        0xC000, "malformed", "Data set cannot be read", "The data set breaks the encoding rules."
    ),
    Answer(
        0xC001,
        "truncated",
        "Data set ends within its header",
        "The data set ends within its header.",
    ),
    Answer(
        0xC002,
        "not-an-instance",
        "Not a composite instance",
        "The data set is no composite instance of a study.",
    ),
    Answer(0xC010, "no-study-uid", "Study Instance UID missing", "No Study Instance UID."),
    Answer(0xC011, "no-series-uid", "Series Instance UID missing", "No Series Instance UID."),
    Answer(
        0xC012, "no-sop-uid", "SOP class or instance UID missing", "No SOP class or instance UID."
    ),
    Answer(0xC013, "invalid-uid", "A UID is not valid", "A UID breaks PS3.5 section 9."),
    Answer(
        0xC020, "too-deep", "Sequences nested too deep", "Sequences are nested beyond the limit."
    ),
    Answer(
        0xC021,
        "inflate-limit",
        "Deflated data set over the limit",
        "A deflated data set inflates beyond the limit before its header ends.",
    ),
    Answer(
        0xC022,
        "header-limit",
        "A header value is over the limit",
        "A value of the header, or what is kept of it, is larger than the limit.",
    ),
)
"""Name to status."""

_REASONS = {
    "truncated-header": "truncated",
    "empty": "truncated",
    "dicomdir": "not-an-instance",
    "not-dicom": "malformed",
}


def of_reason(reason: str) -> Answer:
    """Status for a data set that the header reader refused with a reason code."""
    return STATUSES.get(_REASONS.get(reason, reason), STATUSES["malformed"])
