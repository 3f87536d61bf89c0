"""Transforms of codes, by what comes out of a rule that uses them."""

from __future__ import annotations

import pytest

from tests.core.making import codes, converted, imaging_study

SCT = "http://snomed.info/sct"
DCM = "http://dicom.nema.org/resources/ontology/DCM"


def code(value="", scheme="", meaning="Meaning", **more):
    found = {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning, **more}
    return {key: one for key, one in found.items() if one}


def procedure(*items, **more):
    made = converted({"ProcedureCodeSequence": list(items), **more})
    return made.resource.get("procedureCode"), codes(made)


@pytest.mark.parametrize(
    ("item", "coding"),
    [
        (code("24627-2", "LN"), {"system": "http://loinc.org", "code": "24627-2"}),
        (code("77477000", "SCT"), {"system": SCT, "code": "77477000"}),
        (code("T-D3000", "SRT"), {"system": SCT, "code": "51185008"}),
        (code("T-D3000", "99SDM"), {"system": SCT, "code": "51185008"}),
        (code("T-D3000", "SCT"), {"system": SCT, "code": "51185008"}),
        (code("113014", "DCM"), {"system": DCM, "code": "113014", "display": "Meaning"}),
        (
            code("R05", "I10"),
            {"system": "http://hl7.org/fhir/sid/icd-10", "code": "R05", "display": "Meaning"},
        ),
        (
            code(scheme="SCT", LongCodeValue="12345678901234567"),
            {"system": SCT, "code": "12345678901234567"},
        ),
        (
            code(URNCodeValue="urn:oid:1.2.3"),
            {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.3", "display": "Meaning"},
        ),
    ],
)
def test_a_code_whose_system_is_known_is_a_coding_and_its_meaning_the_text(item, coding):
    found, issues = procedure(item)
    assert found == [{"coding": [coding], "text": "Meaning"}]
    assert "code-unknown" not in issues


@pytest.mark.parametrize(
    ("item", "issue"),
    [
        (code("X", "99LOCAL"), "coding-scheme-unknown"),
        (code("X"), "coding-scheme-unknown"),
        (code("Q-99999", "SRT"), "code-unknown"),
        (code("not-a-number", "SCT"), "code-unknown"),
        (code("ZZ", "DCM"), "code-unknown"),
        (code("a  b", "LN"), "value-malformed"),
        (code("RPID\u00a01", "RADLEX"), "value-malformed"),
        (code("CTCHEST", "LN"), "code-unknown"),
        (code(), None),
    ],
)
def test_a_code_without_a_known_system_keeps_its_meaning_only(item, issue):
    found, issues = procedure(item)
    assert found == [{"text": "Meaning"}]
    assert issue is None or issue in issues


@pytest.mark.parametrize("item", [{}, code("X", "99LOCAL", meaning="")])
def test_an_item_that_says_nothing_is_none(item):
    assert procedure(item)[0] is None


@pytest.mark.parametrize(
    ("scheme", "system"),
    [
        ({"CodingSchemeUID": "1.2.840.99999.77"}, "urn:oid:1.2.840.99999.77"),
        ({"CodingSchemeUID": "1.2.3"}, None),
        ({"CodingSchemeUID": "not a uid"}, None),
        ({"CodingSchemeURL": "https://a.example/cs"}, "https://a.example/cs"),
        (
            {
                "CodingSchemeUID": "1.2.840.99999.77",
                "CodingSchemeResourcesSequence": [
                    {"CodingSchemeURLType": "DOC", "CodingSchemeURL": "https://a.example/doc"},
                    {"CodingSchemeURLType": "FHIR", "CodingSchemeURL": "https://a.example/cs"},
                ],
            },
            "https://a.example/cs",
        ),
        (
            {
                "CodingSchemeResourcesSequence": [
                    {"CodingSchemeURLType": "DOC", "CodingSchemeURL": "https://a.example/doc"}
                ]
            },
            None,
        ),
    ],
)
def test_a_private_scheme_has_the_system_that_the_object_states(scheme, system):
    schemes = [{"CodingSchemeDesignator": "99LOCAL", **scheme}]
    found, _ = procedure(code("X", "99LOCAL"), CodingSchemeIdentificationSequence=schemes)
    assert found[0].get("coding", [{}])[0].get("system") == system


def test_a_configured_scheme_beats_what_the_object_states():
    made = imaging_study(
        {
            "ProcedureCodeSequence": [code("X", "99LOCAL")],
            "CodingSchemeIdentificationSequence": [
                {"CodingSchemeDesignator": "99LOCAL", "CodingSchemeUID": "1.2.840.99999.77"}
            ],
        },
        coding_schemes={"99LOCAL": "https://b.example/cs"},
    )
    assert made["procedureCode"][0]["coding"][0]["system"] == "https://b.example/cs"


def test_displays_of_snomed_codes_are_written_only_where_the_site_says_so():
    item = {"ProcedureCodeSequence": [code("77477000", "SCT", "CT")]}
    assert "display" not in imaging_study(item)["procedureCode"][0]["coding"][0]
    made = imaging_study(item, sct_display=True)
    assert made["procedureCode"][0]["coding"][0]["display"] == "CT"


COUGH = code("R05", "I10", "Cough")
DYSPNOEA = code("R06.0", "I10", "Dyspnoea")


@pytest.mark.parametrize(
    ("coded", "text", "expected"),
    [
        ([COUGH], "for weeks", [("R05", "for weeks")]),
        ([COUGH], "Cough", [("R05", "Cough")]),
        ([COUGH], "", [("R05", "Cough")]),
        ([], "for weeks", [(None, "for weeks")]),
        (
            [COUGH, DYSPNOEA],
            "for weeks",
            [("R05", "Cough"), ("R06.0", "Dyspnoea"), (None, "for weeks")],
        ),
        ([COUGH, COUGH], "for weeks", [("R05", "for weeks")]),
        ([], "", []),
    ],
)
def test_a_text_joins_a_coded_reason_only_where_there_is_one_of_each(coded, text, expected):
    request = {
        "ReasonForRequestedProcedureCodeSequence": coded,
        "ReasonForTheRequestedProcedure": text,
    }
    found = imaging_study({"RequestAttributesSequence": [request]}).get("reasonCode", [])
    assert [(one.get("coding", [{}])[0].get("code"), one.get("text")) for one in found] == expected


# --- modality -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "coding", "acquisition"),
    [
        ("CT", {"system": DCM, "code": "CT", "display": "Computed Tomography"}, True),
        ("ct", {"system": DCM, "code": "CT", "display": "Computed Tomography"}, True),
        ("SR", {"system": DCM, "code": "SR"}, False),
        ("OT", {"system": DCM, "code": "OT", "display": "Other"}, False),
        ("RTIMAGE", {"system": DCM, "code": "RTIMAGE"}, True),
        ("MA", {"system": DCM, "code": "MA"}, False),
        ("ZZ", {"display": "ZZ"}, False),
    ],
)
def test_modality_is_a_code_of_dicom_or_its_text(value, coding, acquisition):
    found = imaging_study({"Modality": value})
    assert coding.items() <= found["series"][0]["modality"].items()
    assert ("modality" in found) is acquisition


def test_a_modality_that_nobody_tells_is_said_to_be_unknown():
    made = converted({"Modality": "", "SOPClassUID": "1.2.3.4"})
    [extension] = made.resource["series"][0]["modality"]["extension"]
    assert extension["valueCode"] == "unknown"
    assert "modality-missing" in codes(made)


# --- body site and side ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "coding", "issue"),
    [
        ("CHEST", {"system": SCT, "code": "816094009"}, None),
        ("THORAX", {"system": SCT, "code": "816094009"}, None),
        ("chest ", {"system": SCT, "code": "816094009"}, "code-normalised"),
        ("LSPINE", {"system": SCT, "code": "122496007"}, None),
        ("L_SPINE", {"system": SCT, "code": "122496007"}, "code-normalised"),
        ("PHANTOM", {"display": "PHANTOM"}, "not-a-body-structure"),
        ("LEFT PINKY", {"display": "LEFT PINKY"}, "code-unknown"),
        ("", None, None),
    ],
)
def test_body_part_is_a_code_of_table_l1_or_its_text(value, coding, issue):
    made = converted({"BodyPartExamined": value})
    assert made.resource["series"][0].get("bodySite") == coding
    known = {"code-normalised", "not-a-body-structure", "code-unknown"}
    assert known & set(codes(made)) == ({issue} if issue else set())


@pytest.mark.parametrize(
    ("item", "coding"),
    [
        (code("69536005", "SCT", "Head"), {"system": SCT, "code": "69536005"}),
        (code("X", "99LOCAL", "Somewhere"), {"display": "Somewhere"}),
        (code("706342009", "SCT", "Phantom"), {"display": "Phantom"}),
        ({}, {"system": SCT, "code": "816094009"}),
    ],
)
def test_the_coded_region_beats_the_body_part(item, coding):
    found = imaging_study({"AnatomicRegionSequence": [item], "BodyPartExamined": "CHEST"})
    assert found["series"][0]["bodySite"] == coding


def shared(**anatomy):
    return [{"FrameAnatomySequence": [anatomy]}]


def test_an_enhanced_object_tells_region_and_side_in_its_shared_groups():
    groups = shared(AnatomicRegionSequence=[code("72696002", "SCT")], FrameLaterality="R")
    found = imaging_study({"SharedFunctionalGroupsSequence": groups})["series"][0]
    assert found["bodySite"]["code"] == "72696002"
    assert found["laterality"]["code"] == "24028007"


def test_groups_of_single_frames_are_not_read():
    found = imaging_study({"PerFrameFunctionalGroupsSequence": shared(FrameLaterality="R")})
    assert "laterality" not in found["series"][0]


@pytest.mark.parametrize(
    ("attributes", "side"),
    [
        ({"Laterality": "R"}, "24028007"),
        ({"Laterality": "l"}, "7771000"),
        ({"Laterality": "B"}, "51440002"),
        ({"Laterality": "U"}, None),
        ({"Laterality": ""}, None),
        ({"Laterality": "X"}, None),
        ({"Laterality": "", "ImageLaterality": "R"}, "24028007"),
        ({"Laterality": "R", "ImageLaterality": "R"}, "24028007"),
        ({"Laterality": "X", "ImageLaterality": "R"}, "24028007"),
        (
            {
                "AnatomicRegionSequence": [
                    {
                        **code("72696002", "SCT"),
                        "AnatomicRegionModifierSequence": [code("G-A101", "SRT", "Left")],
                    }
                ]
            },
            "7771000",
        ),
        (
            {
                "AnatomicRegionSequence": [
                    {
                        **code("72696002", "SCT"),
                        "AnatomicRegionModifierSequence": [code("261183002", "SCT", "Upper")],
                    }
                ]
            },
            None,
        ),
    ],
)
def test_the_side_is_what_the_nearest_attribute_says(attributes, side):
    found = imaging_study(attributes)["series"][0]
    assert found.get("laterality", {}).get("code") == side


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"Modality": "ct"}, True),
        ({"PatientSex": "f"}, True),
        ({"Laterality": "l"}, True),
        ({"Modality": "CT", "PatientSex": "F", "Laterality": "L"}, False),
        ({"Laterality": "u"}, False),
    ],
)
def test_a_defined_term_in_lower_case_is_taken_and_told(attributes, said):
    assert ("code-normalised" in codes(converted(attributes))) is said


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"Laterality": "X"}, "code-unknown"),
        ({"Laterality": "L\\R"}, "several-values"),
        ({"Laterality": "L", "ImageLaterality": "R"}, "values-differ"),
        (
            {
                "Laterality": "R",
                "AnatomicRegionSequence": [
                    {
                        **code("72696002", "SCT"),
                        "AnatomicRegionModifierSequence": [code("G-A101", "SRT", "Left")],
                    }
                ],
            },
            "values-differ",
        ),
    ],
)
def test_a_side_that_is_none_or_in_doubt_is_told_and_left_out(attributes, said):
    made = converted(attributes)
    assert "laterality" not in made.resource["series"][0]
    assert said in codes(made)


def test_of_several_regions_the_first_is_taken_and_the_others_are_told():
    regions = [code("69536005", "SCT", "Head"), code("113345001", "SCT", "Abdomen")]
    made = converted({"AnatomicRegionSequence": regions})
    assert made.resource["series"][0]["bodySite"]["code"] == "69536005"
    assert "several-values" in codes(made)


def test_a_code_that_holds_a_backslash_is_not_cut_to_another_code():
    made = converted({"ProcedureCodeSequence": [code("RPID1\\RPID2", "RADLEX", "CT")]})
    assert made.resource["procedureCode"][0]["coding"][0]["code"] == "RPID1\\RPID2"
    assert "several-values" in codes(made)


def test_the_sop_class_is_a_urn_whether_known_or_private():
    found = imaging_study({"SOPClassUID": "1.2.3.4.5"})["series"][0]["instance"][0]
    assert found["sopClass"] == {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.3.4.5"}
