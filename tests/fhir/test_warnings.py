"""What is no error: warnings, each beside a resource that does not get it."""

from __future__ import annotations

import copy
import json

import pytest

from converter.core.check_reasons import CHECKS
from converter.core.values import parse_uid
from converter.fhir.judging import judge
from converter.fhir.shipped import shipped_checker
from tests.fhir.cases import BASES

DCM = "http://dicom.nema.org/resources/ontology/DCM"


@pytest.fixture(scope="module")
def checker():
    return shipped_checker()


@pytest.fixture
def study():
    return json.loads(BASES["study"])


def said(checker, resource):
    return {
        (issue.code, issue.path)
        for issue in judge(json.dumps(resource).encode(), "x", checker).issues
    }


def only(checker, resource, code, path):
    assert CHECKS[code].severity == "warning"
    assert said(checker, resource) == {(code, path)}


def test_no_narrative(checker, study):
    del study["text"]
    only(checker, study, "dom-6", "ImagingStudy")


def test_blanks_around(checker, study):
    study["description"] = " CT"
    only(checker, study, "blanks-around", "ImagingStudy.description")


def test_series_without_study_uid(checker, study):
    del study["identifier"][0]
    only(checker, study, "study-uid-identifier", "ImagingStudy.identifier")


def test_two_study_uids(checker, study):
    study["identifier"].append({"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"})
    only(checker, study, "study-uid-identifier", "ImagingStudy.identifier")


def test_no_series_needs_no_study_uid(checker, study):
    for name in ("series", "numberOfSeries", "numberOfInstances", "identifier"):
        del study[name]
    assert said(checker, study) == set()


def test_series_listed_twice(checker, study):
    study["series"].append(study["series"][0])
    study["numberOfSeries"], study["numberOfInstances"] = 2, 4
    only(checker, study, "duplicate-uid", "ImagingStudy.series[1].uid")


def test_instance_listed_twice(checker, study):
    instances = study["series"][0]["instance"]
    instances[1]["uid"] = instances[0]["uid"]
    only(checker, study, "duplicate-uid", "ImagingStudy.series[0].instance[1].uid")


@pytest.mark.parametrize(
    ("holder", "name", "path"),
    [
        ((), "numberOfSeries", "ImagingStudy.numberOfSeries"),
        ((), "numberOfInstances", "ImagingStudy.numberOfInstances"),
        (("series", 0), "numberOfInstances", "ImagingStudy.series[0].numberOfInstances"),
    ],
)
def test_counts_below_what_is_listed(checker, study, holder, name, path):
    changed = study
    for step in holder:
        changed = changed[step]
    changed[name] = 0
    only(checker, study, "count-too-small", path)
    changed[name] = 9
    assert said(checker, study) == set()


def test_study_modality_that_is_no_acquisition(checker, study):
    study["modality"].append({"system": DCM, "code": "SR"})
    only(checker, study, "modality-not-acquisition", "ImagingStudy.modality[1]")


@pytest.mark.parametrize("code", ["SR", "KO", "PR", "SEG", "DOC", "CFM", "MA"])
def test_any_modality_of_dicom_may_be_a_series(checker, study, code):
    study["series"][0]["modality"] = {"system": DCM, "code": code}
    assert said(checker, study) == set()


def test_dicom_code_that_is_no_modality(checker, study):
    study["series"][0]["modality"]["code"] = "110180"
    only(checker, study, "outside-value-set", "ImagingStudy.series[0].modality")


def test_private_sop_class(checker, study):
    study["series"][0]["instance"][0]["sopClass"]["code"] = "urn:oid:1.3.12.2.1107.5.9.1"
    only(checker, study, "unknown-sop-class", "ImagingStudy.series[0].instance[0].sopClass")


def test_code_without_system(checker, study):
    study["reasonCode"] = [{"coding": [{"code": "x"}]}]
    only(checker, study, "coding-without-system", "ImagingStudy.reasonCode[0].coding[0]")


def test_snomed_check_digit(checker, study):
    study["series"][0]["bodySite"]["code"] = "816094008"
    only(checker, study, "check-digit-of-code", "ImagingStudy.series[0].bodySite.code")


def test_reference_that_says_a_type_alone(checker, study):
    study["referrer"] = {"type": "Practitioner"}
    only(checker, study, "reference-empty", "ImagingStudy.referrer")


def test_picture_from_elsewhere(checker, study):
    study["text"]["div"] = (
        '<div xmlns="http://www.w3.org/1999/xhtml">a<img src="https://x.example/a.png"/></div>'
    )
    only(checker, study, "narrative-external", "ImagingStudy.text.div")


def test_urn_that_the_bundle_does_not_hold(checker):
    bundle = json.loads(BASES["transaction"])
    del bundle["entry"][0]
    only(checker, bundle, "reference-unresolved", "Bundle.entry[0].resource.subject.reference")


def test_type_that_is_not_checked_in_a_bundle(checker):
    bundle = json.loads(BASES["collection"])
    other = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    bundle["entry"].append(
        {"fullUrl": "urn:uuid:2f9f6a52-6f1d-5c8e-8a6b-1d8c7d1f6aff", "resource": other}
    )
    only(checker, bundle, "type-not-checked", "Bundle.entry[3].resource")


def test_trusted_uids_are_not_looked_at_again(checker, study):
    study["series"][0]["uid"] = "1.02"
    assert {issue.code for issue in checker.check(study)} == {"uid-format"}
    assert checker.check(study, trusted_uids=True) == []


@pytest.mark.parametrize("uid", ["999.999.2.19941105.112000", "3.1.2", "2", "1.40.1"])
def test_what_the_reader_takes_for_a_uid_the_check_takes_too(checker, study, uid):
    assert parse_uid(uid).value == uid
    study["series"][0]["uid"] = study["series"][0]["instance"][0]["uid"] = uid
    assert said(checker, study) == set()


def test_a_right_code_is_remembered_and_a_wrong_one_is_not(checker, study):
    for _ in range(2):
        assert said(checker, study) == set()
        wrong = copy.deepcopy(study)
        wrong["series"][0]["modality"]["code"] = "ZZ"
        assert said(checker, wrong) == {("unknown-code", "ImagingStudy.series[0].modality.code")}
        extra = copy.deepcopy(study)
        extra["series"][0]["modality"]["foo"] = "x"
        assert said(checker, extra) == {("unknown-element", "ImagingStudy.series[0].modality.foo")}
        odd = copy.deepcopy(study)
        odd["series"][0]["modality"]["userSelected"] = 1
        assert said(checker, odd) == {
            ("wrong-json-type", "ImagingStudy.series[0].modality.userSelected")
        }


def test_no_message_repeats_a_value(checker, study):
    canary = "Zanzibar^Canary"
    study |= {
        "description": canary + "\0",
        "status": canary,
        "started": canary,
        "id": canary,
        "language": canary,
    }
    study["subject"] = {"reference": canary, "type": canary}
    study["series"][0] |= {"uid": canary, "number": canary, "modality": canary}
    study["identifier"].append({"system": canary, "value": canary + "\0"})
    study["text"]["div"] = canary
    issues = judge(json.dumps(study).encode(), "x", checker).issues
    assert len(issues) > 8
    assert not [issue for issue in issues if "Zanzibar" in repr(issue)]
