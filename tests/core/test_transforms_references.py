"""Transforms of identifiers and references, by what comes out of a rule that uses them."""

from __future__ import annotations

import pytest

from converter.core.engine import Options
from tests.core.making import codes, companions, converted, imaging_study, patient

NHS = {
    "issuers": {
        "NHS": {
            "system": "https://fhir.nhs.uk/Id/nhs-number",
            "type": "NH",
            "check": "nhs-number",
        }
    }
}
OID = "1.2.826.0.1.3680043.10.99"
WITH = Options(companions=True)


def issuer(universal="", kind="", local="", code=""):
    found = {
        "UniversalEntityID": universal,
        "UniversalEntityIDType": kind,
        "LocalNamespaceEntityID": local,
        "IdentifierTypeCode": code,
    }
    return [{key: value for key, value in found.items() if value}]


# --- hierarchic designators (PS3.3 Table 10-17) ---------------------------------------------------


@pytest.mark.parametrize(
    ("universal", "kind", "system", "malformed"),
    [
        (OID, "ISO", f"urn:oid:{OID}", False),
        ("1.2.3", "ISO", None, True),
        ("1.02.3.4.5", "ISO", None, True),
        ("not an oid", "ISO", None, True),
        (
            "0F9D7C2E-0000-4000-8000-000000000001",
            "UUID",
            "urn:uuid:0f9d7c2e-0000-4000-8000-000000000001",
            False,
        ),
        ("nonsense", "UUID", None, True),
        ("https://h.example/id", "URI", "https://h.example/id", False),
        ("HTTPS://h.example/Id", "URI", "https://h.example/Id", False),
        (f"URN:OID:{OID}", "URI", f"urn:oid:{OID}", False),
        ("urn:oid:1.2", "URI", None, True),
        (
            "urn:uuid:0F9D7C2E-0000-4000-8000-000000000001",
            "URI",
            "urn:uuid:0f9d7c2e-0000-4000-8000-000000000001",
            False,
        ),
        ("urn:nothing", "URI", None, True),
        ("mailto:mrn@h.example", "URI", None, True),
        ("/relative", "URI", None, True),
        ("no uri", "URI", None, True),
        ("h.example", "DNS", None, False),
        ("x", "", None, False),
    ],
)
def test_an_issuer_gives_a_system_where_its_universal_id_is_what_its_type_says(
    universal, kind, system, malformed
):
    made = converted(
        {
            "PatientID": "1",
            "IssuerOfPatientIDQualifiersSequence": issuer(universal, kind),
            "AccessionNumber": "A",
            "IssuerOfAccessionNumberSequence": issuer(universal, kind),
        },
        patient={"system": "https://own.example"},
        accession={"system": "https://own.example"},
    )
    [one] = made.companions[0]["identifier"]
    assert one.get("system") == system
    assert made.resource["basedOn"][0]["identifier"].get("system") == system
    assert ("issuer-malformed" in codes(made)) is malformed


# --- the patient ----------------------------------------------------------------------------------


def test_a_number_without_an_issuer_is_the_sites_only_where_configured():
    assert patient({"PatientID": "1"})["identifier"] == [{"value": "1"}]
    [one] = patient({"PatientID": "1"}, patient={"system": "https://s.example"})["identifier"]
    assert (one["system"], one["type"]["coding"][0]["code"]) == ("https://s.example", "MR")


def test_a_number_of_another_issuer_is_never_the_sites():
    made = {"PatientID": "1", "IssuerOfPatientID": "OTHER"}
    [one] = patient(made, patient={"system": "https://s.example"})["identifier"]
    assert one == {"value": "1", "assigner": {"display": "OTHER"}}


def test_a_number_that_holds_a_backslash_is_not_cut_to_somebody_elses():
    made = {"PatientID": "WARD\\17", "AccessionNumber": "A\\1", "AdmissionID": "V\\1"}
    whole = converted(made, patient={"system": "https://s.example"})
    assert whole.companions[0]["identifier"][0]["value"] == "WARD\\17"
    assert whole.resource["subject"]["identifier"]["value"] == "WARD\\17"
    assert whole.resource["basedOn"][0]["identifier"]["value"] == "A\\1"
    assert whole.resource["encounter"]["identifier"]["value"] == "V\\1"
    assert {"PatientID", "AccessionNumber", "AdmissionID"} <= {
        one.keyword for one in whole.issues if one.code == "several-values"
    }


@pytest.mark.parametrize(
    ("number", "trusted"),
    [("1234", True), ("12\x0034", False), ("12\x1b34", False), ("12\ufffd34", False)],
)
def test_a_number_that_could_not_be_read_whole_stands_under_no_system(number, trusted):
    """What is left of it may be somebody else's number, or what is left of theirs."""
    under, ours = issuer(OID, "ISO"), {"system": "https://s.example"}
    code = {"CodeValue": number, "CodingSchemeDesignator": "L", "CodeMeaning": "x"}
    made = converted(
        {
            "SpecificCharacterSet": "ISO_IR 192",
            "PatientID": number,
            "OtherPatientIDsSequence": [
                {"PatientID": number, "IssuerOfPatientIDQualifiersSequence": under}
            ],
            "AccessionNumber": number,
            "AdmissionID": number,
            "RequestAttributesSequence": [
                {
                    "PlacerOrderNumberImagingServiceRequest": number,
                    "OrderPlacerIdentifierSequence": under,
                }
            ],
            "SpecimenDescriptionSequence": [
                {
                    "SpecimenIdentifier": number,
                    "IssuerOfTheSpecimenIdentifierSequence": under,
                }
            ],
            "ReferringPhysicianIdentificationSequence": [
                {"PersonIdentificationCodeSequence": [code]}
            ],
        },
        options=WITH,
        patient=ours,
        accession=ours,
        encounter=ours,
        practitioner_systems={"L": "urn:a:b"},
    )
    told = str([made.resource, *made.companions])
    systems = ("https://s.example", f"urn:oid:{OID}", "urn:a:b")
    assert [system in told for system in systems] == [trusted] * 3


def test_of_several_items_that_name_the_issuer_the_others_are_told():
    both = [*issuer("2.999.1.1.1", "ISO"), *issuer("2.999.1.1.2", "ISO")]
    made = converted({"PatientID": "1", "IssuerOfPatientIDQualifiersSequence": both})
    assert "several-values" in codes(made)


@pytest.mark.parametrize("value", ["9434765919", "943 476 5919", "943-476-5919"])
def test_an_nhs_number_needs_its_issuer_and_its_check_digit(value):
    [one] = patient({"PatientID": value, "IssuerOfPatientID": "NHS"}, patient=NHS)["identifier"]
    assert (one["system"], one["value"]) == ("https://fhir.nhs.uk/Id/nhs-number", "9434765919")
    assert one["type"]["coding"][0]["code"] == "NH"


@pytest.mark.parametrize("value", ["9434765918", "943476591", "A434765919", "\uff19434765919"])
def test_a_number_that_breaks_the_check_digit_gets_no_system(value):
    made = converted({"PatientID": value, "IssuerOfPatientID": "NHS"}, patient=NHS)
    [one] = made.companions[0]["identifier"]
    assert (one["value"], "system" in one, "type" in one) == (value, False, False)
    assert {"check-digit", "patient-scoped-to-study"} <= set(codes(made))


def test_ten_digits_alone_are_no_nhs_number():
    [one] = patient({"PatientID": "9434765919"}, patient=NHS)["identifier"]
    assert "system" not in one


@pytest.mark.parametrize(("code", "type_"), [("PI", "PI"), ("ZZZZ", None)])
def test_the_type_of_an_identifier_is_one_of_hl7s(code, type_):
    qualifiers = issuer(OID, "ISO", code=code)
    [one] = patient({"PatientID": "1", "IssuerOfPatientIDQualifiersSequence": qualifiers})[
        "identifier"
    ]
    assert one.get("type", {}).get("coding", [{}])[0].get("code") == type_


def test_other_patient_ids_stand_under_their_own_issuers():
    others = [
        {"PatientID": "2", "IssuerOfPatientID": "X", "TypeOfPatientID": "RFID"},
        {"PatientID": "9434765919", "IssuerOfPatientID": "NHS"},
        {"PatientID": ""},
    ]
    found = patient({"PatientID": "1", "OtherPatientIDsSequence": others}, patient=NHS)
    assert found["identifier"][0] == {"value": "1"}
    assert sorted(one["value"] for one in found["identifier"][1:]) == ["2", "9434765919"]


# --- accession numbers and orders -----------------------------------------------------------------

ASSIGNER = {
    "system": "https://own.example",
    "assigner_system": "https://fhir.nhs.uk/Id/ods-organization-code",
    "assigner_value": "RXX",
    "assigner_display": "Own",
}


def test_an_accession_number_is_an_identifier_and_an_order():
    found = imaging_study({"AccessionNumber": "A"}, accession={"system": "https://own.example"})
    [identifier] = [one for one in found["identifier"] if one["value"] == "A"]
    [order] = found["basedOn"]
    assert identifier["system"] == order["identifier"]["system"] == "https://own.example"
    assert [c["code"] for c in identifier["type"]["coding"]] == ["ACSN"]
    assert [c["code"] for c in order["identifier"]["type"]["coding"]] == ["ACSN", "121022"]
    assert order["type"] == "ServiceRequest"


@pytest.mark.parametrize("value", ["", "  ", "\0"])
def test_a_blank_accession_number_is_in_neither_place(value):
    found = imaging_study({"AccessionNumber": value})
    assert "basedOn" not in found
    assert len(found["identifier"]) == 1


@pytest.mark.parametrize(
    ("sequence", "system", "assigner"),
    [
        ([], "https://own.example", "RXX"),
        ([{}], "https://own.example", "RXX"),
        (issuer(OID, "ISO"), f"urn:oid:{OID}", None),
        (issuer(local="OTHER"), None, None),
        (issuer(local="KNOWN"), "https://known.example", None),
        (issuer("https://own.example", "URI"), "https://own.example", "RXX"),
    ],
)
def test_the_sites_assigner_stands_for_its_own_numbers_only(sequence, system, assigner):
    found = imaging_study(
        {"AccessionNumber": "A", "IssuerOfAccessionNumberSequence": sequence},
        accession=ASSIGNER,
        order_systems={"KNOWN": "https://known.example"},
    )
    one = found["basedOn"][0]["identifier"]
    assert one.get("system") == system
    assert one.get("assigner", {}).get("identifier", {}).get("value") == assigner
    assert assigner or one.get("assigner", {}).get("display") != "Own"


def test_no_assigner_of_ours_stands_beside_a_foreign_number_where_we_have_no_system():
    foreign = {"AccessionNumber": "A", "IssuerOfAccessionNumberSequence": issuer(local="OTHER")}
    found = imaging_study(foreign, accession={**ASSIGNER, "system": ""})
    assert found["basedOn"][0]["identifier"]["assigner"] == {"display": "OTHER"}


def test_a_study_id_that_repeats_the_accession_number_is_dropped():
    assert len(imaging_study({"StudyID": "A", "AccessionNumber": "A"})["identifier"]) == 2
    found = imaging_study({"StudyID": "S", "AccessionNumber": "A"})["identifier"]
    assert found[2] == {"type": {"text": "Study ID"}, "value": "S"}


@pytest.mark.parametrize(
    ("item", "kind", "value"),
    [
        ({"AccessionNumber": "A", "PlacerOrderNumberImagingServiceRequest": "P"}, "ACSN", "A"),
        (
            {
                "PlacerOrderNumberImagingServiceRequest": "P",
                "FillerOrderNumberImagingServiceRequest": "F",
            },
            "PLAC",
            "P",
        ),
        ({"FillerOrderNumberImagingServiceRequest": "F"}, "FILL", "F"),
        ({"RequestedProcedureID": "R"}, None, None),
    ],
)
@pytest.mark.parametrize("sequence", ["RequestAttributesSequence", "ReferencedRequestSequence"])
def test_an_order_is_named_by_accession_else_placer_else_filler_number(sequence, item, kind, value):
    found = imaging_study({sequence: [item]}).get("basedOn", [{}])
    one = found[0].get("identifier", {})
    assert one.get("value") == value
    assert one.get("type", {}).get("coding", [{}])[0].get("code") == kind


def test_each_order_stands_once():
    item = {"AccessionNumber": "A"}
    found = imaging_study(
        {"AccessionNumber": "A", "RequestAttributesSequence": [item, item]},
        {"AccessionNumber": "A"},
        {"AccessionNumber": "B", "ReferencedRequestSequence": [item]},
    )
    assert [one["identifier"]["value"] for one in found["basedOn"]] == ["A", "B"]


def test_the_numbers_of_a_placer_and_a_filler_are_two_orders():
    items = [
        {"PlacerOrderNumberImagingServiceRequest": "17"},
        {"FillerOrderNumberImagingServiceRequest": "17"},
        {"AccessionNumber": "17"},
    ]
    made = converted({"RequestAttributesSequence": items}, options=WITH)
    assert len(made.resource["basedOn"]) == 3
    assert len({one["reference"] for one in made.resource["basedOn"]}) == 3


# --- visit, place, endpoints, specimens -----------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "system", "assigner"),
    [
        ({}, "https://v.example", None),
        ({"IssuerOfAdmissionID": "OLD"}, None, "OLD"),
        ({"IssuerOfAdmissionIDSequence": issuer(OID, "ISO", "L")}, f"urn:oid:{OID}", "L"),
        ({"IssuerOfAdmissionIDSequence": [{}]}, "https://v.example", None),
    ],
)
def test_a_visit_is_a_logical_reference_under_its_issuer(attributes, system, assigner):
    found = imaging_study(
        {"AdmissionID": "V", **attributes}, encounter={"system": "https://v.example"}
    )["encounter"]
    assert found["type"] == "Encounter"
    assert found["identifier"]["type"]["coding"][0]["code"] == "VN"
    assert found["identifier"].get("system") == system
    assert found["identifier"].get("assigner", {}).get("display") == assigner


def test_no_admission_is_no_encounter_unless_the_site_wants_to_say_so():
    assert "encounter" not in imaging_study({"AdmissionID": " "})
    found = imaging_study({}, encounter={"missing": "data-absent-reason"})["encounter"]
    assert found["extension"][0]["valueCode"] == "unknown"


@pytest.mark.parametrize(
    ("attributes", "display"),
    [
        ({"InstitutionName": "H"}, "H"),
        ({"InstitutionName": "H", "InstitutionalDepartmentName": "R"}, "H, R"),
        (
            {"InstitutionName": "H", "InstitutionalDepartmentName": "H", "PerformedLocation": "1"},
            "H, 1",
        ),
        ({"PerformedLocation": "CT 1"}, "CT 1"),
        ({}, None),
    ],
)
def test_the_place_is_written_out(attributes, display):
    assert imaging_study(attributes).get("location", {}).get("display") == display


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://p.example/dicom-web/studies/1.2.3", "https://p.example/dicom-web"),
        ("https://p.example/dicom-web/studies/1.2.3/series/1.4", "https://p.example/dicom-web"),
        ("https://p.example/dicom-web/studies", "https://p.example/dicom-web"),
        ("https://p.example/dicom-web/studies/1.2.3?key=1", "https://p.example/dicom-web"),
        ("https://p.example/dicom-web/studies?StudyDate=1", "https://p.example/dicom-web"),
        (
            "https://p.example/studies-archive/rs/studies/1.2",
            "https://p.example/studies-archive/rs",
        ),
        ("https://p.example/dicom-web/", "https://p.example/dicom-web"),
        ("file:///studies/1", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_address_of_an_endpoint_is_the_base_of_its_service(url, address):
    made = converted({"RetrieveURL": url})
    found = companions(made, "Endpoint")
    assert [one["address"] for one in found] == ([address] if address else [])
    assert ("endpoint" in made.resource) is bool(address)
    assert ("value-malformed" in codes(made)) is bool(url and not address)


def test_configured_service_and_viewer_are_two_endpoints_of_the_study():
    made = converted(
        {"RetrieveURL": "https://ignored.example/studies/1"},
        endpoint={
            "wado_rs": "https://p.example/rs/",
            "viewer": "https://v.example/?study={StudyInstanceUID}",
            "name": "Archive",
        },
    )
    found = {one["connectionType"]["code"]: one for one in companions(made, "Endpoint")}
    assert found["dicom-wado-rs"]["address"] == "https://p.example/rs"
    assert found["ihe-iid"]["address"].startswith("https://v.example/?study=1.2.826")
    assert {one["name"] for one in found.values()} == {"Archive"}
    assert len({one["reference"] for one in made.resource["endpoint"]}) == 2


@pytest.mark.parametrize(
    ("item", "identifier"),
    [
        (
            {
                "SpecimenIdentifier": "S1",
                "IssuerOfTheSpecimenIdentifierSequence": issuer(OID, "ISO", "Lab"),
            },
            {"system": f"urn:oid:{OID}", "value": "S1", "assigner": {"display": "Lab"}},
        ),
        ({"SpecimenIdentifier": "S1", "SpecimenUID": "1.2.3"}, {"value": "S1"}),
        ({"SpecimenUID": "1.2.3"}, {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}),
        ({"SpecimenUID": "1.02.x"}, None),
        ({}, None),
    ],
)
def test_a_specimen_is_a_logical_reference(item, identifier):
    [series] = imaging_study({"SpecimenDescriptionSequence": [item]})["series"]
    expected = [{"type": "Specimen", "identifier": identifier}] if identifier else None
    assert series.get("specimen") == expected
