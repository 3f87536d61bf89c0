"""Rejection notes: key objects that say of instances that they are not to be used (IHE RAD TF-3 4.66, IOCM).

A note speaks of its own study only. It holds whenever it comes, before the instances that it names or after them,
and for copies of them that come later: IOCM gives whatever takes a rejected instance's place a new UID.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from converter.core.conversion import Conversion
from converter.core.dictionary import tag_of
from converter.core.header import SOP_CLASS_UID, items
from converter.core.issues import Issue, gather
from converter.core.narrative import narrative
from converter.core.study import Instance, Series, Study

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.core.header import Header
    from converter.core.site import RejectionSettings

__all__ = [
    "EVIDENCE",
    "NEEDS",
    "TITLES",
    "Note",
    "Rejections",
    "is_note",
    "is_withdrawn",
    "notes_of",
    "reject",
    "withdraw",
    "withdrawn",
]

Json = dict[str, Any]

KEY_OBJECT = b"1.2.840.10008.5.1.4.1.1.88.59"
TITLES: Mapping[str, str] = {
    "113037": "safety",
    "113038": "worklist",
    "113001": "quality",
    "113039": "retention",
}
"""Document titles of rejection notes (PS3.16 CID 7011) to their name in ``[site.rejection_notes]``; the gravest first."""

EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"
MOST = 100_000
"""Instances that a study's notes may name beyond those that are there: nobody fills our memory with notes."""

_REFERENCE: Mapping[str, Any] = {"ReferencedSOPInstanceUID": None}
NEEDS: Mapping[str, Any] = {
    EVIDENCE: {
        "StudyInstanceUID": None,
        "ReferencedSeriesSequence": {"ReferencedSOPSequence": _REFERENCE},
    },
    "ConceptNameCodeSequence": {"CodeValue": None, "CodingSchemeDesignator": None},
}
"""What must be kept of an instance to tell.

The evidence lists every instance that the content tree refers to, with study and series (PS3.3 C.17.6.2, type 1);
the tree itself, which names neither, need not be read.
"""


def _tag(keyword: str) -> int:
    return tag_of(keyword) or 0


_TITLE, _EVIDENCE = _tag("ConceptNameCodeSequence"), _tag(EVIDENCE)
_CODE, _SCHEME = _tag("CodeValue"), _tag("CodingSchemeDesignator")
_STUDY, _SERIES = _tag("StudyInstanceUID"), _tag("ReferencedSeriesSequence")
_SOPS, _SOP = _tag("ReferencedSOPSequence"), _tag("ReferencedSOPInstanceUID")


_UID = re.compile(r"[0-9.]{1,64}")


def _text(value: bytes | None) -> str:
    return (value or b"").strip(b" \0").decode("ascii", "replace")


@dataclass(frozen=True, slots=True)
class Note:
    """One rejection note of a study."""

    uid: str
    title: str
    """Code of DCM, one of `TITLES`."""
    named: frozenset[str]
    """SOP Instance UIDs that it names in its own study."""
    elsewhere: int
    """How many it names in other studies."""
    instance: Instance = field(repr=False)


@dataclass(slots=True)
class Rejections:
    """What the notes of a study leave of it."""

    live: Study
    """Without what is rejected and without the notes that say so; may be empty."""
    tombstones: tuple[str, ...] = ()
    """What is to go wherever the study was published (`converter.core.merge.unite`): instances, notes, emptied series."""
    issues: list[Issue] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    """Those that are applied, by UID."""
    by: dict[str, list[Note]] = field(default_factory=dict)
    """SOP Instance UID of what is there and rejected to the notes that say so."""


def is_note(header: Header) -> bool:
    """Whether a header is that of a rejection note."""
    return (
        _text(header.get(SOP_CLASS_UID)).encode() == KEY_OBJECT and _title(header.get(_TITLE)) != ""
    )


def _title(value: bytes | None) -> str:
    """Code of a rejection in a document title; empty where it is none."""
    for item in items(value)[:1]:
        code = _text(item.get(_CODE))
        if code in TITLES and _text(item.get(_SCHEME)) == "DCM":
            return code
    return ""


def notes_of(study: Study) -> list[Note]:
    """Rejection notes of a study, by UID."""
    found = []
    for series in study.series:
        if not any(_text(key[0]).encode() == KEY_OBJECT for key in series.tally((SOP_CLASS_UID,))):
            continue
        for instance in series.instances:
            title = _title(instance.get(_TITLE))
            if title and _text(instance.get(SOP_CLASS_UID)).encode() == KEY_OBJECT:
                found.append(_note(study.uid, title, instance))
    return sorted(found, key=lambda note: note.uid)


def _note(study_uid: str, title: str, instance: Instance) -> Note:
    named: set[str] = set()
    elsewhere = 0
    for evidence in items(instance.get(_EVIDENCE)):
        sops = {
            uid
            for series in items(evidence.get(_SERIES))
            for sop in items(series.get(_SOPS))
            if _UID.fullmatch(uid := _text(sop.get(_SOP)))
        }
        if _text(evidence.get(_STUDY)) == study_uid:
            named |= sops
        else:
            elsewhere += len(sops)
    return Note(instance.uid, title, frozenset(named), elsewhere, instance)


def reject(study: Study, settings: RejectionSettings) -> Rejections:
    """Take out of a study what its rejection notes name.

    Parameters
    ----------
    study : Study
        Of one patient (`converter.core.patient.conflict`): a note of another one rejects nothing.
    settings : RejectionSettings
        Which titles count; notes of the others are key objects like any.
    """
    notes = [note for note in notes_of(study) if settings.applies(TITLES[note.title])]
    if not notes:
        return Rejections(study)
    own = {note.uid for note in notes}
    there = {one.uid for series in study.series for one in series.instances} - own
    live = Study(study.uid, [], study.issues, study.duplicates, study.others, study.replaced)
    made = Rejections(live, notes=notes)
    absent: set[str] = set()
    for note in notes:
        for uid in sorted(note.named & there):
            made.by.setdefault(uid, []).append(note)
        absent |= note.named - there - own
    gone: set[str] = set(own)
    for series in study.series:
        kept = [one for one in series.instances if one.uid in there and one.uid not in made.by]
        if kept:
            live.series.append(Series(series.uid, kept))
        else:
            gone.add(f"{series.uid}:{len(series.instances)}")
    made.tombstones = tuple(sorted({*gone, *made.by, *sorted(absent)[:MOST]}))
    made.issues = _issues(notes, made.by)
    return made


def _issues(notes: list[Note], by: Mapping[str, list[Note]]) -> list[Issue]:
    at, keyword = "ImagingStudy.series.instance", EVIDENCE
    found = [
        Issue("information", "rejection-note", at, "ConceptNameCodeSequence", "", (note.uid,))
        for note in notes
    ]
    for note in notes:
        if note.elsewhere:
            said = "A rejection note names instances of another study: those stay."
            found.append(
                Issue(
                    "warning", "rejection-elsewhere", at, keyword, said, (note.uid,), note.elsewhere
                )
            )
        elif not note.named:
            said = "A rejection note names no instance."
            found.append(Issue("warning", "rejection-of-nothing", at, keyword, said, (note.uid,)))
    order = list(TITLES)
    for uid, said_by in by.items():
        gravest = min((note.title for note in said_by), key=order.index)
        found.append(Issue("information", f"rejected-{TITLES[gravest]}", at, keyword, "", (uid,)))
    return found


def withdrawn(rejections: Rejections, resource: Json | None, companions: list[Json]) -> Conversion:
    """Conversion of a study of which nothing is left: which one it is and of whom, and no more."""
    return Conversion(
        rejections.live.uid,
        "failed" if resource is None else "converted",
        None if resource is None else withdraw(resource),
        [one for one in companions if one["resourceType"] in {"Patient", "Device"}],
        gather([*rejections.live.issues, *rejections.issues]),
        tombstones=rejections.tombstones,
        withdrawn="rejected",
    )


def withdraw(study: Json) -> Json:
    """What is left to say of a study when none of its instances is to be used any more.

    ``cancelled`` and not ``entered-in-error``: what happened, happened (FHIR R4 ``valueset-imagingstudy-status``),
    and IPS does not know the other. What stands elsewhere of it keeps its other elements (`converter.core.merge`).
    """
    reference = str((study.get("subject") or {}).get("reference", ""))
    contained = [one for one in study.get("contained") or [] if f"#{one.get('id')}" == reference]
    head = {"resourceType": study["resourceType"], "id": study["id"]}
    left: Json = {
        "contained": contained,
        "identifier": study.get("identifier"),
        "status": "cancelled",
        "subject": study.get("subject"),
        "numberOfSeries": 0,
        "numberOfInstances": 0,
    }
    left = {name: value for name, value in left.items() if value not in (None, [])}
    return {**head, "text": narrative({**head, **left}), **left}


def is_withdrawn(study: Mapping[str, Any]) -> bool:
    """Whether nothing but what `withdraw` leaves is listed of a study."""
    return (
        study.get("status") == "cancelled"
        and not study.get("series")
        and study.get("numberOfInstances") == 0
    )
