"""Every sample of one defect is found, in the right place, and no good one is."""

from __future__ import annotations

import pytest

from converter.core.check_reasons import CHECKS, STRICT
from converter.fhir.judging import judge
from converter.fhir.shipped import shipped_checker
from tests.fhir.cases import BASES, CASES


@pytest.fixture(scope="module")
def checker():
    return shipped_checker()


def test_names_are_used_once():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_defect_is_found_where_it_is(case, checker):
    verdict = judge(case.bad, case.name, checker)
    said = {(issue.code, issue.path) for issue in verdict.issues}
    assert (case.code, case.at) in said, verdict.issues
    assert verdict.failed(STRICT)
    assert verdict.failed() == (not case.strict)


@pytest.mark.parametrize("case", [case for case in CASES if case.good], ids=lambda case: case.name)
def test_good_twin_passes_strictly(case, checker):
    verdict = judge(case.good, case.name, checker)
    wrong = [issue for issue in verdict.issues if issue.severity == "error" or issue.code in STRICT]
    assert not wrong
    assert "models-disagree" not in {issue.code for issue in verdict.issues}


@pytest.mark.parametrize("name", BASES)
def test_good_base_has_no_issue_at_all(name, checker):
    assert judge(BASES[name], name, checker).issues == []


def test_every_code_of_the_check_has_a_sample_or_a_test_of_its_own():
    elsewhere = {
        "encoding", "byte-order-mark", "too-deep-json", "too-large", "cannot-be-read",  # test_jsontext, test_validate
        "type-not-checked", "blanks-around", "study-uid-identifier", "duplicate-uid", "count-too-small",
        "outside-value-set", "coding-without-system", "modality-not-acquisition", "unknown-sop-class",
        "reference-empty", "check-digit-of-code", "reference-unresolved", "narrative-external", "dom-6",  # test_warnings
        "profile-too-many", "profile-value", "must-support",  # test_profiles
        "profile-not-claimed", "models-disagree", "check-failed",  # test_claims, test_models, test_hostile
        "bdl-9", "bdl-10", "bdl-12", "age-1", "cnt-3", "dis-1", "drt-1", "rng-2", "rat-1", "exp-1",
        "drq-1", "drq-2", "tim-1", "tim-4", "tim-5", "tim-6", "tim-7", "tim-8", "tim-9", "tim-10",  # test_invariants
    }  # fmt: skip
    assert set(CHECKS) - {case.code for case in CASES} == elsewhere
