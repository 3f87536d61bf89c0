"""Transforms to references of orders, visits, places, organisations and devices."""

from __future__ import annotations

from typing import Any

from converter.core.dictionary import tag_of
from converter.core.header import (
    ASSUMED_CHARSET,
    ASSUMED_ZONE,
    TIMEZONE_OFFSET_FROM_UTC,
    Header,
)
from converter.core.transforms.base import Absent, Call, Ref, View, transform
from converter.core.transforms.codes import CODE_ITEM, DCM, SCHEMES
from converter.core.transforms.identifiers import (
    HIERARCHIC_DESIGNATOR,
    accession_identifier,
    identifier_type,
    is_stated,
    issuer_of,
    issuer_system,
    trusted,
)

__all__ = ["REQUEST", "encounter", "order_number"]

REQUEST: dict[str, Any] = {
    "AccessionNumber": None,
    "IssuerOfAccessionNumberSequence": HIERARCHIC_DESIGNATOR,
    "PlacerOrderNumberImagingServiceRequest": None,
    "OrderPlacerIdentifierSequence": HIERARCHIC_DESIGNATOR,
    "FillerOrderNumberImagingServiceRequest": None,
    "OrderFillerIdentifierSequence": HIERARCHIC_DESIGNATOR,
    "RequestedProcedureID": None,
    "RequestedProcedureDescription": None,
    "RequestedProcedureCodeSequence": CODE_ITEM,
    "ReasonForTheRequestedProcedure": None,
    "ReasonForRequestedProcedureCodeSequence": CODE_ITEM,
    "RequestingPhysician": None,
    "RequestingPhysicianIdentificationSequence": {"PersonIdentificationCodeSequence": CODE_ITEM},
    "IssueDateOfImagingServiceRequest": None,
    "IssueTimeOfImagingServiceRequest": None,
}
"""What is read of a request item: PS3.3 Table 10-9 and C.12-1 (Referenced Request)."""

ORDER_NUMBERS = (
    ("PLAC", "PlacerOrderNumberImagingServiceRequest", "OrderPlacerIdentifierSequence"),
    ("FILL", "FillerOrderNumberImagingServiceRequest", "OrderFillerIdentifierSequence"),
)


def order_number(call: Call, item: View) -> list[dict[str, Any]]:
    """Placer and filler order numbers of a request item, with their issuers."""
    found = []
    for code, keyword, issuer_keyword in ORDER_NUMBERS:
        value = item.whole(keyword)
        if not value:
            continue
        issuer = issuer_of(item, issuer_keyword)
        system = issuer_system(call, issuer) if issuer else ""
        local = issuer.whole("LocalNamespaceEntityID") if issuer else ""
        system = trusted(item, keyword, system or call.site.order_systems.get(local, ""))
        identifier: dict[str, Any] = {"type": identifier_type(call, code)}
        if system:
            identifier["system"] = system
        identifier["value"] = value
        if local:
            identifier["assigner"] = {"display": local}
        found.append(identifier)
    return found


def _order(call: Call, item: View) -> Ref | None:
    """Reference to the order of one request item: by accession, else placer, else filler number."""
    identifier = accession_identifier(call, item)
    if identifier is not None:
        coding = {"system": DCM, "code": "121022", "display": "Accession Number"}
        identifier["type"]["coding"].append(coding)
    else:
        identifier = next(iter(order_number(call, item)), None)
    if identifier is None:
        return None
    header: Header = item.alone()
    for tag in (ASSUMED_CHARSET, ASSUMED_ZONE, TIMEZONE_OFFSET_FROM_UTC, *map(tag_of, SCHEMES)):
        # said once for the whole object, its request items included
        if tag in call.top.header:
            header[tag] = call.top.header[tag]
    system, value = identifier.get("system", ""), identifier["value"]
    kind = identifier["type"]["coding"][0]["code"]
    if not system and kind != "ACSN":
        value = f"{kind}|{value}"  # a placer's and a filler's number 17 are two orders
    logical = {"type": "ServiceRequest", "identifier": identifier}
    return Ref("ServiceRequest", logical, tuple(sorted(header.items())), system, value)


def _settle(refs: list[Ref]) -> list[Ref]:
    """Orders of many instances: one whose issuer is not stated adds nothing to the same number with one."""
    known = {ref.value for ref in refs if is_stated(ref.system)}
    assumed = {ref.value for ref in refs if ref.system} - known
    found: dict[tuple[str, str], Ref] = {}
    for ref in refs:
        held = ref.value in known or (not ref.system and ref.value in assumed)
        if is_stated(ref.system) or not held:
            found.setdefault((ref.system, ref.value), ref)
    return list(found.values())


@transform(
    "orders",
    "Reference",
    needs=REQUEST,
    also=(
        "IssuerOfAccessionNumberSequence",
        "TimezoneOffsetFromUTC",
        *(keyword for keyword, inner in REQUEST.items() if inner is None),
        "RequestedProcedureCodeSequence",
        "ReasonForRequestedProcedureCodeSequence",
        "RequestingPhysicianIdentificationSequence",
        *SCHEMES,
    ),
    agree="union",
    settle=_settle,
    whole=True,
    items="may",
)
def orders(call: Call) -> list[Ref] | None:
    """One reference for each distinct order: of the request items, and of the object's own accession.

    The object's own accession number adds nothing where an item carries it already.
    """
    found: list[Ref] = []
    for source in call.rule.sources:
        call.keyword = source.keyword
        views = (
            [item for view in call.at(source) for item in view.items(source.last)]
            if source.vr == "SQ"
            else [call.top]
        )
        for view in views:
            one = _order(call, view)
            if one is not None:
                found.append(one)
    return _settle(found) or None


@transform(
    "encounter",
    "Reference",
    needs=HIERARCHIC_DESIGNATOR,
    also=("IssuerOfAdmissionIDSequence", "IssuerOfAdmissionID"),
)
def encounter(call: Call) -> Ref | Absent | None:
    """Reference to the visit by AdmissionID; without one, what ``site.encounter.missing`` says."""
    value = call.value()
    settings = call.site.encounter
    if not value:
        return Absent() if settings.missing == "data-absent-reason" else None
    issuer = issuer_of(call.top, "IssuerOfAdmissionIDSequence")
    system = issuer_system(call, issuer) if issuer else ""
    display = issuer.whole("LocalNamespaceEntityID") if issuer else ""
    display = display or call.top.whole("IssuerOfAdmissionID")
    if not system and display:
        system = call.site.order_systems.get(display, "")
    if not system and not issuer and not display:
        system = settings.system
    system = trusted(call.view, call.keyword, system)
    identifier: dict[str, Any] = {"type": identifier_type(call, "VN")}
    if system:
        identifier["system"] = system
    identifier["value"] = value
    if display:
        identifier["assigner"] = {"display": display}
    logical = {"type": "Encounter", "identifier": identifier}
    complete = settings.status and settings.encounter_class
    header = tuple(sorted(call.top.header.items())) if complete else ()
    return Ref("Encounter", logical, header, system, value)


@transform(
    "place",
    "Reference",
    also=("InstitutionName", "InstitutionalDepartmentName"),
)
def place(call: Call) -> Ref | None:
    """Where the study was made, as text: institution, department; a Location where wished for."""
    parts = [
        call.top.text("InstitutionName"),
        call.top.text("InstitutionalDepartmentName"),
    ]
    parts += [call.top.text(source.last) for source in call.rule.others]
    display = ", ".join(dict.fromkeys(part for part in parts if part))
    if not display:
        return None
    return Ref(
        "Location",
        {"type": "Location", "display": display},
        tuple(sorted(call.top.header.items())),
        "",
        display,
    )


@transform("organization", "Reference")
def organization(call: Call) -> Ref | None:
    """The configured organisation, or the institution by its name."""
    settings = call.site.organization
    name = settings.name or call.text()
    logical: dict[str, Any] = {"type": "Organization"}
    if settings.system and settings.value:
        logical["identifier"] = {"system": settings.system, "value": settings.value}
    if name:
        logical["display"] = name
    if len(logical) == 1:
        return None
    value = settings.value or name
    header = tuple(sorted(call.top.header.items()))
    return Ref("Organization", logical, header if name else (), settings.system, value)


@transform(
    "device",
    "ImagingStudy.series.performer",
    companions_only=True,
    also=("ManufacturerModelName", "DeviceSerialNumber", "StationName", "SoftwareVersions"),
)
def device(call: Call) -> dict[str, Any] | None:
    """The machine, as a performer; only where it may become a Device resource of its own."""
    manufacturer = call.text()
    model = call.top.text("ManufacturerModelName")
    serial = call.top.whole("DeviceSerialNumber")
    display = " ".join(part for part in (manufacturer, model) if part)
    if not display:
        return None
    logical = {"type": "Device", "display": display}
    header = tuple(sorted(call.top.header.items()))
    value = "|".join((manufacturer, model, serial or call.top.whole("StationName")))
    return {"actor": Ref("Device", logical, header, "", value)}
