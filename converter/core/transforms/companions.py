"""Transforms of the resources beside the study: what a reference was made of becomes a resource."""

from __future__ import annotations

from typing import Any

from converter.core import systems, values
from converter.core.dictionary import tag_of
from converter.core.transforms.base import Absent, Call, Ref, transform
from converter.core.transforms.identifiers import (
    accession_identifier,
    identifier_type,
    issuer_of,
    issuer_system,
    trusted,
)
from converter.core.transforms.references import encounter, order_number

__all__: list[str] = []

CONNECTION_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
VIEWER = "RetrieveURI"
"""Stands for the viewer's address in the header that an Endpoint is made of."""


@transform("subject", "Reference", aggregate=True)
def subject(call: Call) -> None:
    """Whom the study is of; made by the engine."""


@transform(
    "endpoints",
    "Reference",
    also=("RetrieveURL", "StudyInstanceUID"),
    agree="union",
    sourceless=True,
    lacks="no value in RetrieveURL, and the settings name no endpoint (site.endpoint)",
)
def endpoints(call: Call) -> list[Ref] | None:
    """The DICOMweb service (configured, else of RetrieveURL) and the viewer (configured)."""
    settings = call.site.endpoint
    found: list[Ref] = []
    base = systems.dicomweb_base(settings.wado_rs) or _base(call)
    if base:
        found.append(_endpoint("RetrieveURL", base, "dicom-wado-rs"))
    if settings.viewer:
        uid = call.top.whole("StudyInstanceUID")
        address = settings.viewer.replace("{StudyInstanceUID}", uid)
        found.append(_endpoint(VIEWER, address, "ihe-iid"))
    return found or None


def _base(call: Call) -> str:
    url = call.top.whole("RetrieveURL")
    base = systems.dicomweb_base(url)
    if url and not base:
        call.issue("value-malformed", "RetrieveURL")
    return base


def _endpoint(keyword: str, address: str, kind: str) -> Ref:
    header = ((tag_of(keyword) or 0, address.encode()),)
    return Ref("Endpoint", {"type": "Endpoint"}, header, kind, address)


@transform("endpointType", "Coding", also=("RetrieveURL", VIEWER), sourceless=True)
def endpoint_type(call: Call) -> dict[str, Any]:
    """``dicom-wado-rs``, or ``ihe-iid`` for a viewer."""
    code = "dicom-wado-rs" if call.top.raw("RetrieveURL") else "ihe-iid"
    row = call.row(code, "endpoint-connection-type")
    return {"system": CONNECTION_TYPE, "code": code, **({"display": row["display"]} if row else {})}


@transform("endpointAddress", "url", also=(VIEWER,))
def endpoint_address(call: Call) -> str | None:
    """Base address of the service."""
    return call.value() or call.top.whole(VIEWER) or None


@transform("endpointName", "string", sourceless=True)
def endpoint_name(call: Call) -> str | None:
    """Configured name."""
    return call.site.endpoint.name or None


@transform(
    "orderIdentifiers",
    "Identifier",
    also=(
        "AccessionNumber",
        "IssuerOfAccessionNumberSequence",
        "PlacerOrderNumberImagingServiceRequest",
        "OrderPlacerIdentifierSequence",
        "FillerOrderNumberImagingServiceRequest",
        "OrderFillerIdentifierSequence",
    ),
    agree="union",
    sourceless=True,
)
def order_identifiers(call: Call) -> list[dict[str, Any]] | None:
    """Accession, placer and filler numbers of an order."""
    found = [accession_identifier(call, call.top), *order_number(call, call.top)]
    return [one for one in found if one] or None


@transform("orderStatus", "code", sourceless=True)
def order_status(call: Call) -> str:
    """Configured status; DICOM has none."""
    return call.site.service_request_status


@transform(
    "visitIdentifier", "Identifier", also=("IssuerOfAdmissionIDSequence", "IssuerOfAdmissionID")
)
def visit_identifier(call: Call) -> dict[str, Any] | None:
    """AdmissionID under its issuer's system."""
    found = encounter(call)
    return dict(found.logical["identifier"]) if isinstance(found, Ref) else None


@transform("encounterStatus", "code", sourceless=True)
def encounter_status(call: Call) -> str | None:
    """Configured status; DICOM has none."""
    return call.site.encounter.status or None


@transform("encounterClass", "Coding", sourceless=True)
def encounter_class(call: Call) -> dict[str, Any] | Absent:
    """Configured class; DICOM has none."""
    settings = call.site.encounter.encounter_class
    if settings is None:
        return Absent()
    display = {"display": settings.display} if settings.display else {}
    return {"system": settings.system, "code": settings.code, **display}


@transform("placeName", "string", also=("InstitutionalDepartmentName",))
def place_name(call: Call) -> str | None:
    """Institution and department."""
    parts = (call.text(), call.top.text("InstitutionalDepartmentName"))
    return ", ".join(dict.fromkeys(part for part in parts if part)) or None


@transform("organizationIdentifier", "Identifier", sourceless=True)
def organization_identifier(call: Call) -> dict[str, Any] | None:
    """Configured identifier, such as an ODS code."""
    settings = call.site.organization
    return (
        {"system": settings.system, "value": settings.value}
        if settings.system and settings.value
        else None
    )


@transform("organizationName", "string")
def organization_name(call: Call) -> str | None:
    """Configured name, else the institution's."""
    return call.site.organization.name or call.text() or None


@transform("serialNumber", "Identifier")
def serial_number(call: Call) -> dict[str, Any] | None:
    """Serial number as an identifier of type SNO."""
    value = call.value()
    return {"type": identifier_type(call, "SNO"), "value": value} if value else None


@transform("specimens", "Reference", agree="union", items="must")
def specimens(call: Call) -> list[dict[str, Any]] | None:
    """Specimens by SpecimenIdentifier and its issuer, or SpecimenUID; logical references."""
    found = []
    for item in call.view.items(call.keyword):
        value = item.whole("SpecimenIdentifier")
        issuer = issuer_of(item, "IssuerOfTheSpecimenIdentifierSequence")
        uid = values.uid(item.raw("SpecimenUID"))
        identifier: dict[str, Any] = {}
        if value:
            system = issuer_system(call, issuer) if issuer else ""
            system = trusted(item, "SpecimenIdentifier", system)
            local = issuer.whole("LocalNamespaceEntityID") if issuer else ""
            if system:
                identifier["system"] = system
            identifier["value"] = value
            if local:
                identifier["assigner"] = {"display": local}
        elif uid:
            identifier = {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{uid}"}
        elif item.raw("SpecimenUID"):
            call.issue("value-malformed", f"{call.keyword}.SpecimenUID")
        if identifier:
            found.append({"type": "Specimen", "identifier": identifier})
    return found or None
