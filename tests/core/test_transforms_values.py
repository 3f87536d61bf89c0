"""Transforms of single values and of people, by what comes out of a rule that uses them."""

from __future__ import annotations

import pytest

from converter.core.transforms import DEFAULTS, TRANSFORMS
from tests.core.making import (
    codes,
    converted,
    imaging_study,
    overlaid,
    patient,
    shipped_rules,
    structure,
)


def series(**attributes):
    return imaging_study(attributes)["series"][0]


def test_every_transform_says_what_it_does_and_what_it_gives():
    for name, transform in TRANSFORMS.items():
        assert transform.function.__doc__, name
        assert all(kind in structure().types for kind in transform.gives), name
        assert transform.aggregate or transform.gives, name


def test_the_transform_of_a_datatype_gives_that_datatype():
    assert all(kind in TRANSFORMS[name].gives for kind, name in DEFAULTS.items())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CT Chest", "CT Chest"),
        ("  CT Chest  ", "CT Chest"),
        ("a\\b", "a; b"),
        ("a\\\\b", "a; b"),
        ("a\x01b", "ab"),
        ("a\nb", "a b"),
        ("<b>&", "<b>&"),
        ("  ", None),
        ("\\ \\", None),
        ("", None),
    ],
)
def test_text_is_trimmed_and_several_values_are_joined(text, expected):
    assert imaging_study({"StudyDescription": text}).get("description") == expected


def test_a_text_longer_than_fhir_takes_is_left_out_with_a_finding():
    made = converted({"StudyDescription": "x" * ((1 << 20) + 1), "SeriesDescription": "x" * 70})
    assert "description" not in made.resource
    assert made.resource["series"][0]["description"] == "x" * 70
    assert "value-malformed" in codes(made)


@pytest.mark.parametrize(
    ("text", "number", "code"),
    [
        ("3", 3, None),
        (" 3 ", 3, None),
        ("+3", 3, None),
        ("0", 0, None),
        ("2147483647", 2147483647, None),
        ("-1", None, "value-out-of-range"),
        ("2147483648", None, "value-out-of-range"),
        ("99999999999", None, "value-out-of-range"),
        ("x", None, "value-malformed"),
        ("1.5", None, "value-malformed"),
        ("1\\2", None, "value-malformed"),
        ("", None, None),
        ("  ", None, None),
    ],
)
def test_a_number_that_fhir_cannot_hold_is_left_out_with_a_finding(text, number, code):
    made = converted({"SeriesNumber": text, "InstanceNumber": text})
    [one] = made.resource["series"]
    assert (one.get("number"), one["instance"][0].get("number")) == (number, number)
    paths = [issue.path for issue in made.issues if issue.code == code]
    assert sorted(paths) == (
        ["ImagingStudy.series.instance.number", "ImagingStudy.series.number"] if code else []
    )


@pytest.mark.parametrize(
    ("value", "date", "code"),
    [
        ("19600712", "1960-07-12", None),
        ("1960.07.12", "1960-07-12", "legacy-format"),
        ("1960", "1960", "partial-date"),
        ("196007", "1960-07", "partial-date"),
        ("19600000", "1960", "partial-date"),
        ("19600700", "1960-07", "partial-date"),
        ("19601301", None, "value-malformed"),
        ("unknown", None, "value-malformed"),
        ("", None, None),
    ],
)
def test_a_birth_date_is_whole_partial_or_none(value, date, code):
    made = patient({"PatientBirthDate": value})
    assert made.get("birthDate") == date
    found = codes(converted({"PatientBirthDate": value}))
    assert code is None or code in found
    assert set(found) <= {code, "patient-scoped-to-study"}


@pytest.mark.parametrize(
    ("attributes", "zone", "started", "code"),
    [
        ({"StudyTime": "101500"}, "", "2024-03-12", "no-time-zone"),
        ({"StudyTime": "101500"}, "Europe/London", "2024-03-12T10:15:00+00:00", None),
        (
            {"StudyTime": "1015", "TimezoneOffsetFromUTC": "-0500"},
            "Europe/London",
            "2024-03-12T10:15:00-05:00",
            None,
        ),
        ({"TimezoneOffsetFromUTC": "-0500"}, "", "2024-03-12", None),
        (
            {"StudyTime": "10", "TimezoneOffsetFromUTC": "nonsense"},
            "",
            "2024-03-12",
            "offset-malformed",
        ),
        ({"StudyTime": "2500"}, "Europe/London", "2024-03-12", "value-malformed"),
        ({"StudyDate": "", "StudyTime": "10"}, "Europe/London", None, "time-without-date"),
        ({"StudyDate": " ", "StudyTime": "  "}, "Europe/London", None, None),
    ],
)
def test_a_time_needs_an_offset_that_somebody_states(attributes, zone, started, code):
    made = converted({"StudyDate": "20240312", **attributes}, timezone=zone)
    assert made.resource.get("started") == started
    assert (code in codes(made)) if code else codes(made) == ["patient-scoped-to-study"]


@pytest.mark.parametrize("keep", [True, False])
def test_fractions_are_kept_only_where_the_site_says_so(keep):
    found = imaging_study(
        {"StudyDate": "20240312", "StudyTime": "101500.125", "TimezoneOffsetFromUTC": "+0000"},
        keep_fractions=keep,
    )
    assert found["started"] == f"2024-03-12T10:15:00{'.125' if keep else ''}+00:00"


@pytest.mark.parametrize(
    ("sex", "gender", "known"),
    [
        ("M", "male", True),
        ("f", "female", True),
        ("O", "other", True),
        ("", None, True),
        ("U", None, False),
        ("male", None, False),
        ("M\\F", None, False),
    ],
)
def test_a_sex_that_the_table_does_not_have_is_left_out_with_a_finding(sex, gender, known):
    made = converted({"PatientSex": sex})
    assert made.companions[0].get("gender") == gender
    assert ("code-unknown" not in codes(made)) is known


@pytest.mark.parametrize(
    ("attributes", "title"),
    [
        ({"ImageType": "ORIGINAL\\PRIMARY\\AXIAL"}, "ORIGINAL\\PRIMARY\\AXIAL"),
        ({"ImageType": "ORIGINAL\\PRIMARY\\\\M\\"}, "ORIGINAL\\PRIMARY\\\\M"),
        ({"ImageType": "ORIGINAL\\PRIMARY", "ContentLabel": "LBL"}, "LBL"),
        ({"ContentLabel": "LBL", "ContentDescription": "Described"}, "Described"),
        (
            {
                "ContentDescription": "Described",
                "ConceptNameCodeSequence": [{"CodeMeaning": "Report"}],
            },
            "Report",
        ),
        (
            {
                "DocumentTitle": "Letter",
                "ConceptNameCodeSequence": [{"CodeMeaning": "Report"}],
            },
            "Letter",
        ),
        ({}, None),
    ],
)
def test_the_title_of_an_instance_is_what_names_it_best(attributes, title):
    assert series(**attributes)["instance"][0].get("title") == title


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"SeriesDescription": "Lung"}, "Lung"),
        ({"SeriesDescriptionCodeSequence": [{"CodeMeaning": "Coded"}]}, "Coded"),
        (
            {"SeriesDescription": "Lung", "SeriesDescriptionCodeSequence": [{"CodeMeaning": "C"}]},
            "Lung",
        ),
        ({}, None),
    ],
)
def test_a_series_is_described_by_its_text_else_its_code(attributes, text):
    assert series(**attributes).get("description") == text


@pytest.mark.parametrize(
    ("transform", "element", "value", "expected"),
    [
        ("firstString", "description", "\\ a\\b", "a"),
        ("title", "description", "a\\b", "a\\b"),
        ("oid", "description", "1.2.3", "urn:oid:1.2.3"),
        ("oid", "description", "1.02.3", None),
    ],
)
def test_other_forms_of_text(transform, element, value, expected):
    keyword = "StudyInstanceUID" if transform == "oid" else "StudyDescription"
    rules = overlaid(f'[ImagingStudy]\n{element} = {{ from = "{keyword}", as = "{transform}" }}')
    assert imaging_study({keyword: value}, rules=rules).get(element) == expected


# --- people ---------------------------------------------------------------------------------------


def test_the_groups_of_a_name_are_names_with_their_representation():
    names = patient({"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"})["name"]
    assert [name["extension"][0]["valueCode"] for name in names] == ["ABC", "IDE", "SYL"]
    assert [name["text"] for name in names] == ["Tarou Yamada", "山田 太郎", "やまだ たろう"]


def test_a_name_holds_its_parts_and_a_text_made_of_nothing_else():
    [name] = patient({"PatientName": "Adams^John Robert^Quincy^Rev.^B.A."})["name"]
    assert name == {
        "use": "usual",
        "text": "Rev. John Robert Quincy Adams B.A.",
        "family": "Adams",
        "given": ["John", "Robert", "Quincy"],
        "prefix": ["Rev."],
        "suffix": ["B.A."],
    }


@pytest.mark.parametrize("value", ["", "^^^", "==", " "])
def test_a_name_of_delimiters_is_none(value):
    assert "name" not in patient({"PatientName": value})


def test_of_several_names_the_first_is_taken_and_the_others_are_told():
    made = converted({"PatientName": "One^A\\Two^B", "ReferringPhysicianName": "Three^C\\Four^D"})
    assert [one["family"] for one in made.companions[0]["name"]] == ["One"]
    assert made.resource["referrer"]["display"] == "C Three"
    told = {one.keyword for one in made.issues if one.code == "several-values"}
    assert told == {"PatientName", "ReferringPhysicianName"}


@pytest.mark.parametrize(("use", "expected"), [("official", "official"), ("", None)])
def test_the_use_of_a_patients_name_is_the_sites(use, expected):
    [name] = patient({"PatientName": "A^B"}, patient={"name_use": use})["name"]
    assert name.get("use") == expected


def identified(value, scheme="99GMC", meaning="x"):
    code = {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}
    return {"PersonIdentificationCodeSequence": [code]}


GMC = {"practitioner_systems": {"99GMC": "https://fhir.hl7.org.uk/Id/gmc-number"}}


def test_a_referrer_is_a_logical_reference_with_the_name_and_the_configured_identifier():
    found = imaging_study(
        {
            "ReferringPhysicianName": "Rastall^Paul^^Dr",
            "ReferringPhysicianIdentificationSequence": [identified("17")],
        },
        **GMC,
    )
    assert found["referrer"] == {
        "type": "Practitioner",
        "identifier": {"system": "https://fhir.hl7.org.uk/Id/gmc-number", "value": "17"},
        "display": "Dr Paul Rastall",
    }


def test_a_code_of_a_person_under_an_unknown_scheme_gets_no_system():
    made = converted({"ReferringPhysicianIdentificationSequence": [identified("17", "99X")]})
    assert made.resource["referrer"]["identifier"] == {"value": "17"}
    assert "issuer-missing" in codes(made)


def test_performers_are_paired_with_their_codes_by_index():
    found = imaging_study(
        {
            "PerformingPhysicianName": "\\Second^S\\Third^T",
            "PerformingPhysicianIdentificationSequence": [
                identified("1", meaning="Only a code"),
                identified("2"),
            ],
        },
        **GMC,
    )
    actors = [one["actor"] for one in found["series"][0]["performer"]]
    assert {(one.get("identifier", {}).get("value"), one["display"]) for one in actors} == {
        ("1", "Only a code"),
        ("2", "S Second"),
        (None, "T Third"),
    }


def test_performers_and_operators_have_functions_of_their_own():
    found = series(PerformingPhysicianName="A^B", OperatorsName="C^D")
    assert [one["function"]["coding"][0]["code"] for one in found["performer"]] == ["PRF", "SPRF"]


def test_nobody_is_no_reference():
    found = imaging_study({"ReferringPhysicianName": "^", "PerformingPhysicianName": ""})
    assert "referrer" not in found
    assert "performer" not in found["series"][0]


@pytest.mark.parametrize(("born", "there"), [("", False), ("19600101", True)])
def test_ips_says_that_an_unknown_birth_date_or_name_is_unknown(born, there):
    rules = shipped_rules("ips")
    made = patient({"PatientBirthDate": born, "PatientName": ""}, rules=rules)
    assert ("birthDate" in made, "_birthDate" in made) == (there, not there)
    assert made["name"][0]["_text"]["extension"][0]["valueCode"] == "unknown"


def test_a_name_that_one_instance_has_is_not_unknown_because_others_lack_it():
    empty = [{"SOPInstanceUID": f"1.1.{number}", "PatientName": ""} for number in range(1, 4)]
    instances = [*empty, {"SOPInstanceUID": "1.1.4", "PatientName": "One^A"}]
    made = converted(*instances, rules=shipped_rules("ips"))
    assert [one["text"] for one in made.companions[0]["name"]] == ["A One"]
    assert "values-differ" not in codes(made)
