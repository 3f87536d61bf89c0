"""A check that runs for months keeps no more of the resources than it was given to keep."""

from __future__ import annotations

import gc
import json
import tracemalloc

from converter.fhir.shipped import shipped_checker
from converter.fhir.values import LONGEST, recalling
from tests.fhir.cases import SAMPLES

STUDIES = 600


def grown(work):
    """Bytes that are held after it beyond those before it."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_checking_studies_holds_little_of_each():
    checker = shipped_checker()
    text = (SAMPLES / "good" / "study.json").read_text()

    def check(begin, end):
        for number in range(begin, end):
            study = json.loads(text)
            study["identifier"][0]["value"] = f"urn:oid:2.999.{number}"
            study["subject"] = {"reference": f"Patient/p{number}"}
            study["description"] = f"Study {number}"
            for _ in range(
                2
            ):  # published, and once more: what is met again looks as if it stood in every study
                checker.check(study)

    check(0, 20)
    assert grown(lambda: check(20, 20 + STUDIES)) < STUDIES * 1024


def test_values_that_are_found_right_are_recalled_and_long_ones_are_not():
    asked = []
    quick, check = recalling(lambda value, _path, _report: asked.append(value))

    class Report:
        notes = 0

    for value in ({"display": "A"}, {"display": "x" * LONGEST}):
        for _ in range(2):
            if quick(value) is not None:
                check(value, (), Report)
    assert [len(value["display"]) for value in asked] == [1, LONGEST, LONGEST]


def test_what_is_recalled_takes_the_room_of_its_text():
    quick, check = recalling(lambda _value, _path, _report: None)

    class Report:
        notes = 0

    def remember():
        for number in range(500):
            for _ in range(2):
                if quick({"reference": f"Patient/p{number}"}) is not None:
                    check({"reference": f"Patient/p{number}"}, (), Report)

    assert grown(remember) < 500 * 256
