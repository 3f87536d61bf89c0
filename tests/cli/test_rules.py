"""The check in workers: it says what the run's own says, and leaves to that what is new to it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from converter.cli.rules import WorkerJudge, checker_of, judge_of
from converter.mapping import load

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def golden():
    made = json.loads((ROOT / "tests/golden/utf-8-name/expected.json").read_text("utf-8"))
    return {one["resourceType"]: one for one in made["resources"].values()}


@pytest.mark.parametrize("started", ["forked", "spawned"])
def test_the_check_in_a_worker_says_the_same_and_is_unsure_once_of_a_new_shape(golden, started):
    rules = load(["uk-core", "ips"])
    judge = judge_of(rules)
    ours = WorkerJudge(rules, checker_of(rules))
    if started == "spawned":
        ours = pickle.loads(pickle.dumps(ours))
    study, patient = golden["ImagingStudy"], golden["Patient"]
    assert ours(study, patient, []) == judge(study, patient, [])
    assert not ours(patient, None, []).unsure
    new = {**patient, "contact": [{"gender": "female", "relationship": [{"text": "x"}]}]}
    assert ours(study, new, []).unsure
    assert not ours(study, new, []).unsure
    assert not ours(new, None, []).unsure
