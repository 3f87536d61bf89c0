"""Whose study it is: the keys that decide conflicts, and the reference to the subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.core.dictionary import tag_of
from converter.core.header import items
from converter.core.issues import Issue
from converter.core.text import charset_of
from converter.core.values import strings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converter.core.study import Instance, Study

__all__ = ["conflict"]

PATIENT_ID = tag_of("PatientID") or 0
ISSUER = tag_of("IssuerOfPatientID") or 0
QUALIFIERS = tag_of("IssuerOfPatientIDQualifiersSequence") or 0
UNIVERSAL = tag_of("UniversalEntityID") or 0
CHARSET = tag_of("SpecificCharacterSet") or 0


def _text(value: bytes | None, charset: bytes | None) -> str:
    if not value:
        return ""
    header = {CHARSET: charset} if charset else {}
    return "\\".join(strings(value, "LO", charset_of(header)).values)


def conflict(study: Study) -> Issue | None:
    """Tell whether a study holds two patients.

    Two different non-empty PatientIDs, or two different non-empty issuers (text, or universal id), among
    all copies that were read, those replaced by another copy included. Empty is no value.

    Returns
    -------
    Issue or None
        ``patient-conflict``, with an instance of each side as example.
    """
    seen: dict[str, dict[str, str]] = {
        "PatientID": {},
        "IssuerOfPatientID": {},
        "UniversalEntityID": {},
    }
    known: set[tuple[bytes | None, ...]] = set()
    for instance in _all(study):
        key = tuple(instance.get(tag) for tag in (PATIENT_ID, ISSUER, QUALIFIERS, CHARSET))
        if key in known:
            continue
        known.add(key)
        patient_id, issuer, qualifiers, charset = key
        universal = next((item.get(UNIVERSAL) for item in items(qualifiers)), None)
        for keyword, value in (
            ("PatientID", patient_id),
            ("IssuerOfPatientID", issuer),
            ("UniversalEntityID", universal),
        ):
            text = _text(value, charset)
            if text:
                seen[keyword].setdefault(text, instance.uid)
    for keyword, values in seen.items():
        if len(values) > 1:
            return Issue(
                "error",
                "patient-conflict",
                "ImagingStudy.subject",
                keyword,
                f"{len(values)} different values in one study: it is held back.",
                tuple(sorted(set(values.values()))[:3]),
                study.count,
            )
    return None


def _all(study: Study) -> Iterable[Instance]:
    for series in study.series:
        yield from series.instances
    yield from study.others
