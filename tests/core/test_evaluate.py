from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.core.engine import convert
from tests.core.making import (
    STUDY,
    assemble,
    blocks,
    codes,
    converted,
    imaging_study,
    overlaid,
    shipped_rules,
)

ROOT = Path(__file__).parents[2]


def described(*texts: str):
    return converted(*({"StudyDescription": text} for text in texts))


def test_what_all_instances_say_is_taken_without_a_finding():
    made = described("a", "a")
    assert made.resource["description"] == "a"
    assert "values-differ" not in codes(made)


def test_the_most_frequent_value_is_taken_with_a_finding():
    made = described("b", "a", "b")
    assert made.resource["description"] == "b"
    [issue] = [issue for issue in made.issues if issue.code == "values-differ"]
    assert (issue.path, issue.keyword, issue.count) == (
        "ImagingStudy.description",
        "StudyDescription",
        3,
    )
    assert len(issue.examples) == 3


def test_a_tie_goes_to_the_smallest_value():
    assert described("b", "a").resource["description"] == "a"


def test_nothing_takes_no_part():
    made = described("", "", "a")
    assert made.resource["description"] == "a"
    assert "values-differ" not in codes(made)


def test_padding_makes_no_other_value():
    made = converted({"StudyDescription": "Röntgen"}, {"StudyDescription": " Röntgen "})
    assert "values-differ" not in codes(made)


def test_repeating_values_are_united_without_doubles_and_sorted():
    found = imaging_study(
        {"NameOfPhysiciansReadingStudy": "C^C"},
        {"NameOfPhysiciansReadingStudy": "B^B\\A^A"},
        {"NameOfPhysiciansReadingStudy": "A^A"},
    )
    assert [one["display"] for one in found["interpreter"]] == ["A A", "B B", "C C"]


def test_one_instance_sorts_repeating_values_as_many_do():
    found = imaging_study({"NameOfPhysiciansReadingStudy": "B^B\\A^A"})
    assert [one["display"] for one in found["interpreter"]] == ["A A", "B B"]


def test_a_code_stands_once_whatever_the_meaning_beside_it():
    code = {"CodeValue": "24627-2", "CodingSchemeDesignator": "LN"}
    found = imaging_study(
        {"ProcedureCodeSequence": [{**code, "CodeMeaning": "CT Chest"}]},
        {"ProcedureCodeSequence": [{**code, "CodeMeaning": "CT CHEST"}]},
    )
    assert len(found["procedureCode"]) == 1


def test_an_identifier_without_its_issuer_adds_nothing_to_the_same_one_with_it():
    issuer = [{"UniversalEntityID": "1.2.826.0.1.3680043.10.99", "UniversalEntityIDType": "ISO"}]
    found = imaging_study(
        {"AccessionNumber": "A"},
        {"AccessionNumber": "A", "IssuerOfAccessionNumberSequence": issuer},
    )
    assert len(found["basedOn"]) == 1
    assert [one["value"] for one in found["identifier"] if "A" in one["value"]] == ["A"]


def test_sides_that_differ_give_none_and_a_finding():
    made = converted({"ImageLaterality": "L"}, {"ImageLaterality": "R"}, {"ImageLaterality": "R"})
    assert "laterality" not in made.resource["series"][0]
    assert "values-differ" in codes(made)


def test_a_side_that_some_instances_state_is_taken():
    found = imaging_study({"ImageLaterality": "L"}, {"ImageLaterality": ""})
    assert found["series"][0]["laterality"]["code"] == "7771000"


def test_date_time_and_zone_are_taken_from_one_object():
    # each part alone would be most frequent somewhere else
    found = imaging_study(
        {"StudyDate": "20240101", "StudyTime": "1000", "TimezoneOffsetFromUTC": "+0100"},
        {"StudyDate": "20240101", "StudyTime": "1100", "TimezoneOffsetFromUTC": "+0200"},
        {"StudyDate": "20240102", "StudyTime": "1100", "TimezoneOffsetFromUTC": "+0100"},
    )
    assert found["started"] == "2024-01-01T10:00:00+01:00"


def test_a_value_beats_what_says_that_it_is_absent():
    found = imaging_study(
        {"AdmissionID": ""},
        {"AdmissionID": ""},
        {"AdmissionID": "V"},
        encounter={"missing": "data-absent-reason"},
    )
    assert found["encounter"]["identifier"]["value"] == "V"


def test_absent_everywhere_says_so():
    found = imaging_study({}, {"StationName": "S"}, encounter={"missing": "data-absent-reason"})
    assert found["encounter"]["extension"][0]["valueCode"] == "unknown"


def test_two_endpoints_that_are_written_alike_stay_two():
    found = imaging_study(
        {"RetrieveURL": "https://a.example/studies/1.2"},
        {"RetrieveURL": "https://b.example/studies/1.2"},
    )
    assert len({one["reference"] for one in found["endpoint"]}) == 2


def test_the_time_of_another_attribute_never_meets_a_date():
    rules = overlaid(
        """
        [ImagingStudy.series]
        started = { from = ["SeriesDate", "AcquisitionDate"], with = ["SeriesTime", "AcquisitionTime", "TimezoneOffsetFromUTC"], as = "dateTime" }
        """
    )
    found = imaging_study(
        {
            "SeriesTime": "0100",
            "AcquisitionDate": "20240101",
            "AcquisitionTime": "0200",
            "TimezoneOffsetFromUTC": "+0000",
        },
        rules=rules,
    )
    assert found["series"][0]["started"] == "2024-01-01T02:00:00+00:00"


def test_a_date_and_time_attribute_holds_its_own_zone():
    rules = overlaid('[ImagingStudy]\nstarted = { from = "AcquisitionDateTime" }')
    found = imaging_study({"AcquisitionDateTime": "20240101020304+0100"}, rules=rules)
    assert found["started"] == "2024-01-01T02:03:04+01:00"


@pytest.mark.parametrize(("modality", "there"), [("CT", True), ("MR", False)])
def test_when_lets_a_rule_hold_for_some_objects_only(modality, there):
    rules = overlaid(
        '[ImagingStudy]\ndescription = { from = "StudyDescription", when = { Modality = "CT" } }'
    )
    found = imaging_study({"Modality": modality, "StudyDescription": "x"}, rules=rules)
    assert ("description" in found) is there


def test_a_fall_back_is_taken_only_where_the_first_yields_nothing():
    rules = overlaid(
        '[ImagingStudy]\ndescription = { from = ["StudyDescription", "SeriesDescription"] }'
    )
    assert imaging_study({"SeriesDescription": "s"}, rules=rules)["description"] == "s"
    both = {"StudyDescription": "t", "SeriesDescription": "s"}
    assert imaging_study(both, rules=rules)["description"] == "t"


VARIED = (
    "StudyDescription",
    "StudyDate",
    "StudyTime",
    "Modality",
    "ImageLaterality",
    "AccessionNumber",
    "NameOfPhysiciansReadingStudy",
    "PatientName",
    "InstanceNumber",
    "SeriesNumber",
)
VALUES = {
    "StudyDate": ("20240101", "20240102", "20241301"),
    "StudyTime": ("10", "2500"),
    "Modality": ("CT", "SR", "ZZ"),
    "ImageLaterality": ("L", "R"),
    "InstanceNumber": ("1", "2", "-1"),
    "SeriesNumber": ("1", "2", "x"),
}


def instance():
    values = {
        keyword: st.sampled_from(("", *VALUES.get(keyword, ("a", "b")))) for keyword in VARIED
    }
    uids = {
        "SeriesInstanceUID": st.sampled_from(["1.2.3", "1.2.4"]),
        "SOPInstanceUID": st.sampled_from(["1.5.1", "1.5.2", "1.5.3"]),
    }
    return st.fixed_dictionaries({**values, **uids})


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_order_of_instances_changes_nothing(data):
    made = [
        {**one, "source": f"f{number}"}
        for number, one in enumerate(data.draw(st.lists(instance(), min_size=1, max_size=6)))
    ]
    shuffled = data.draw(st.permutations(made))
    rules = shipped_rules()
    one, other = (
        convert(assemble(STUDY, blocks(order, rules)), rules) for order in (made, shuffled)
    )
    assert one == other


def test_a_rule_that_is_applied_leaves_no_circles_for_the_garbage_collector():
    """In a process of its own: what other tests leave behind is found by the collector, too."""
    program = """
import gc
from converter.core.engine import convert
from tests.core.making import shipped_rules, study

rules = shipped_rules()
made = study({"PatientID": "1", "PatientName": "Adams^Ann", "StudyDate": "20240101"})
convert(made, rules)
rules.memo.clear()
while gc.collect():
    pass
gc.disable()
convert(made, rules)
print(gc.collect())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "0\n"
