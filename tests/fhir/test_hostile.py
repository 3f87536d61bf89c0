"""Whatever stands in a resource: the check answers, and never raises."""

from __future__ import annotations

import copy
import json
import random

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
        assert operation_outcome(verdict)["issue"]
