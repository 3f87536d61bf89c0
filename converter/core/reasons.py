"""The one table of reason codes: why an input was skipped, what was found in a value.

``docs/reasons.md`` is generated from it. A code is a promise to whoever scripts against a report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from converter.core.check_reasons import CHECKS
from converter.core.delivery_reasons import NOT_LINKED, UNDELIVERED
from converter.core.encoding_reasons import ENCODINGS
from converter.core.rejection_reasons import REJECTIONS

__all__ = ["REASONS", "Reason"]


@dataclass(frozen=True, slots=True)
class Reason:
    """What one code means."""

    kind: Literal["skipped", "held", "finding", "check"]
    """An input left out, a study held back, a finding of the mapping, a finding of the check."""
    failure: bool
    """Whether it makes the run exit 1 (skipped and held only)."""
    meaning: str
    action: str
    """What a person can do about it."""


REASONS: dict[str, Reason] = {
    # inputs that are left out
    "not-dicom": Reason(
        "skipped",
        False,
        "The file is no DICOM object.",
        "Nothing; leave it out of the input to silence it.",
    ),
    "empty": Reason("skipped", True, "The file has no bytes.", "Export or send the object again."),
    "truncated-header": Reason(
        "skipped", True, "The file ends before its header does.", "Export or send the object again."
    ),
    "no-study-uid": Reason(
        "skipped", True, "The object has no Study Instance UID.", "Repair the object at its source."
    ),
    "no-series-uid": Reason(
        "skipped",
        True,
        "The object has no Series Instance UID.",
        "Repair the object at its source.",
    ),
    "no-sop-uid": Reason(
        "skipped",
        True,
        "The object has no SOP Instance UID or no SOP Class UID.",
        "Repair the object at its source.",
    ),
    "invalid-uid": Reason(
        "skipped",
        True,
        "A UID of the object breaks the rules of PS3.5 section 9 (or does not fit a FHIR id).",
        "Repair the object at its source.",
    ),
    "not-an-instance": Reason(
        "skipped", False, "A DICOM object that is no composite instance of a study.", "Nothing."
    ),
    "dicomdir": Reason(
        "skipped",
        False,
        "A DICOMDIR: an index, never an instance itself.",
        "Nothing; the files beside it are read.",
    ),
    "duplicate": Reason(
        "skipped", False, "The same instance with the same content was read before.", "Nothing."
    ),
    "duplicate-differs": Reason(
        "finding",
        False,
        "The same SOP Instance UID came with different content; one of them is used.",
        "Find out which copy is right and leave the other out.",
    ),
    "instance-in-several-studies": Reason(
        "finding",
        False,
        "The same SOP Instance UID is in two studies; it stays in both.",
        "Find out which study it belongs to and leave the other copy out.",
    ),
    "series-in-several-studies": Reason(
        "finding",
        False,
        "The same Series Instance UID is in two studies; it stays in both.",
        "Find out which study it belongs to and leave the other copy out.",
    ),
    "too-deep": Reason(
        "skipped",
        True,
        "Sequences are nested deeper than any real object needs.",
        "Look at where the file came from; it may be hostile.",
    ),
    "inflate-limit": Reason(
        "skipped",
        True,
        "Compressed data inflates beyond the limit.",
        "Look at where the file came from; it may be hostile.",
    ),
    "header-limit": Reason(
        "skipped",
        True,
        "A value of the header is larger than the limit, or its elements are more than any real object has.",
        "Look at where the file came from; it may be hostile.",
    ),
    "unreadable-member": Reason(
        "skipped", True, "A member of an archive cannot be read.", "Make the archive again."
    ),
    "unreadable-archive": Reason(
        "skipped", True, "An archive cannot be read.", "Make the archive again."
    ),
    "encrypted-member": Reason(
        "skipped", True, "A member of an archive is encrypted.", "Unpack it and convert the folder."
    ),
    "malformed": Reason(
        "skipped",
        True,
        "The header breaks DICOM's encoding rules and cannot be read.",
        "Repair the object at its source.",
    ),
    "permission-denied": Reason(
        "skipped", True, "The file may not be read by this user.", "Run as a user who may read it."
    ),
    "read-error": Reason(
        "skipped", True, "The system failed to read the file.", "Look at the disk or network share."
    ),
    "symbolic-link": Reason(
        "skipped", False, "A symbolic link, not followed.", "Name its target as an input."
    ),
    "special-file": Reason("skipped", False, "A pipe, socket or device.", "Nothing."),
    "changed-while-reading": Reason(
        "skipped",
        True,
        "The file changed while it was read.",
        "Run again, or use --ignore-changed.",
    ),
    "filtered": Reason("skipped", False, "Left out by a filter of the command line.", "Nothing."),
    "not-found": Reason(
        "skipped",
        True,
        "A path of a list does not exist, or a file went while the run was on.",
        "Correct the list, or run again.",
    ),
    "nested-archive": Reason(
        "skipped",
        True,
        "An archive within an archive, not opened.",
        "Unpack the outer archive and convert the folder.",
    ),
    "reader-crashed": Reason(
        "skipped",
        True,
        "The process that read the file died; the others went on.",
        "Look at the memory limit of the machine; send us the file's header if you may.",
    ),
    # studies that are held back
    "patient-conflict": Reason(
        "held",
        True,
        "Two patients in one study: it is published for nobody.",
        "Find out whose study it is and leave the other objects out.",
    ),
    "patient-mismatch": Reason(
        "held",
        True,
        "One patient key with two different people behind it: the studies are held.",
        "Find out which record is right.",
    ),
    "patient-unconfirmed": Reason(
        "held",
        True,
        "The study held two patients and holds one since an object came again; a person must confirm it.",
        "Say whose study it is: `dcm2fhir studies resolve`.",
    ),
    "excluded": Reason("held", False, "An operator excluded it.", "`dcm2fhir studies include`."),
    "rejected": Reason(
        "held",
        False,
        "Rejection notes leave nothing of the study: where it stands it is emptied and cancelled, elsewhere nothing is written.",
        "Nothing.",
    ),
    "headers-purged": Reason(
        "held",
        True,
        "The headers of the study were purged and what was published of it was taken back, so nothing is left to publish it from.",
        "Send it again.",
    ),
    "subject-mismatch": Reason(
        "held",
        True,
        "The study that stands at the destination belongs to another patient, or nothing shows that it is the same one.",
        "Find out whose study it is; `dcm2fhir studies resolve` of a study that the daemon published, else put it right at the destination.",
    ),
    "study-mismatch": Reason(
        "held",
        True,
        "The resource that stands at the destination is of another study.",
        "Find out what was written there and by whom.",
    ),
    "standing-unreadable": Reason(
        "held",
        True,
        "What stands at the destination of the study, or of a resource that it names, cannot be read; it is not overwritten.",
        "Look at the file that the issue names, or at the resource on the server, and move it away.",
    ),
    "study-failed": Reason(
        "held",
        True,
        "The conversion of the study broke off; the others went on.",
        "Report it with the message of the issue; it holds no patient's value.",
    ),
    # studies that a FHIR server did not take
    **{code: Reason("held", True, *row) for code, row in UNDELIVERED.items()},
    # findings about values and encodings
    **{code: Reason("finding", False, *row) for code, row in ENCODINGS.items()},
    # rejection notes
    **{code: Reason("finding", False, *row) for code, row in REJECTIONS.items()},
    # what the mapping finds
    "values-differ": Reason(
        "finding",
        False,
        "Instances differ in a value that the resource holds once; the most frequent one is used, of left and right neither.",
        "Look at the instances named, and correct them at their source if one is wrong.",
    ),
    "code-unknown": Reason(
        "finding",
        False,
        "A code or term that the tables do not have; its text is kept where the element has room for it.",
        "Add it to a code table of the site's overlay, or correct it at its source.",
    ),
    "code-normalised": Reason(
        "finding",
        False,
        "A term was found in the table only after blanks, underscores or case were changed.",
        "Nothing; or correct it at its source.",
    ),
    "coding-scheme-unknown": Reason(
        "finding",
        False,
        "A coding scheme whose system nobody states; the meaning is kept as text.",
        "Name its system in [site.coding_schemes].",
    ),
    "not-a-body-structure": Reason(
        "finding",
        False,
        "The term is a physical object (a phantom), no part of a body; it stays as text.",
        "Nothing.",
    ),
    "modality-missing": Reason(
        "finding",
        False,
        "Neither Modality nor the SOP class tells the modality; the element says that it is unknown.",
        "Correct the object at its source.",
    ),
    "modality-derived": Reason(
        "finding",
        False,
        "Modality is missing and was taken from the SOP class.",
        "Nothing; or correct the object at its source.",
    ),
    "issuer-missing": Reason(
        "finding",
        False,
        "An identifier whose issuer nobody states, or not as ISO, UUID or URI; it is written without a system.",
        "Configure its system, such as [site.patient] system or issuers.",
    ),
    "issuer-malformed": Reason(
        "finding",
        False,
        "An issuer's universal id is not what its type says, or no system of an identifier; it is written without.",
        "Correct it at its source.",
    ),
    "check-digit": Reason(
        "finding",
        False,
        "A number breaks the check digit of the system that its issuer stands for; it is written without that system.",
        "Correct the number at its source.",
    ),
    "patient-scoped-to-study": Reason(
        "finding",
        False,
        "The patient has no identifier with a system, so the Patient belongs to this study alone.",
        "Configure the system of patient identifiers.",
    ),
    "companions-differ": Reason(
        "finding",
        False,
        "Studies differ in what they say of a resource that they share; the most frequent value is used.",
        "Look at the studies named.",
    ),
    "de-identified": Reason(
        "finding",
        False,
        "The object says that its patient's identity was removed: dates and names may be dummies.",
        "Nothing.",
    ),
    "quality-control": Reason(
        "finding",
        False,
        "The object is a quality control image or a phantom.",
        'Set site.patient.subject to "Device" if such studies shall have a Device as subject.',
    ),
    "group-of-subjects": Reason(
        "finding",
        False,
        "The object is of a group of subjects, such as small animals; it is written under its PatientID.",
        "Nothing.",
    ),
    "instances-not-listed": Reason(
        "finding",
        False,
        "An option left the lists of instances out; profiles that ask for them are not claimed.",
        "Use --instances all.",
    ),
    **{code: Reason("finding", False, *row) for code, row in NOT_LINKED.items()},
    "required-missing": Reason(
        "finding",
        False,
        "A required element has no value, so the item that needs it was left out.",
        "Correct the object at its source.",
    ),
    # what the check says; severities stand there
    **{code: Reason("check", False, row.meaning, row.action) for code, row in CHECKS.items()},
}
"""Code to meaning, in the order of ``docs/reasons.md``."""
