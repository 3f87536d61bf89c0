"""fhir.resources as a second opinion."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

from converter.core.check_reasons import STRICT
from converter.fhir.models import ShapeGuard, model_issues
from converter.fhir.shipped import shipped_checker
from tests.fhir.cases import BASES, CASES

UNREADABLE = {"json-syntax", "encoding"}


@pytest.fixture(scope="module")
def checker():
    return shipped_checker()


def test_what_fhir_resources_refuses_ours_refuses(checker):
    for case in CASES:
        if case.code in UNREADABLE:
            continue
        resource = json.loads(case.bad)
        if isinstance(resource.get("resourceType"), str) and model_issues(resource):
            issues = checker.check(resource)
            assert any(issue.severity == "error" or issue.code in STRICT for issue in issues), (
                case.name
            )


def test_many_defects_are_seen_by_ours_alone(checker):
    ours = [
        case.name
        for case in CASES
        if case.code not in UNREADABLE
        and isinstance((resource := json.loads(case.bad)).get("resourceType"), str)
        and not model_issues(resource)
    ]
    assert {"status-missing", "number-a-string"} - set(ours) == {"status-missing"}
    assert {"code-status-unknown", "target-of-subject", "text-with-nul", "empty-object"} <= set(
        ours
    )


@pytest.mark.parametrize("name", BASES)
def test_good_resources_pass(name):
    assert model_issues(json.loads(BASES[name])) == []


def test_no_value_is_repeated():
    patient = {
        "resourceType": "Patient",
        "birthDate": "Zanzibar",
        "active": "Zanzibar",
        "name": "Zanzibar",
    }
    issues = model_issues(patient)
    assert {issue.code for issue in issues} == {"models-disagree"}
    assert "Zanzibar" not in repr(issues)


def test_type_that_r4b_lacks_is_nobody_s_business():
    assert model_issues({"resourceType": "Nonsense"}) == []


def test_guard_asks_once_a_shape():
    guard = ShapeGuard()
    study = json.loads(BASES["study"])
    study["status"] = 5
    assert guard.issues(study) != []
    assert guard.issues(study) == []
    more = copy.deepcopy(study)
    more["series"][0]["instance"][1]["extra"] = 1
    assert guard.issues(more) != []


def test_only_the_models_import_fhir_resources():
    code = "import sys, converter.fhir.shipped as s; s.shipped_checker(); sys.exit('fhir.resources' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
