"""What an object says of itself that is worth a finding, beside what the rules make of it."""

from __future__ import annotations

from converter.core.dictionary import tag_of
from converter.core.header import items
from converter.core.issues import Issue
from converter.core.study import Study

__all__ = ["KEYWORDS", "notices"]

SAYINGS = (
    ("PatientIdentityRemoved", (b"YES",), "de-identified", "ImagingStudy"),  # PS3.3 C.7.1.1
    (
        "LongitudinalTemporalInformationModified",
        (b"MODIFIED", b"REMOVED"),
        "de-identified",
        "ImagingStudy",
    ),  # PS3.3 C.12.1.1.7: dates may be dummies
    ("QualityControlImage", (b"YES",), "quality-control", "ImagingStudy.subject"),  # C.7.6.1
)
"""Keyword, the values that are worth a finding, its code, its path."""

GROUP = "GroupOfPatientsIdentificationSequence"

KEYWORDS = (*(keyword for keyword, *_ in SAYINGS), GROUP)
"""What must be kept of an instance to tell."""
TAGS = tuple(tag_of(keyword) or 0 for keyword in KEYWORDS)


def notices(study: Study) -> list[Issue]:
    """Findings about a study as a whole, and those that its instances brought along from reading."""
    found: list[Issue] = []
    counts = [0] * len(TAGS)
    for series in study.series:
        for key, number in series.tally(TAGS).items():
            if any(key):
                for index, value in enumerate(key):
                    if value and _says(index, value):
                        counts[index] += number
    for (keyword, _, code, path), count in zip(SAYINGS, counts, strict=False):
        if count:
            found.append(Issue("information", code, path, keyword, "", (), count))
    count = counts[-1]
    if count:
        found.append(
            Issue("information", "group-of-subjects", "ImagingStudy.subject", GROUP, "", (), count)
        )
    for series in study.series:
        for instance in series.instances:
            for finding in instance.row.findings:
                code, _, keyword = finding.partition(" ")
                found.append(Issue("warning", code, "", keyword, "", (instance.uid,)))
    return found


def _says(index: int, value: bytes) -> bool:
    if index == len(SAYINGS):
        return bool(items(value))
    return value.strip(b" \0") in SAYINGS[index][1]
