"""What an object says of itself that is worth a finding, beside what the rules make of it."""

from __future__ import annotations

from collections.abc import Callable

from converter.core.dictionary import tag_of
from converter.core.header import items
from converter.core.issues import Issue
from converter.core.study import Study

__all__ = ["KEYWORDS", "notices"]

SAYINGS = (
    ("PatientIdentityRemoved", ("YES",), "de-identified", "ImagingStudy"),  # PS3.3 C.7.1.1
    (
        "LongitudinalTemporalInformationModified",
        ("MODIFIED", "REMOVED"),
        "de-identified",
        "ImagingStudy",
    ),  # PS3.3 C.12.1.1.7: dates may be dummies
    ("QualityControlImage", ("YES",), "quality-control", "ImagingStudy.subject"),  # C.7.6.1
)
"""Keyword, the values that are worth a finding, its code, its path."""

GROUP = "GroupOfPatientsIdentificationSequence"

KEYWORDS = (*(keyword for keyword, *_ in SAYINGS), GROUP)
"""What must be kept of an instance to tell."""


def notices(study: Study) -> list[Issue]:
    """Findings about a study as a whole, and those that its instances brought along from reading."""
    found: list[Issue] = []
    for keyword, values, code, path in SAYINGS:
        expected = {value.encode() for value in values}

        def says(value: bytes, expected: set[bytes] = expected) -> bool:
            return value.strip(b" \0") in expected

        count = _count(study, keyword, says)
        if count:
            found.append(Issue("information", code, path, keyword, "", (), count))
    count = _count(study, GROUP, lambda value: bool(items(value)))
    if count:
        found.append(
            Issue("information", "group-of-subjects", "ImagingStudy.subject", GROUP, "", (), count)
        )
    found += [
        Issue("warning", code, "", "", "", (instance.uid,))
        for series in study.series
        for instance in series.instances
        for code in instance.row.findings
    ]
    return found


def _count(study: Study, keyword: str, says: Callable[[bytes], bool]) -> int:
    tag = tag_of(keyword) or 0
    return sum(
        number
        for series in study.series
        for (value,), number in series.tally((tag,)).items()
        if value and says(value)
    )
