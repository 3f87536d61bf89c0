"""fhir.resources as a second opinion."""

from __future__ import annotations

import copy
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from converter.cli.rules import judge_of
from converter.core.check_reasons import STRICT
from converter.core.issues import Issue
from converter.fhir.definitions import load_shapes
from converter.fhir.models import ShapeGuard, model_issues
from converter.fhir.shipped import shipped_checker
from converter.mapping import load
from tests.fhir.cases import BASES, CASES

ROOT = Path(__file__).resolve().parents[2]

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


def test_shapes_that_were_asked_about_beforehand_are_those_of_the_golden_cases():
    tool = runpy.run_path(str(ROOT / "tools" / "build_shapes.py"))
    assert tool["OUT"].read_text("utf-8") == tool["render"](), "run python -m tools.build_shapes"


def test_run_asks_about_what_was_never_asked_before_and_once():
    rules = load(["ips"])
    patient = json.loads(BASES["patient"])
    patient["contact"] = [{"gender": "female", "relationship": [{"text": "x"}]}]
    checker = shipped_checker(rules.profiles)
    checker.check(patient)
    assert checker.fresh(patient)
    assert not checker.fresh(patient)
    checker.check(patient)
    assert not checker.fresh(patient)


def test_elements_that_were_asked_about_apart_are_no_news_together():
    golden = json.loads((ROOT / "tests/golden/utf-8-name/expected.json").read_text("utf-8"))
    study = next(
        one for one in golden["resources"].values() if one["resourceType"] == "ImagingStudy"
    )
    whole = {**study, "interpreter": [{"display": "x"}], "reasonCode": [{"text": "y"}]}
    whole["location"] = whole["encounter"] = {"display": "z"}
    checker = shipped_checker(load(["ips"]).profiles)
    assert frozenset(whole) not in load_shapes()["ImagingStudy"]
    checker.check(whole)
    assert not checker.fresh(whole)
    checker.check({**whole, "note": [{"text": "x"}]})
    assert checker.fresh(whole), "a key that none of them has"
    checker.check({name: held for name, held in study.items() if name != "id"})
    assert checker.fresh(study), "less than any of them has"


def test_what_the_models_refuse_of_a_patient_seen_for_its_study_is_said_of_the_patient(monkeypatch):
    judge = judge_of(load(["ips"]))
    said = [Issue("warning", "models-disagree", "Patient.contact")]
    monkeypatch.setattr(
        ShapeGuard,
        "issues",
        lambda _, resource: list(said) if resource["resourceType"] == "Patient" else [],
    )
    study, patient = json.loads(BASES["study"]), json.loads(BASES["patient"])
    patient["contact"] = [{"gender": "female", "relationship": [{"text": "x"}]}]
    assert "models-disagree" not in {one.code for one in judge(study, patient, []).issues}
    assert "models-disagree" in {one.code for one in judge(patient, None, []).issues}
    assert "models-disagree" not in {one.code for one in judge(patient, None, []).issues}


def test_a_patient_whose_id_the_server_gives_is_judged_as_well():
    judge = judge_of(load(["ips"]))
    study, patient = json.loads(BASES["study"]), json.loads(BASES["patient"])
    del patient["id"]
    patient["contact"] = [{"gender": "female", "relationship": [{"text": "x"}]}]
    judge(study, patient, [])
    judge(patient, None, [])


def test_run_of_known_shapes_does_not_import_fhir_resources():
    code = (
        "import sys, json; from converter.cli.rules import judge_of; from converter.mapping import load;"
        "judge = judge_of(load(['ips'])); study, patient = map(json.loads, sys.argv[1:]);"
        "judge(study, patient, []); judge(patient, None, []);"
        "sys.exit(any(name.startswith('fhir') for name in sys.modules))"
    )
    golden = json.loads((ROOT / "tests/golden/utf-8-name/expected.json").read_text("utf-8"))
    found = {one["resourceType"]: json.dumps(one) for one in golden["resources"].values()}
    command = [sys.executable, "-c", code, found["ImagingStudy"], found["Patient"]]
    assert subprocess.run(command, check=False).returncode == 0
