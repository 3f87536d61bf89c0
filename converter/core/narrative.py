"""Short generated narratives (FHIR R4 ``narrative.html``).

The narrative says for a person what the resource says for a machine: facts of the resource, escaped,
nothing else. A resource without one draws the warning dom-6.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["narrative"]

Facts = list[tuple[str, str]]

XHTML = "http://www.w3.org/1999/xhtml"

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, surrogates and non-characters (XML 1.0 section 2.2), and what reverses text."""


def narrative(resource: dict[str, Any], *, body_parts: Sequence[str] = ()) -> dict[str, str]:
    """Make the ``text`` of a resource.

    Parameters
    ----------
    resource : dict
        A FHIR resource; types without a writer of their own get their identifiers.
    body_parts : sequence of str
        DICOM's meanings of the body sites of an ImagingStudy, which as SNOMED CT codes carry no display.

    Returns
    -------
    dict
        ``{"status": "generated", "div": ...}``; the same for the same content.
    """
    type_name = str(resource.get("resourceType", "Resource"))
    writer = _WRITERS.get(type_name)
    title, facts = writer(resource) if writer else ("", [])
    if body_parts:
        facts.append(("Body part", ", ".join(dict.fromkeys(body_parts))))
    facts.append(("Identifier", ", ".join(_identifiers(resource))))
    listed = "".join(
        [f"<li>{label}: {text}</li>" for label, value in facts if value and (text := _text(value))]
    )
    title = _text(title)
    head = f"<p><b>{_text(_spaced(type_name))}</b>{': ' + title if title else ''}</p>"
    body = f"<ul>{listed}</ul>" if listed else ""
    return {"status": "generated", "div": f'<div xmlns="{XHTML}">{head}{body}</div>'}


def _text(value: str) -> str:
    """Text as XHTML holds it; nothing of what is printable is unfit."""
    if not value.isprintable():
        value = _UNFIT.sub(" ", value)
    return escape(" ".join(value.split()), quote=True)


@cache
def _spaced(type_name: str) -> str:
    words = "".join(f" {c}" if c.isupper() else c for c in type_name).split()
    return " ".join([words[0], *(word.lower() for word in words[1:])]) if words else "Resource"


def _coding(coding: dict[str, Any]) -> str:
    code, display = coding.get("code"), coding.get("display")
    return f"{code} ({display})" if code and display else str(display or code or "")


def _concept(concept: dict[str, Any] | None) -> str:
    if not concept:
        return ""
    codings: list[dict[str, Any]] = concept.get("coding") or []
    return str(concept.get("text") or next(filter(None, map(_coding, codings)), ""))


def _concepts(concepts: list[dict[str, Any]] | None) -> str:
    return ", ".join(filter(None, map(_concept, concepts or [])))


def _identifiers(resource: dict[str, Any]) -> Iterator[str]:
    held = resource.get("identifier") or []
    for identifier in [held] if isinstance(held, dict) else held:
        if value := identifier.get("value"):
            kind = _concept(identifier.get("type"))
            yield f"{value} [{kind}]" if kind else str(value)


def _names(names: list[dict[str, Any]] | None) -> str:
    written = []
    for name in names or []:
        parts = [
            *name.get("prefix", []),
            *name.get("given", []),
            name.get("family"),
            *name.get("suffix", []),
        ]
        written.append(str(name.get("text") or " ".join(str(part) for part in parts if part)))
    return ", ".join(filter(None, written))


def _imaging_study(study: dict[str, Any]) -> tuple[str, Facts]:
    series: list[dict[str, Any]] = study.get("series") or []
    kinds = Counter(_short(item.get("modality")) for item in series)
    spread = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()) if kind)
    number = study.get("numberOfSeries")
    return str(study.get("description") or ""), [
        ("Status", str(study.get("status") or "")),
        ("Modality", ", ".join(filter(None, map(_coding, study.get("modality") or [])))),
        ("Started", str(study.get("started") or "")),
        ("Procedure", _concepts(study.get("procedureCode"))),
        ("Reason", _concepts(study.get("reasonCode"))),
        ("Series", "" if number is None else f"{number} ({spread})" if spread else str(number)),
        ("Instances", _number(study.get("numberOfInstances"))),
    ]


def _short(coding: dict[str, Any] | None) -> str:
    return str((coding or {}).get("code") or (coding or {}).get("display") or "")


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _patient(patient: dict[str, Any]) -> tuple[str, Facts]:
    return _names(patient.get("name")), [
        ("Gender", str(patient.get("gender") or "")),
        ("Birth date", str(patient.get("birthDate") or "")),
    ]


def _practitioner(practitioner: dict[str, Any]) -> tuple[str, Facts]:
    return _names(practitioner.get("name")), []


def _service_request(request: dict[str, Any]) -> tuple[str, Facts]:
    return _concept(request.get("code")), [
        ("Status", str(request.get("status") or "")),
        ("Intent", str(request.get("intent") or "")),
        ("Authored", str(request.get("authoredOn") or "")),
        ("Reason", _concepts(request.get("reasonCode"))),
    ]


def _encounter(encounter: dict[str, Any]) -> tuple[str, Facts]:
    return _coding(encounter.get("class") or {}), [("Status", str(encounter.get("status") or ""))]


def _endpoint(endpoint: dict[str, Any]) -> tuple[str, Facts]:
    return str(endpoint.get("name") or ""), [
        ("Status", str(endpoint.get("status") or "")),
        ("Connection", _coding(endpoint.get("connectionType") or {})),
        ("Address", str(endpoint.get("address") or "")),
    ]


def _named(resource: dict[str, Any]) -> tuple[str, Facts]:
    return str(resource.get("name") or ""), []


def _device(device: dict[str, Any]) -> tuple[str, Facts]:
    names = [str(name.get("name") or "") for name in device.get("deviceName") or []]
    return ", ".join(filter(None, names)), [
        ("Type", _concept(device.get("type"))),
        ("Manufacturer", str(device.get("manufacturer") or "")),
        ("Model", str(device.get("modelNumber") or "")),
        ("Serial number", str(device.get("serialNumber") or "")),
    ]


_WRITERS: dict[str, Callable[[dict[str, Any]], tuple[str, Facts]]] = {
    "Device": _device,
    "Encounter": _encounter,
    "Endpoint": _endpoint,
    "ImagingStudy": _imaging_study,
    "Location": _named,
    "Organization": _named,
    "Patient": _patient,
    "Practitioner": _practitioner,
    "ServiceRequest": _service_request,
}
