"""Transforms to Identifier: who issued a number decides its system, and nothing is guessed."""

from __future__ import annotations

from typing import Any

from converter.core import systems, values
from converter.core.transforms.base import Call, View, transform

__all__ = [
    "HIERARCHIC_DESIGNATOR",
    "AssumedSystem",
    "accession_identifier",
    "identifier_type",
    "is_stated",
    "issuer_of",
    "issuer_system",
    "settle",
    "trusted",
]

V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"

HIERARCHIC_DESIGNATOR: dict[str, Any] = {
    "LocalNamespaceEntityID": None,
    "UniversalEntityID": None,
    "UniversalEntityIDType": None,
}
"""HL7v2 Hierarchic Designator Macro, PS3.3 Table 10-17."""

PATIENT_QUALIFIERS: dict[str, Any] = {
    "UniversalEntityID": None,
    "UniversalEntityIDType": None,
    "IdentifierTypeCode": None,
}
"""Issuer of Patient ID Qualifiers, PS3.3 Table 10-18."""


def identifier_type(call: Call, code: str) -> dict[str, Any]:
    """CodeableConcept of HL7 table v2-0203."""
    row = call.row(code, "identifier-type")
    coding = {"system": V2_0203, "code": code}
    if row is not None and row["display"]:
        coding["display"] = row["display"]
    return {"coding": [coding]}


def issuer_of(item: View, keyword: str) -> View | None:
    """First item of an issuer sequence, where it says anything at all."""
    issuer = item.item(keyword)
    named = issuer and (issuer.whole("UniversalEntityID") or issuer.whole("LocalNamespaceEntityID"))
    return issuer if named else None


def trusted(item: View, keyword: str, system: str) -> str:
    """Give the system, unless the number is not legible: what is left of it may be somebody else's number."""
    return system if system and item.is_legible(keyword) else ""


class AssumedSystem(str):
    """The site's system for a number whose object names no issuer: it gives way to a stated one."""

    __slots__ = ()


def is_stated(system: str) -> bool:
    """Whether an object itself says the system, or its issuer does."""
    return bool(system) and not isinstance(system, AssumedSystem)


def settle(identifiers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Identifiers of many instances: one whose issuer is not stated adds nothing to the same value with one."""
    known = {one["value"] for one in identifiers if is_stated(one.get("system", ""))}
    assumed = {one["value"] for one in identifiers if "system" in one} - known
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in identifiers:
        system, value = one.get("system", ""), one["value"]
        if is_stated(system) or (value not in known and (system or value not in assumed)):
            found.setdefault((system, value), one)
    return list(found.values())


def issuer_system(call: Call, item: View) -> str:
    """System of an issuer's universal id (ISO, UUID or URI), or empty."""
    universal = item.whole("UniversalEntityID")
    kind = item.whole("UniversalEntityIDType").upper()
    if not universal:
        return ""
    if kind == "ISO":
        found = values.uid(universal.encode("ascii", "replace"))
        if found and systems.is_system_oid(found):
            return f"urn:oid:{found}"
    elif kind == "UUID":
        found = systems.uuid(universal)
        if found:
            return f"urn:uuid:{found}"
    elif kind == "URI":
        found = systems.namespace(universal)
        if found:
            return found
    else:
        return ""
    call.issue("issuer-malformed")
    return ""


def _checked(call: Call, check: str, value: str) -> bool:
    if check == "nhs-number" and not systems.is_nhs_number(value):
        call.issue("check-digit")
        return False
    return True


def _patient_identifier(
    call: Call, item: View, value: str, keyword: str = "PatientID"
) -> dict[str, Any] | None:
    settings = call.site.patient
    issuer = item.whole("IssuerOfPatientID")
    qualifiers = item.item("IssuerOfPatientIDQualifiersSequence")
    system = issuer_system(call, qualifiers) if qualifiers else ""
    code = qualifiers.whole("IdentifierTypeCode").upper() if qualifiers else ""
    # what the object states as a universal id goes before what the site says of the issuer's text
    known = settings.issuers.get(system or issuer)
    if known is not None:
        if _checked(call, known.check, value):
            system, code = known.system, known.type or code
            value = systems.compact(value) if known.check else value
        else:
            # the number is kept, but not under a system whose rules it breaks
            system, code = "", ""
    elif not system and not issuer and not (qualifiers and qualifiers.whole("UniversalEntityID")):
        system = settings.system
        code = code or (settings.type if system else "")
    system = trusted(item, keyword, system)
    found: dict[str, Any] = {}
    if code and call.row(code, "identifier-type") is not None:
        found["type"] = identifier_type(call, code)
    elif code:
        call.issue("code-unknown", "IssuerOfPatientIDQualifiersSequence.IdentifierTypeCode")
    if system:
        found["system"] = system
    else:
        call.issue("issuer-missing", severity="information")
    found["value"] = value
    if issuer:
        found["assigner"] = {"display": issuer}
    return found


@transform(
    "patientIdentifier",
    "Identifier",
    needs=PATIENT_QUALIFIERS,
    also=("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
)
def patient_identifier(call: Call) -> dict[str, Any] | None:
    """PatientID under the system of its issuer.

    The issuer's universal id, else what is configured for its text, else for numbers that state none. An
    NHS number needs both its issuer and its check digit. A number that could not be read whole has none.
    """
    value = call.value()
    return _patient_identifier(call, call.view, value, call.keyword) if value else None


@transform("otherPatientIdentifiers", "Identifier", agree="union", items="must")
def other_patient_identifiers(call: Call) -> list[dict[str, Any]] | None:
    """Each item of OtherPatientIDsSequence under its own issuer."""
    found = []
    for item in call.view.items(call.keyword):
        value = item.whole("PatientID")
        one = _patient_identifier(call, item, value) if value else None
        if one:
            found.append(one)
    return found or None


def accession_identifier(call: Call, item: View, code: str = "ACSN") -> dict[str, Any] | None:
    """AccessionNumber of a dataset or request item, under its issuer's or the configured system."""
    value = item.whole("AccessionNumber")
    if not value:
        return None
    settings = call.site.accession
    found: dict[str, Any] = {"type": identifier_type(call, code)}
    issuer = issuer_of(item, "IssuerOfAccessionNumberSequence")
    system = issuer_system(call, issuer) if issuer else ""
    local = issuer.whole("LocalNamespaceEntityID") if issuer else ""
    if not system and local:
        system = call.site.order_systems.get(local, "")
    if not system and not issuer and settings.system:
        system = AssumedSystem(settings.system)
    system = trusted(item, "AccessionNumber", system)
    if system:
        found["system"] = system
    else:
        call.issue("issuer-missing", severity="information")
    found["value"] = value
    # the site assigned what nobody else is said to have assigned
    ours = not issuer or (bool(system) and system == settings.system)
    assigner: dict[str, Any] = {}
    if ours and settings.assigner_system and settings.assigner_value:
        assigner["identifier"] = {
            "system": settings.assigner_system,
            "value": settings.assigner_value,
        }
    display = local or (settings.assigner_display if ours else "")
    if display:
        assigner["display"] = display
    if assigner:
        found["assigner"] = assigner
    return found


@transform(
    "accession",
    "Identifier",
    needs=HIERARCHIC_DESIGNATOR,
    also=("IssuerOfAccessionNumberSequence",),
    agree="union",
    settle=settle,
    whole=True,
)
def accession(call: Call) -> list[dict[str, Any]] | None:
    """Accession numbers of the study, of the datasets or items that hold the sources."""
    found: list[dict[str, Any]] = []
    for source in call.rule.sources:
        call.keyword = source.keyword
        for view in call.at(source):
            one = accession_identifier(call, view)
            if one and one not in found:
                found.append(one)
    return found or None


@transform("studyId", "Identifier", also=("AccessionNumber",))
def study_identifier(call: Call) -> dict[str, Any] | None:
    """StudyID as an identifier without a system; dropped where it repeats the accession number."""
    value = call.value()
    if not value or value == call.top.text("AccessionNumber", "\\"):
        return None
    return {"type": {"text": "Study ID"}, "value": value}


@transform("personIdentifiers", "Identifier", agree="union", items="must")
def person_identifiers(call: Call) -> list[dict[str, Any]] | None:
    """Identification codes of a person (0040,1101) under configured systems; never an unknown one."""
    found = []
    for item in call.view.items(call.keyword):
        one = person_identifier(call, item)
        if one:
            found.append(one)
    return found or None


def person_identifier(call: Call, item: View) -> dict[str, Any] | None:
    """Identifier of one identification code; its coding scheme must have a configured system."""
    keywords = ("CodeValue", "LongCodeValue", "URNCodeValue")
    keyword = next((one for one in keywords if item.whole(one)), "")
    if not keyword:
        return None
    value = item.whole(keyword)
    designator = item.whole("CodingSchemeDesignator")
    system = trusted(item, keyword, call.site.practitioner_systems.get(designator, ""))
    if not system:
        call.issue("issuer-missing", severity="information")
        return {"value": value}
    return {"system": system, "value": value}
