"""Whatever stands in a resource: the check answers, and never raises."""

from __future__ import annotations

import copy
import json
import random

import orjson
import pytest

from converter.fhir.judging import judge
from converter.fhir.outcome import operation_outcome
from converter.fhir.shipped import shipped_checker
from tests.fhir.cases import BASES

ODD = (
    None, "", "x", "a b", "\0", "#a", "Patient/1", 0, -1, 1.5, 2**70, True, [], {}, [[]], [{}], [None], ["x"], {"x": {}},
    {"id": "q"}, {"reference": {}}, {"coding": {}}, {"coding": [1]}, {"system": [], "code": "x"}, {"system": "x", "code": {}},
    {"url": {}}, {"extension": [{"url": []}]}, {"extension": {}}, {"resourceType": []}, {"start": 1, "end": []},
)  # fmt: skip
KEYS = (
    "extension", "id", "type", "system", "code", "coding", "url", "contained", "meta", "profile", "reference", "entry",
    "resource", "fullUrl", "resourceType", "_id", "_x", "period", "identifier", "text", "div", "modality", "series", "value",
    "descri\ud800ption", "a\0`b\\", "k" * 4000, "",
)  # fmt: skip


@pytest.fixture(scope="module")
def checker():
    return shipped_checker()


def places(value, path=()):
    yield path
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, held in children:
        yield from places(held, (*path, key))


def changed(resource, chance):
    made = copy.deepcopy(resource)
    for _ in range(chance.randint(1, 3)):
        path = chance.choice([path for path in places(made) if path])
        holder = made
        for step in path[:-1]:
            holder = holder[step]
        if chance.random() < 0.3 and isinstance(holder, dict):
            holder[chance.choice(KEYS)] = copy.deepcopy(chance.choice(ODD))
        else:
            holder[path[-1]] = copy.deepcopy(chance.choice(ODD))
    return made


@pytest.mark.parametrize("name", BASES)
def test_no_change_makes_it_raise(name, checker):
    resource = json.loads(BASES[name])
    chance = random.Random(name)  # the same in every run
    for _ in range(150):
        data = json.dumps(changed(resource, chance)).encode()
        verdict = judge(data, name, checker, tuple(checker.profiles), absent=True)
        assert "check-failed" not in {i.code for i in verdict.issues}
        outcome = orjson.loads(orjson.dumps(operation_outcome(verdict)))
        assert [i for i in checker.check(outcome) if i.severity == "error"] == []


@pytest.mark.parametrize(
    "number",
    ["1e999999999", "-1e9999999", "1e-999999999", "1e99999999999999999999", "-1e99999999999999999999", "9" * 5000],
)  # fmt: skip
@pytest.mark.parametrize(
    ("base", "element", "text", "at"),
    [
        ("service-request", "quantityQuantity", '{"value": #}', "quantity.ofType(Quantity).value"),
        ("service-request", "quantityRange", '{"low": {"value": #}, "high": {"value": 1}}', "quantity.ofType(Range).low.value"),
        ("location", "position", '{"longitude": #, "latitude": 1}', "position.longitude"),
        (
            "service-request",
            "extension",
            '[{"url": "http://x.example/e", "valueCount": {"value": #, "code": "1", "system": "http://unitsofmeasure.org"}}]',
            "extension[0].value.ofType(Count).value",
        ),
    ],
)  # fmt: skip
def test_decimal_of_any_magnitude_is_a_finding(number, base, element, text, at, checker):
    data = BASES[base].replace(b"{", f'{{"{element}": {text.replace("#", number)},'.encode(), 1)
    issues = judge(data, base, checker).issues
    assert ("number-form", at) in {(i.code, i.path.partition(".")[2]) for i in issues}


def test_whole_number_of_any_length_is_a_finding(checker):
    for digits in (b"1" + b"0" * 40, b"9" * 5000):
        data = BASES["study"].replace(b'"numberOfSeries": 1', b'"numberOfSeries": ' + digits)
        (found,) = judge(data, "x", checker).issues
        assert found.code == "value-format"
        assert "2147483647" in found.message


def test_fault_of_the_check_costs_one_resource_only(checker, monkeypatch):
    def broken(resource):
        raise ZeroDivisionError("CANARY")

    monkeypatch.setattr(checker, "check", broken)
    (found,) = judge(BASES["study"], "x", checker).issues
    assert (found.severity, found.code) == ("error", "check-failed")
    assert "CANARY" not in found.message
    monkeypatch.undo()
    assert judge(BASES["study"], "x", checker).issues == []


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ("transaction", {"type": "CANARY"}),
        ("transaction", {"total": 1, "type": "CANARY"}),
        ("study", {"fhirVersion": "CANARY"}),
        ("study", {"resourceType": "CANARY", "fhirVersion": "5.0.0"}),
        ("study", {"contained": [{"resourceType": "CANARY", "id": "c"}], "subject": {"reference": "#c"}}),
        ("study", {"subject": {"reference": "CANARY/1"}}),
        ("study", {"subject": {"reference": "CANARY?a=b"}}),
        ("study", {"subject": {"reference": "Patient/1", "type": "CANARY"}}),
        ("collection", {"entry": [{"fullUrl": "urn:uuid:1ee36ef8-6ec4-4b6b-9c2c-4dd37a8c2b8c", "resource": {"resourceType": "CANARY"}}, {"resource": {"resourceType": "ImagingStudy", "subject": {"reference": "urn:uuid:1ee36ef8-6ec4-4b6b-9c2c-4dd37a8c2b8c"}}}]}),
    ],
)  # fmt: skip
def test_no_value_stands_in_a_message_or_place(base, change, checker):
    resource = {**json.loads(BASES[base]), **change}
    verdict = judge(json.dumps(resource).encode(), base, checker, tuple(checker.profiles))
    assert verdict.failed()
    assert "CANARY" not in json.dumps(operation_outcome(verdict))


def test_unknown_type_of_bundle_is_all_there_is_to_say(checker):
    data = BASES["transaction"].replace(b'"transaction"', b'"other"')
    assert [i.code for i in judge(data, "x", checker).issues] == ["code-outside-binding"]


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("descri\\ud800ption", r"`descri\ud800ption`"),
        ("a\\u001b[31m", r"`a\u001b[31m`"),
        ("a`b", r"`a\`b`"),
        ("k" * 4000, f"`{'k' * 64}`"),
    ],
)
def test_odd_key_is_shown_harmless_and_bounded(key, shown, checker):
    data = BASES["study"].replace(b"{", f'{{"{key}": 1, "{key}": 2,'.encode(), 1)
    issues = judge(data, "x", checker).issues
    assert [i.code for i in issues] == ["duplicate-key", "unknown-element"]
    assert {i.path for i in issues} == {f"ImagingStudy.{shown}"}
    assert all(len(i.message) < 200 and i.message.isprintable() for i in issues)


def test_place_of_a_duplicate_key_is_fhirpath(checker):
    data = BASES["service-request"].replace(
        b"{", b'{"quantityQuantity": {"unit": "a", "unit": "b"}, "_status": {"id": "a", "id": "b"},', 1
    )  # fmt: skip
    found = [i.path for i in judge(data, "x", checker).issues if i.code == "duplicate-key"]
    assert found == [
        "ServiceRequest.quantity.ofType(Quantity).unit",
        "ServiceRequest.status.id",
    ]
