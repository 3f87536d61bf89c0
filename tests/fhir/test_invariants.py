"""Invariants of datatypes that no resource of ours uses often; each with a value that meets it."""

from __future__ import annotations

import json

import pytest

from converter.fhir.shipped import shipped_checker
from tests.fhir.cases import BASES

UCUM = "http://unitsofmeasure.org"
REPEAT = "ServiceRequest.occurrence.ofType(Timing).repeat"
TIMING = [
    ("tim-1", {"duration": 1}, {"duration": 1, "durationUnit": "h"}),
    ("tim-4", {"duration": -1, "durationUnit": "h"}, {"duration": 0, "durationUnit": "h"}),
    ("tim-5", {"period": -1, "periodUnit": "d"}, {"period": 1, "periodUnit": "d"}),
    ("tim-6", {"periodMax": 2}, {"periodMax": 2, "period": 1, "periodUnit": "d"}),
    ("tim-7", {"durationMax": 2}, {"durationMax": 2, "duration": 1, "durationUnit": "h"}),
    ("tim-8", {"countMax": 2}, {"countMax": 2, "count": 1}),
    ("tim-9", {"offset": 5}, {"offset": 5, "when": ["HS"]}),
    ("tim-9", {"offset": 5, "when": ["CM"]}, {"when": ["CM"]}),
    ("tim-10", {"timeOfDay": ["10:00:00"], "when": ["HS"]}, {"timeOfDay": ["10:00:00"]}),
]
VALUES = [
    ("age-1", "valueAge", {"value": 5}, {"value": 5, "code": "a", "system": UCUM}),
    (
        "age-1",
        "valueAge",
        {"value": 0, "code": "a", "system": UCUM},
        {"value": 1, "code": "a", "system": UCUM},
    ),
    (
        "cnt-3",
        "valueCount",
        {"value": 1.5, "code": "1", "system": UCUM},
        {"value": 2, "code": "1", "system": UCUM},
    ),
    (
        "cnt-3",
        "valueCount",
        {"value": 2, "code": "2", "system": UCUM},
        {"value": 2, "code": "1", "system": UCUM},
    ),
    ("dis-1", "valueDistance", {"value": 5}, {"value": 5, "code": "m", "system": UCUM}),
    ("drt-1", "valueDuration", {"code": "h"}, {"value": 5, "code": "h", "system": UCUM}),
    (
        "rng-2",
        "valueRange",
        {"low": {"value": 2}, "high": {"value": 1}},
        {"low": {"value": 1}, "high": {"value": 1}},
    ),
    (
        "rat-1",
        "valueRatio",
        {"numerator": {"value": 1}},
        {"numerator": {"value": 1}, "denominator": {"value": 2}},
    ),
    (
        "exp-1",
        "valueExpression",
        {"language": "text/fhirpath"},
        {"language": "text/fhirpath", "expression": "1"},
    ),
    (
        "drq-1",
        "valueDataRequirement",
        {"type": "Patient", "codeFilter": [{"path": "a", "searchParam": "b"}]},
        {"type": "Patient", "codeFilter": [{"path": "a"}]},
    ),
    (
        "drq-2",
        "valueDataRequirement",
        {"type": "Patient", "dateFilter": [{"valueDateTime": "2020"}]},
        {"type": "Patient", "dateFilter": [{"searchParam": "b"}]},
    ),
]


@pytest.fixture(scope="module")
def checker():
    return shipped_checker()


@pytest.mark.parametrize(("key", "bad", "good"), TIMING)
def test_timing(checker, key, bad, good):
    order = json.loads(BASES["service-request"])
    del order["occurrenceDateTime"]
    order["occurrenceTiming"] = {"repeat": bad}
    assert (key, REPEAT) in {(issue.code, issue.path) for issue in checker.check(order)}
    order["occurrenceTiming"] = {"repeat": good}
    assert checker.check(order) == []


@pytest.mark.parametrize(("key", "name", "bad", "good"), VALUES)
def test_values(checker, key, name, bad, good):
    patient = json.loads(BASES["patient"])
    for value, found in ((bad, True), (good, False)):
        patient["extension"] = [{"url": "http://x.example/e", name: value}]
        assert (key in {issue.code for issue in checker.check(patient)}) == found


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("bdl-9", {"type": "document"}),
        ("bdl-10", {"type": "document"}),
        ("bdl-11", {"type": "document"}),
        ("bdl-12", {"type": "message"}),
    ],
)
def test_documents_and_messages(checker, key, content):
    bundle = json.loads(BASES["collection"]) | content
    assert key in {issue.code for issue in checker.check(bundle)}
    assert key not in {issue.code for issue in checker.check(json.loads(BASES["collection"]))}
