"""Whose header it is: the UIDs that every composite instance must have."""

from __future__ import annotations

import re
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
    from collections.abc import Collection

__all__ = ["identify", "is_composite", "own_uid", "shared_uids"]

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
_NO_STUDY: Final = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(?:200\.(?!2$|8$)|201\.)[0-9.]+")
"""Protocols, inventories (PS3.4 annex GG, BB) and their queries share the prefix; of them only what was performed
on a patient (200.2, 200.8) belongs to a study."""

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
    return sop_class_uid.startswith(_STORAGE) and not _NO_STUDY.fullmatch(sop_class_uid)


_UID_BYTES: Final = re.compile(rb"(?:(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*)[ \0]*")
_checked_classes: Final[set[str]] = set()
"""SOP classes whose objects were found to be instances of studies."""
_known: Final[dict[bytes, str]] = {}
"""UIDs that many instances share, as they stand in headers, once they were checked."""
_KNOWN_SIZE: Final = 4096


def _shared(value: bytes) -> str | None:
    """Read a UID that many instances share."""
    found = _known.get(value)
    if found is None:
        found = own_uid(value)
        if found is not None:
            if len(_known) >= _KNOWN_SIZE:
                _known.clear()
            _known[value] = found
    return found


def own_uid(value: bytes) -> str | None:
    """Read a UID without words about what is wrong with it."""
    if _UID_BYTES.fullmatch(value) is None:
        return None
    text = value.rstrip(b" \0").decode("ascii")
    return text if len(text) <= 64 else None


def shared_uids(header: Header) -> tuple[str, str, str] | None:
    """Study, Series and SOP Class UID of a header, where they are in order and of an instance of a study."""
    study = _shared(header.get(STUDY_INSTANCE_UID, b""))
    series = _shared(header.get(SERIES_INSTANCE_UID, b""))
    sop_class = _shared(header.get(SOP_CLASS_UID, b""))
    if study is None or series is None or sop_class is None or sop_class not in _checked_classes:
        return None
    return study, series, sop_class


def identify(header: Header, findings: Collection[str]) -> Read | Unreadable:
    """Check the UIDs of a header."""
    shared = shared_uids(header)
    instance = own_uid(header.get(SOP_INSTANCE_UID, b"")) if shared else None
    if shared and instance is not None:
        study, series, sop_class_uid = shared
        found = tuple(sorted(findings)) if findings else ()
        return Read(header, study, series, instance, sop_class_uid, found)
    return _identify(header, findings)


def _identify(header: Header, findings: Collection[str]) -> Read | Unreadable:
    """Check with words about what is wrong."""
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
    if len(_checked_classes) < _KNOWN_SIZE:
        _checked_classes.add(sop_class_uid)
    return Read(header, study, series, instance, sop_class_uid, tuple(sorted(findings)))
