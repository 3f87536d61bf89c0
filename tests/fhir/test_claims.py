"""What may be claimed: only what is true, the subject and the options included."""

from __future__ import annotations

import json

import pytest

from converter.fhir.claims import claims, patient_claims
from converter.fhir.shipped import shipped_checker
from tests.fhir.cases import BASES

IPS = "http://hl7.org/fhir/uv/ips/StructureDefinition/ImagingStudy-uv-ips"
UK = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-ImagingStudy"
IPS_PATIENT = "http://hl7.org/fhir/uv/ips/StructureDefinition/Patient-uv-ips"


@pytest.fixture(scope="module")
def checker():
    return shipped_checker()


@pytest.fixture
def study():
    return json.loads(BASES["study"])


@pytest.fixture
def patient():
    return json.loads(BASES["patient"])


def claim(checker, study, patient, dropped=()):
    wanted = [checker.profiles[name] for name in ("r4", "uk-core", "ips")]
    canonicals, issues = claims(study, patient, checker, wanted, dropped)
    codes = {issue.code for issue in issues}
    assert ("profile-not-claimed" in codes) == (len(canonicals) < 2)
    return canonicals


def test_both_where_all_is_met(checker, study, patient):
    assert claim(checker, study, patient) == [UK, IPS]


def test_none_where_base_r4_is_broken(checker, study, patient):
    study["status"] = "done"
    assert claim(checker, study, patient) == []


def test_no_ips_where_the_patient_has_no_name(checker, study, patient):
    del patient["name"]
    assert claim(checker, study, patient) == [UK]


def test_no_ips_where_the_patient_has_no_birth_date(checker, study, patient):
    del patient["birthDate"], patient["_birthDate"]
    assert claim(checker, study, patient) == [UK]


def test_ips_where_the_reasons_are_stated(checker, study, patient):
    absent = [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "unknown",
        }
    ]
    del patient["birthDate"]
    patient |= {"_birthDate": {"extension": absent}, "name": [{"_text": {"extension": absent}}]}
    assert claim(checker, study, patient) == [UK, IPS]


def test_no_ips_where_the_patient_breaks_base_r4(checker, study, patient):
    patient["gender"] = "M"
    assert claim(checker, study, patient) == [UK]


def test_no_ips_where_the_patient_is_not_written(checker, study):
    assert claim(checker, study, None) == [UK]


def test_no_ips_for_a_logical_reference(checker, study, patient):
    study["subject"] = {"type": "Patient", "identifier": {"value": "1"}}
    assert claim(checker, study, patient) == [UK]


def test_no_ips_for_a_device(checker, study):
    study["subject"] = {"reference": "Device/1"}
    assert claim(checker, study, None) == [UK]


def test_ips_for_a_group(checker, study):
    study["subject"] = {"reference": "Group/1"}
    assert claim(checker, study, None) == [UK, IPS]


def test_contained_patient_is_held_against_ips(checker, study):
    study["contained"] = [{"resourceType": "Patient", "id": "p", "gender": "female"}]
    study["subject"] = {"reference": "#p"}
    assert claim(checker, study, None) == [UK]
    study["contained"][0] |= {"name": [{"text": "x"}], "birthDate": "1960"}
    assert claim(checker, study, None) == [UK, IPS]


def test_no_claim_of_either_where_an_option_left_instances_out(checker, study, patient):
    assert claim(checker, study, patient, {"ImagingStudy.series.instance"}) == []


def test_no_ips_for_entered_in_error(checker, study, patient):
    study["status"] = "entered-in-error"
    assert claim(checker, study, patient) == [UK]


def test_r4_has_nothing_to_claim(checker, study, patient):
    assert claims(study, patient, checker, [checker.profiles["r4"]]) == ([], [])


def test_patient_claims_ips_and_never_uk_core(checker, patient):
    wanted = [checker.profiles["uk-core"], checker.profiles["ips"]]
    assert patient_claims(patient, checker, wanted) == [IPS_PATIENT]
    del patient["name"]
    assert patient_claims(patient, checker, wanted) == []


def test_what_the_subject_fails_is_an_error_so_that_strict_ends_with_it(checker, study, patient):
    del patient["birthDate"], patient["_birthDate"]
    _, issues = claims(study, patient, checker, [checker.profiles["ips"]])
    (error,) = [issue for issue in issues if issue.severity == "error"]
    assert (error.code, error.path) == ("subject-fails-profile", "ImagingStudy.subject")
    assert "Patient.birthDate" in error.message
