from __future__ import annotations

import json
from itertools import permutations

import pytest

from converter.core.companions import reduce
from converter.core.narrative import narrative


def patient(**more):
    return {"resourceType": "Patient", "id": "p", **more}


def named(family, **more):
    return patient(name=[{"family": family}], **more)


def reduced(*contributions):
    return reduce([(f"1.{number}", one) for number, one in enumerate(contributions)])


def test_what_all_studies_say_is_taken_without_a_finding():
    made = reduced(named("Adams", gender="male"), named("Adams", gender="male"))
    assert made.resource["gender"] == "male"
    assert (made.issues, made.mismatch) == ([], False)


def test_what_one_study_says_is_written_as_if_two_said_it():
    body = patient(
        identifier=[{"value": "7", "system": "urn:x:a"}, {"value": "1", "type": {"text": "t"}}],
        name=[{"given": ["Ann"], "family": "Adams"}],
        birthDate="1950-01-01",
        _birthDate={"extension": [{"url": "u", "valueCode": "unknown"}]},
        _gender={"extension": [{"valueCode": "unknown", "url": "u"}]},
    )
    one = {"resourceType": "Patient", "id": "p", "text": narrative(body), **body}
    assert json.dumps(reduced(one).resource) == json.dumps(reduced(one, one).resource)
    assert "_birthDate" not in reduced(one).resource


def test_an_element_takes_what_most_studies_say_with_a_finding():
    made = reduced(patient(gender="male"), patient(gender="female"), patient(gender="male"))
    assert made.resource["gender"] == "male"
    [issue] = made.issues
    assert (issue.code, issue.path, issue.keyword, issue.count) == (
        "companions-differ",
        "Patient.gender",
        "PatientSex",
        3,
    )


def test_a_tie_goes_to_the_smallest():
    assert reduced(patient(gender="male"), patient(gender="female")).resource["gender"] == "female"


def test_what_one_study_knows_is_kept():
    made = reduced(patient(gender="male"), patient(birthDate="1960-01-01"))
    assert {"gender", "birthDate"} <= set(made.resource)
    assert made.issues == []


def test_identifiers_of_all_studies_are_united_those_of_most_first():
    one, two = {"system": "a", "value": "1"}, {"system": "b", "value": "2"}
    made = reduced(patient(identifier=[two]), patient(identifier=[two]), patient(identifier=[one]))
    assert made.resource["identifier"] == [two, one]
    assert made.issues == []


def test_a_known_birth_date_beats_an_absent_one():
    absent = patient(_birthDate={"extension": [{"url": "u", "valueCode": "unknown"}]})
    made = reduced(absent, absent, patient(birthDate="1960-01-01"))
    assert made.resource["birthDate"] == "1960-01-01"
    assert "_birthDate" not in made.resource


def test_a_known_name_beats_an_absent_one():
    absent = patient(name=[{"_text": {"extension": [{"url": "u", "valueCode": "unknown"}]}}])
    assert reduced(absent, absent, named("Adams")).resource["name"] == [{"family": "Adams"}]


@pytest.mark.parametrize(
    ("one", "other", "mismatch"),
    [
        (("Adams", "1960-01-01"), ("Baker", "1970-01-01"), True),
        (("Adams", "1960-01-01"), ("Adams", "1970-01-01"), False),
        (("Adams", "1960-01-01"), ("Baker", "1960-01-01"), False),
        (("Adams", "1960-01-01"), ("ADAMS", "1970-01-01"), False),
        (("Adams", "1960"), ("Baker", "1960-01-01"), False),
        (("Adams", "1960"), ("Baker", "1961-01-01"), True),
    ],
)
def test_two_people_are_told_by_birth_date_and_name_together(one, other, mismatch):
    made = reduced(*(named(family, birthDate=born) for family, born in (one, other)))
    assert made.mismatch is mismatch
    assert ("patient-mismatch" in [issue.code for issue in made.issues]) is mismatch


def test_given_names_tell_people_of_one_family_apart():
    ann, eve = ({"name": [{"family": "Adams", "given": [given]}]} for given in ("Ann", "Eve"))
    one = patient(**ann, birthDate="1960-01-01")
    assert reduced(one, patient(**eve, birthDate="1970-01-01")).mismatch
    assert not reduced(one, patient(**eve, birthDate="1960-01-01")).mismatch
    assert not reduced(one, named("Adams", birthDate="1970-01-01")).mismatch
    null = patient(name=[{"family": "Adams", "given": [None, "Eve"]}], birthDate="1970-01-01")
    assert reduced(one, null).mismatch


def test_a_study_that_knows_neither_contradicts_nobody():
    assert not reduced(named("Adams", birthDate="1960-01-01"), patient()).mismatch


def test_other_resources_are_never_two_people():
    made = reduce(
        [
            (uid, {"resourceType": "Practitioner", "id": "x", "name": [{"family": family}]})
            for uid, family in (("1.1", "A"), ("1.2", "B"))
        ]
    )
    assert not made.mismatch
    assert [issue.path for issue in made.issues] == ["Practitioner.name"]


def test_the_order_of_studies_changes_nothing():
    contributions = [
        ("1.1", named("Adams", gender="male", identifier=[{"value": "1"}])),
        ("1.2", named("Baker", birthDate="1960-01-01", identifier=[{"value": "2"}])),
        ("1.3", patient(gender="female")),
    ]
    made = [reduce(order) for order in permutations(contributions)]
    assert all(one == made[0] for one in made)
    assert len({repr(one.resource) for one in made}) == 1


def test_the_narrative_is_that_of_the_reduced_resource():
    made = reduced(named("Adams", text={"status": "generated", "div": "old"}), named("Adams"))
    assert "old" not in made.resource["text"]["div"]
