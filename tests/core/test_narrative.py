from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.core.narrative import narrative

DCM = "http://dicom.nema.org/resources/ontology/DCM"

RESOURCES = {
    "ImagingStudy": (
        {
            "description": "CT <chest> & more",
            "status": "available",
            "modality": [{"system": DCM, "code": "CT", "display": "Computed Tomography"}],
            "started": "2024-03-12",
            "numberOfSeries": 2,
            "numberOfInstances": 3,
            "series": [{"modality": {"code": "CT"}}, {"modality": {"code": "SR"}}],
            "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.4"}],
        },
        ["CT <chest> & more", "CT (Computed Tomography)", "2024-03-12", "2 (CT 1, SR 1)", "Instances: 3", "1.2.3.4"],
    ),
    "Patient": (
        {"name": [{"family": "Doe", "given": ["Ann"]}], "gender": "female", "birthDate": "1960-07-01"},
        ["Ann Doe", "female", "1960-07-01"],
    ),
    "Practitioner": ({"name": [{"text": "Dr Paul Rastall"}]}, ["Dr Paul Rastall"]),
    "ServiceRequest": (
        {"code": {"text": "CT Chest"}, "status": "unknown", "intent": "order", "identifier": [{"value": "A1", "type": {"coding": [{"code": "ACSN"}]}}]},
        ["CT Chest", "order", "A1 [ACSN]"],
    ),
    "Encounter": ({"class": {"code": "IMP"}, "status": "unknown", "identifier": [{"value": "V1"}]}, ["IMP", "V1"]),
    "Endpoint": (
        {"status": "active", "address": "https://pacs.example.org/dicomweb", "connectionType": {"code": "dicom-wado-rs"}},
        ["https://pacs.example.org/dicomweb", "dicom-wado-rs"],
    ),
    "Organization": ({"name": "Trust"}, ["Trust"]),
    "Location": ({"name": "Room 4"}, ["Room 4"]),
    "Device": ({"manufacturer": "Maker", "serialNumber": "77"}, ["Maker", "77"]),
}  # fmt: skip


def shown(resource, **options):
    text = narrative(resource, **options)
    assert text["status"] == "generated"
    root = ET.fromstring(text["div"])
    assert root.tag == "{http://www.w3.org/1999/xhtml}div"
    return "\n".join("".join(element.itertext()) for element in root.iter())


@pytest.mark.parametrize("type_name", sorted(RESOURCES))
def test_narrative_tells_the_facts_of_each_type(type_name):
    content, expected = RESOURCES[type_name]
    text = shown({"resourceType": type_name, **content})
    for fact in expected:
        assert fact in text


def test_unknown_or_empty_resource_still_has_content():
    assert shown({"resourceType": "Basic"}).strip() == "Basic\nBasic\nBasic".strip()
    assert "Imaging study" in shown({"resourceType": "ImagingStudy"})


def test_body_parts_are_shown_once_each():
    text = shown({"resourceType": "ImagingStudy"}, body_parts=["Chest", "Chest", "Abdomen"])
    assert "Body part: Chest, Abdomen" in text


def test_markup_in_a_value_stays_text():
    div = narrative({"resourceType": "Location", "name": "<script>alert('x')</script>"})["div"]
    assert "<script" not in div
    assert "&lt;script&gt;" in div


@given(st.text())
def test_any_text_gives_well_formed_deterministic_xhtml(value):
    resource = {"resourceType": "ImagingStudy", "description": value}
    shown(resource)
    assert narrative(resource) == narrative(dict(resource))
    assert all(c >= " " for c in narrative(resource)["div"])
