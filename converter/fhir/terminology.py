"""Codes that we can judge offline: those of the code systems and value sets that we carry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from converter.core.systems import is_loinc
from converter.fhir.codes import language
from converter.fhir.primitives import SCHEME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.core.structure import Binding, Structure
    from converter.core.tables import CodeTable
    from converter.fhir.report import Path, Report

__all__ = ["CID29", "DCM", "Terminology"]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
CID29 = "http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_29.html"
SOP_CLASSES = (
    "http://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_B.5.html#table_B.5-1"
)
URI_SYSTEM = "urn:ietf:rfc:3986"
SCT = "http://snomed.info/sct"
LOINC = "http://loinc.org"
LANGUAGES = "urn:ietf:bcp:47"
CASELESS = frozenset({"http://terminology.hl7.org/CodeSystem/v2-0203"})
"""Code systems of ours that R4 does not call case sensitive."""
REMEMBERED = 4096

SCT_EXPRESSION = re.compile(r"(===|<<<|\()?\s*[0-9].*", re.DOTALL)
SOP_CLASS = re.compile(r"urn:oid:([0-2](?:\.(?:0|[1-9][0-9]*))+)")

VERHOEFF = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
TURNS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 5, 7, 6, 2, 8, 3, 0, 9, 4),
    (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0),
    (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5),
    (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)


def sct_identifier(code: str) -> bool:
    """Whether a SNOMED CT identifier has its length and check digit (Verhoeff); expressions pass."""
    if not code.isdecimal():
        return True
    if not 6 <= len(code) <= 18:
        return False
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = VERHOEFF[check][TURNS[place % 8][int(digit)]]
    return check == 0


class Terminology:
    """Judges codings; remembers those that it found right."""

    def __init__(self, structure: Structure, tables: Mapping[str, CodeTable]) -> None:
        self.value_sets = structure.value_sets
        self.tables = tables
        self.systems: dict[str, frozenset[str]] = {
            url: frozenset(codes[url])
            for url, codes in structure.value_sets.items()
            if url in codes and len(codes) == 1
        }
        if "dcm" in tables:
            self.systems[DCM] = frozenset(tables["dcm"].rows)
        self.modalities = (
            {code: row["acquisition"] == "yes" for code, row in tables["modality"].rows.items()}
            if "modality" in tables
            else {}
        )
        self.sop_classes = (
            frozenset(tables["sop-classes"].rows) if "sop-classes" in tables else None
        )
        self._right: set[tuple[Any, Any]] = set()
        self._classes: set[tuple[Any, Any]] = set()

    def coding(self, value: dict[str, Any], path: Path, report: Report) -> None:
        """Hold one Coding against its code system."""
        system, code = value.get("system"), value.get("code")
        pair = (system, code)
        try:
            if pair in self._right:
                return
        except TypeError:
            return  # an object or array: told by the structure
        if system.__class__ is not str:
            if code.__class__ is str:
                report.add("coding-without-system", path, "a code without a system means nothing")
            return
        if system and not SCHEME.match(system):
            report.add("system-form", (path, "system", None), "a code system is an absolute URI")
            return
        if code.__class__ is not str or not code:
            return
        known = self.systems.get(system)
        if known is not None and code not in known and not self._caseless(system, code):
            report.add("unknown-code", (path, "code", None), f"{system} has no such code")
        elif system == SCT and not SCT_EXPRESSION.fullmatch(code):
            report.add("code-form", (path, "code", None), "no SNOMED CT identifier or expression")
        elif system == SCT and not sct_identifier(code):
            report.add(
                "check-digit-of-code",
                (path, "code", None),
                "a SNOMED CT identifier has 6 to 18 digits and a check digit",
            )
        elif system == LANGUAGES and language(code) is not None:
            report.add("unknown-code", (path, "code", None), "no language tag, such as en-GB")
        elif system == LOINC and not is_loinc(code):
            report.add("code-form", (path, "code", None), "no LOINC code")
        elif len(self._right) < REMEMBERED:
            self._right.add(pair)

    def _caseless(self, system: str, code: str) -> bool:
        """Whether a code system that minds no case has a code in another one."""
        if system not in CASELESS:
            return False
        wanted = code.casefold()
        return any(known.casefold() == wanted for known in self.systems[system])

    def concept(self, value: dict[str, Any], path: Path, report: Report) -> None:
        """Tell codings of a CodeableConcept that name a system that we know and no code of it."""
        codings = value.get("coding")
        for index, item in enumerate(codings if isinstance(codings, list) else ()):
            if item.__class__ is dict and "code" not in item:
                system = item.get("system")
                if system.__class__ is str and system in self.systems:
                    place = (path, "coding", index)
                    report.add("unknown-code", place, f"{system} without a code of it")

    def modality(
        self, value: dict[str, Any], path: Path, report: Report, *, acquisition: bool
    ) -> None:
        """Hold a modality against CID 29 (acquisition), or CID 33 for a series."""
        system, code = value.get("system"), value.get("code")
        if code.__class__ is not str:
            return
        if system != DCM:
            report.add(
                "modality-system",
                path,
                f"the code is not of {DCM}, which the binding to CID 29 wants",
            )
        elif code in self.systems.get(DCM, ()):
            is_acquisition = self.modalities.get(code)
            if is_acquisition is None:
                report.add("outside-value-set", path, "a DICOM code that is no modality (CID 33)")
            elif acquisition and not is_acquisition:
                report.add(
                    "modality-not-acquisition",
                    path,
                    "R4 lists acquisition modalities (CID 29) here; this one belongs in series.modality alone",
                )

    def sop_class(self, value: dict[str, Any], path: Path, report: Report) -> None:
        """Hold a SOP class against PS3.6; a private one is only told."""
        pair = (value.get("system"), value.get("code"))
        try:
            if pair in self._classes:
                return
        except TypeError:
            return
        system, code = pair
        if code.__class__ is not str:
            return
        match = SOP_CLASS.fullmatch(code)
        if system != URI_SYSTEM or not match:
            report.add(
                "sop-class-form", path, f"a SOP class is urn:oid:UID in the system {URI_SYSTEM}"
            )
        elif self.sop_classes is not None and match[1] not in self.sop_classes:
            report.add("unknown-sop-class", path, "no SOP class of PS3.6; a private one?")
        elif len(self._classes) < REMEMBERED:
            self._classes.add(pair)

    def allowed(self, binding: Binding) -> frozenset[tuple[str, str]] | None:
        """All (system, code) of a value set, or ``None`` where we do not carry it."""
        codes = self.value_sets.get(binding.value_set)
        if codes is None:
            return None
        return frozenset((system, code) for system, listed in codes.items() for code in listed)

    def plain_codes(self, value_set: str) -> frozenset[str] | None:
        """Codes of a value set, for elements of type ``code``."""
        codes = self.value_sets.get(value_set)
        return None if codes is None else frozenset().union(*codes.values())
