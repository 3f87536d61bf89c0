"""Whose header it is: the UIDs that every composite instance must have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from converter.core.header import (
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Header,
    Unreadable,
)
from converter.core.values import parse_uid
from converter.reading.result import Read
from converter.reading.start import MEDIA_STORAGE_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["identify", "is_composite"]

_DICOM: Final = "1.2.840.10008."
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_ALSO_COMPOSITE: Final = frozenset(
    {
        "1.2.840.10008.5.1.1.27",  # Stored Print Storage (retired)
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image Storage (retired)
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image Storage (retired)
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction Storage - Trial (retired)
        "1.2.840.10008.5.1.4.34.7",  # RT Beams Delivery Instruction Storage
        "1.2.840.10008.5.1.4.34.10",  # RT Brachy Application Setup Delivery Instruction Storage
    }
)
_NON_PATIENT: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol Storage
        "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval Storage
        "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol Storage
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory Storage
    }
)
"""Non-Patient Object Storage among the composite classes (PS3.4 annex GG): they have no study."""

_NAMES: Final = (
    (STUDY_INSTANCE_UID, "no-study-uid", "Study Instance UID"),
    (SERIES_INSTANCE_UID, "no-series-uid", "Series Instance UID"),
    (SOP_INSTANCE_UID, "no-sop-uid", "SOP Instance UID"),
    (SOP_CLASS_UID, "no-sop-uid", "SOP Class UID"),
)


def is_composite(sop_class_uid: str) -> bool:
    """Whether objects of a SOP class are instances of a study; private classes are taken for such."""
    if not sop_class_uid.startswith(_DICOM) or sop_class_uid in _ALSO_COMPOSITE:
        return True
    return sop_class_uid.startswith(_STORAGE) and sop_class_uid not in _NON_PATIENT


def identify(header: Header, findings: Iterable[str]) -> Read | Unreadable:
    """Check the UIDs of a header."""
    sop_class = header.get(SOP_CLASS_UID, b"").strip(b" \0")
    if sop_class == MEDIA_STORAGE_DIRECTORY:
        return Unreadable("dicomdir")
    if sop_class and not is_composite(sop_class.decode("latin_1")):
        return Unreadable("not-an-instance")
    uids: list[str] = []
    for tag, absent, name in _NAMES:
        parsed = parse_uid(header.get(tag))
        if parsed.findings:
            return Unreadable("invalid-uid", f"{name} is not valid.")
        if parsed.value is None:
            return Unreadable(absent, f"{name} is missing.")
        uids.append(parsed.value)
    study, series, instance, sop_class_uid = uids
    return Read(header, study, series, instance, sop_class_uid, tuple(sorted(findings)))
