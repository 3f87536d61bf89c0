"""Whether the patient of a study that stands is the patient of ours.

A subject is never relinked silently: where nothing shows that two references mean one person, the answer
is a `Mismatch` and the study is held.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from converter.core.companions import person_of
from converter.core.ids import patient_id
from converter.core.patient import two_people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Mismatch", "carries_identifier", "compare_identifiers", "reconcile"]

Json = dict[str, Any]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What stands belongs to another patient or study: nothing is written, the study is held."""

    reason: Literal["subject-mismatch", "study-mismatch"]
    """Code of `converter.core.reasons.REASONS`."""
    element: str
    """FHIRPath of the element that disagrees."""
    reference: str = field(default="", repr=False)
    """Reference that stands. Counts as patient data: for a lookup, never for a log."""


def carries_identifier(patient: Json | None, subject: Json) -> bool:
    """Tell whether a Patient carries an identifier of a subject reference.

    Parameters
    ----------
    patient : dict or None
        Patient that stands at the destination.
    subject : dict
        Our ``ImagingStudy.subject``.
    """
    ours = _keys(subject.get("identifier"))
    return bool(
        patient
        and any(
            system and (system, value) in _keys(patient.get("identifier")) for system, value in ours
        )
    )


def compare_identifiers(
    one: Json | Iterable[Json] | None, other: Json | Iterable[Json] | None
) -> Literal["same", "differ", "unknown"]:
    """Compare identifiers of two Patients or subjects; numbers of different systems say nothing."""
    return _compare(_keys(one), _keys(other))


def reconcile(
    standing: Json,
    ours: Json,
    study_instance_uid: str,
    carries: Callable[[str], bool] | None = None,
    replaces: Iterable[Json] = (),
) -> Json | Mismatch | None:
    """Choose between the subject that stands and ours.

    Parameters
    ----------
    standing, ours : dict
        Two versions of an ImagingStudy.
    study_instance_uid : str
        To know the study-scoped Patient that we make where no identifier has a system.
    carries : callable, optional
        Whether the Patient at a literal reference carries our identifier, looked up by the caller.
    replaces : iterable of dict
        Subjects that we published ourselves, before an operator said whose study it is.

    Returns
    -------
    dict, Mismatch or None
        The subject to write; ``None`` where neither has one.
    """
    theirs: Json | None = standing.get("subject")
    mine: Json | None = ours.get("subject")
    if not theirs or not mine:
        return theirs or mine
    chosen = _chosen(standing, theirs, ours, mine, study_instance_uid, carries)
    if isinstance(chosen, Mismatch) and any(_same(standing, theirs, old) for old in replaces):
        return mine
    return chosen


def _same(standing: Json, theirs: Json, old: Json) -> bool:
    """Whether the subject that stands is one that we published."""
    agreement = _compare(_identity(standing, theirs), _keys(old.get("identifier")))
    alike = _alike(_reference(theirs), _reference(old)) and _literal(_reference(old))
    return agreement == "same" or (alike and agreement != "differ")


def _chosen(
    standing: Json,
    theirs: Json,
    ours: Json,
    mine: Json,
    study_instance_uid: str,
    carries: Callable[[str], bool] | None,
) -> Json | Mismatch:
    scoped = patient_id(None, None, study_instance_uid)
    their_reference, my_reference = _reference(theirs), _reference(mine)
    their_keys, my_keys = _identity(standing, theirs), _identity(ours, mine)
    mismatch = Mismatch("subject-mismatch", "ImagingStudy.subject", their_reference)
    agreement = _compare(their_keys, my_keys)
    if agreement == "differ" or _two_contained(standing, ours):
        return mismatch
    if _alike(their_reference, my_reference):
        return {**theirs, **mine}
    if _literal(their_reference) and not _alike(their_reference, f"Patient/{scoped}"):
        # others set it: it stays if that Patient is ours; an empty identity contradicts nobody
        if not my_keys:
            return theirs
        same = agreement == "same" if carries is None else carries(their_reference)
        return theirs if same else mismatch
    if agreement == "unknown" and their_keys and my_keys:
        return mismatch
    if not my_keys and their_keys:
        return theirs
    if _literal(their_reference) and not _literal(my_reference):
        # a literal subject is never downgraded
        return {**mine, "reference": theirs["reference"]}
    return mine


def _two_contained(standing: Json, ours: Json) -> bool:
    """Whether the Patients that both studies contain are two people."""
    known = [
        person_of(one)
        for study in (standing, ours)
        for one in study.get("contained") or []
        if one.get("resourceType") == "Patient"
    ]
    return two_people(known)


def _compare(
    theirs: set[tuple[str, str]], mine: set[tuple[str, str]]
) -> Literal["same", "differ", "unknown"]:
    """Compare identities: numbers of different systems say nothing about each other."""
    shared_system = False
    for system, value in theirs:
        for other_system, other_value in mine:
            if system == other_system or not system or not other_system:
                if value == other_value:
                    return "same"
                shared_system = True
    return "differ" if shared_system else "unknown"


def _identity(study: Json, subject: Json) -> set[tuple[str, str]]:
    keys = _keys(subject.get("identifier"))
    reference = subject.get("reference", "")
    if reference.startswith("#"):
        for contained in study.get("contained") or []:
            if contained.get("id") == reference[1:]:
                keys |= _keys(contained.get("identifier"))
    return keys


def _keys(identifiers: Json | Iterable[Json] | None) -> set[tuple[str, str]]:
    several = [identifiers] if isinstance(identifiers, dict) else identifiers or []
    return {(str(i.get("system", "")), str(i["value"])) for i in several if i.get("value")}


def _reference(subject: Json) -> str:
    return str(subject.get("reference", "")).split("/_history/")[0]


def _literal(reference: str) -> bool:
    return bool(reference) and not reference.startswith("#")


def _alike(one: str, other: str) -> bool:
    """Tell whether two references have one target: a UUID is the same thing wherever it stands."""
    if one == other:
        return bool(one)
    last, other_last = (r.removeprefix("urn:uuid:").rsplit("/", 1)[-1] for r in (one, other))
    return last == other_last and bool(_UUID.fullmatch(last))
