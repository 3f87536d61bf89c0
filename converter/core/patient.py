"""Whose study it is: the keys that decide conflicts, and the reference to the subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from converter.core.dictionary import tag_of
from converter.core.header import items
from converter.core.issues import Issue
from converter.core.names import person_name
from converter.core.text import Charset, charset_of
from converter.core.times import date
from converter.core.values import is_legible, strings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from converter.core.study import Instance, Study

__all__ = ["Person", "compared", "conflict", "folded", "two_people"]

PATIENT_ID = tag_of("PatientID") or 0
ISSUER = tag_of("IssuerOfPatientID") or 0
QUALIFIERS = tag_of("IssuerOfPatientIDQualifiersSequence") or 0
UNIVERSAL = tag_of("UniversalEntityID") or 0
CHARSET = tag_of("SpecificCharacterSet") or 0
NAME = tag_of("PatientName") or 0
BORN = tag_of("PatientBirthDate") or 0
TAGS = (PATIENT_ID, ISSUER, QUALIFIERS, CHARSET, NAME, BORN)

Key: TypeAlias = tuple[bytes | None, ...]


class Person(NamedTuple):
    """What tells one person from another under one number; empty where it is not known."""

    born: str
    """Date as FHIR writes it, or the year of it."""
    family: str
    given: str
    """First given name; both as `folded` gives them."""


def compared(value: bytes | None, charset: Charset) -> str:
    """PatientID or issuer as it is compared; with its bytes where not all of it is legible."""
    if not value:
        return ""
    text = "\\".join(strings(value, "LO", charset).values)
    if text and not is_legible(value, "LO", charset):
        return f"{text} [{value.strip(b' ' + bytes(1)).hex()}]"
    return text


def conflict(study: Study) -> Issue | None:
    """Tell whether a study holds two patients.

    Two different non-empty PatientIDs, two different non-empty issuers (text, or universal id), or two
    people by birth date and name, among all copies that were read, those replaced by another copy
    included. Empty is no value.

    Returns
    -------
    Issue or None
        ``patient-conflict``, with an instance of each side as example.
    """
    if not study.others and len(study.series) == 1 and len(study.series[0].instances) == 1:
        return None  # alone, it differs from nothing
    keys: dict[Key, None] = {}
    for series in study.series:
        keys.update(dict.fromkeys(series.tally(TAGS)))
    keys.update(dict.fromkeys(tuple(other.get(tag) for tag in TAGS) for other in study.others))
    if len(keys) == 1:
        return None
    seen: dict[str, dict[str, Key]] = {
        "PatientID": {},
        "IssuerOfPatientID": {},
        "UniversalEntityID": {},
    }
    people: dict[Person, Key] = {}
    for key in sorted(keys, key=lambda one: tuple(value or b"" for value in one)):
        patient_id, issuer, qualifiers, charset, name, born = key
        universal = next((item.get(UNIVERSAL) for item in items(qualifiers)), None)
        for keyword, value in (
            ("PatientID", patient_id),
            ("IssuerOfPatientID", issuer),
            ("UniversalEntityID", universal),
        ):
            text = compared(value, charset_of({CHARSET: charset} if charset else {}))
            if text:
                seen[keyword].setdefault(text, key)
        people.setdefault(Person(date(born).value or "", *_names(name, charset)), key)
    for keyword, values in seen.items():
        if len(values) > 1:
            said = f"{len(values)} different values in one study: it is held back."
            return _conflict(study, keyword, said, set(values.values()))
    if two_people(people):
        said = "Birth date and name both differ in one study: it is held back."
        return _conflict(study, "PatientName", said, set(people.values()))
    return None


def two_people(known: Iterable[Person]) -> bool:
    """Whether birth date and name both differ between some of those who are known.

    Names differ where the family names do, or the first given names. An empty part says nothing, 1960 does not
    contradict 1960-07-12, nor an initial the name that it begins.
    """
    told = [one for one in known if one.born and (one.family or one.given)]
    return any(
        _differ(a.born, b.born) and (_other(a.family, b.family) or _differ(a.given, b.given))
        for index, a in enumerate(told)
        for b in told[:index]
    )


def _other(a: str, b: str) -> bool:
    return bool(a and b) and a != b


def _differ(a: str, b: str) -> bool:
    """Whether neither of two texts begins the other, which an empty one always does."""
    return not (a.startswith(b) or b.startswith(a))


def folded(family: str, given: str) -> tuple[str, str]:
    """Family name and first given name as they are compared."""
    first = next(iter(given.split()), "")
    return family.casefold(), first.casefold().rstrip(".")


def _names(name: bytes | None, charset: bytes | None) -> tuple[str, str]:
    """Family name and first given name, of the first group that has a family name."""
    if not name:
        return "", ""
    header = {CHARSET: charset} if charset else {}
    written = "\\".join(strings(name, "PN", charset_of(header)).values)
    groups = [group for group in person_name(written) if group]
    group = next((group for group in groups if group.family), groups[0] if groups else None)
    return folded(group.family, group.given) if group is not None else ("", "")


def _conflict(study: Study, keyword: str, said: str, keys: set[Key]) -> Issue:
    found: dict[Key, str] = {}
    for instance in _all(study):
        key = tuple(instance.get(tag) for tag in TAGS)
        if key in keys:
            found.setdefault(key, instance.uid)
    return Issue(
        "error",
        "patient-conflict",
        "ImagingStudy.subject",
        keyword,
        said,
        tuple(sorted(set(found.values()))[:3]),
        study.count,
    )


def _all(study: Study) -> Iterable[Instance]:
    for series in study.series:
        yield from series.instances
    yield from study.others
