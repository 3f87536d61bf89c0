from __future__ import annotations

import pytest

from converter.core.header import SPECIFIC_CHARACTER_SET
from converter.core.patient import compared, conflict
from converter.core.text import charset_of
from tests.core.making import converted, study


def universal(value):
    return [{"UniversalEntityID": value, "UniversalEntityIDType": "ISO"}]


@pytest.mark.parametrize(
    ("one", "other", "keyword"),
    [
        ({"PatientID": "1"}, {"PatientID": "2"}, "PatientID"),
        ({"PatientID": "a"}, {"PatientID": "A"}, "PatientID"),
        ({"IssuerOfPatientID": "X"}, {"IssuerOfPatientID": "Y"}, "IssuerOfPatientID"),
        (
            {"IssuerOfPatientIDQualifiersSequence": universal("1.2.3.4")},
            {"IssuerOfPatientIDQualifiersSequence": universal("1.2.3.5")},
            "UniversalEntityID",
        ),
    ],
)
def test_two_patients_in_one_study_are_a_conflict(one, other, keyword):
    issue = conflict(study({"PatientID": "1", **one}, {"PatientID": "1", **other}))
    assert (issue.code, issue.keyword, issue.severity) == ("patient-conflict", keyword, "error")
    assert len(issue.examples) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"PatientID": "1"}, {"PatientID": ""}),
        ({"PatientID": "1"}, {}),
        ({"PatientID": "1"}, {"PatientID": " 1 "}),
        ({"PatientID": "1", "IssuerOfPatientID": "X"}, {"PatientID": "1"}),
        ({"PatientID": "1"}, {"IssuerOfPatientID": "X"}),
        (
            {"PatientID": "1", "IssuerOfPatientIDQualifiersSequence": universal("1.2.3.4")},
            {"PatientID": "1", "IssuerOfPatientIDQualifiersSequence": []},
        ),
        ({"PatientName": "A^B"}, {"PatientName": "C^D"}),
        ({}, {}),
    ],
)
def test_empty_is_no_value_and_names_decide_nothing(one, other):
    assert conflict(study(one, other)) is None


@pytest.mark.parametrize(
    ("one", "other", "two"),
    [
        (b"M\xdcLLER1", b"M\xd6LLER1", True),
        (b"12\x0034", b"1234", True),
        (b"12\x0034", b"12\x0134", True),
        (b"M\xdcLLER1", b"M\xdcLLER1\0", False),
        (b"1234\r\n", b"1234", False),
    ],
)
def test_what_is_left_of_numbers_that_are_not_legible_makes_them_no_one_number(one, other, two):
    charset = charset_of({SPECIFIC_CHARACTER_SET: b"ISO_IR 192"})
    assert (compared(one, charset) != compared(other, charset)) == two


@pytest.mark.parametrize(
    ("one", "other", "two"),
    [
        (("Adams^Ann", "19600101"), ("Baker^Ann", "19700101"), True),
        (("Adams^Ann", "19600101"), ("Adams^Eve", "19700101"), True),
        (("Adams^Ann", "19600101"), ("ADAMS^ann", "19700101"), False),
        (("Adams^Ann Mary", "19600101"), ("Adams^Ann", "19700101"), False),
        (("Adams^A.", "19600101"), ("Adams^Ann", "19700101"), False),
        (("Adams^Ann", "19600101"), ("Adams", "19700101"), False),
        (("^Ann", "19600101"), ("^Eve", "19700101"), True),
        (("Adams^Ann", "19600101"), ("Adams^Eve", "19600101"), False),
        (("Adams^Ann", "19600101"), ("Baker^Eve", ""), False),
        (("Yamada^Tarou=山田^太郎", "19600101"), ("Yamada^Hanako", "19700101"), True),
    ],
)
def test_one_number_with_another_birth_date_and_another_name_is_two_people(one, other, two):
    rows = [
        {"PatientID": "1", "SpecificCharacterSet": "ISO_IR 192", "PatientName": name}
        | {"PatientBirthDate": born}
        for name, born in (one, other)
    ]
    issue = conflict(study(*rows))
    assert (issue is not None) == two
    if two:
        assert (issue.code, issue.keyword) == ("patient-conflict", "PatientName")


def test_a_copy_that_was_left_out_still_tells_of_another_patient():
    one = {"SOPInstanceUID": "1.2.3.1"}
    found = study({**one, "PatientID": "1"}, {**one, "PatientID": "2"})
    assert found.count == 1
    assert conflict(found).code == "patient-conflict"


def test_a_study_of_two_patients_gives_no_resource():
    made = converted({"PatientID": "1"}, {"PatientID": "2"})
    assert (made.state, made.resource, made.companions) == ("conflict", None, [])
    assert (made.series, made.instances) == (1, 2)


def test_no_number_of_a_patient_stands_in_the_finding():
    issue = conflict(study({"PatientID": "SECRET1"}, {"PatientID": "SECRET2"}))
    assert "SECRET" not in repr(issue)
