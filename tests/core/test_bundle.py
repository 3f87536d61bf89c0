from __future__ import annotations

import copy
import json

import pytest

from converter.core.bundle import bundle, entry, full_url, group, key, references
from converter.core.ids import patient_id, study_id

UIDS = [f"1.2.840.99999.{n}" for n in range(4)]
PATIENT = patient_id("urn:oid:1.2.3.4", "7", "")


def patient(number="7"):
    return {
        "resourceType": "Patient",
        "id": patient_id("urn:oid:1.2.3.4", number, ""),
        "identifier": [{"value": "bare"}, {"system": "urn:oid:1.2.3.4", "value": number}],
    }


def study(uid=UIDS[0], number="7"):
    return {
        "resourceType": "ImagingStudy",
        "id": study_id(uid),
        "identifier": [
            {"system": "https://ris.example.org", "value": "A1"},
            {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"},
        ],
        "status": "available",
        "subject": {"reference": f"Patient/{patient(number)['id']}", "type": "Patient"},
        "endpoint": [{"reference": "Endpoint/not-here"}, {"reference": "#inside"}],
        "referrer": {"display": "Patient/not a reference"},
    }


def entries(made):
    return {e["resource"]["resourceType"]: e for e in made["entry"]}


def test_transaction_puts_each_resource_to_its_id():
    made = bundle([study(), patient()])
    assert made["type"] == "transaction"
    assert [e["resource"]["resourceType"] for e in made["entry"]] == ["Patient", "ImagingStudy"]
    for held in made["entry"]:
        assert held["request"] == {"method": "PUT", "url": key(held["resource"])}
        assert held["fullUrl"] == f"urn:uuid:{held['resource']['id']}"


@pytest.mark.parametrize("kind", ["transaction", "collection"])
def test_references_resolve_inside_and_others_stay(kind):
    made = entries(bundle([study(), patient()], kind))
    imaging_study = made["ImagingStudy"]["resource"]
    assert imaging_study["subject"] == {"reference": made["Patient"]["fullUrl"], "type": "Patient"}
    assert [e["reference"] for e in imaging_study["endpoint"]] == ["Endpoint/not-here", "#inside"]
    assert imaging_study["referrer"] == {"display": "Patient/not a reference"}


def test_collection_asks_for_nothing():
    assert all(e.keys() == {"fullUrl", "resource"} for e in bundle([study(), patient()], "collection")["entry"])  # fmt: skip


def test_batch_entries_do_not_refer_to_each_other_by_urn():
    made = bundle([study(), patient()], "batch", "create")
    assert "urn:uuid" not in json.dumps([e["resource"] for e in made["entry"]])
    assert [e["request"]["url"] for e in made["entry"]] == [key(patient()), key(study())]


def test_create_is_conditional_on_an_identifier_with_a_system():
    made = entries(bundle([study(), patient()], "transaction", "create"))
    assert made["Patient"]["request"] == {
        "method": "POST",
        "url": "Patient",
        "ifNoneExist": "identifier=urn:oid:1.2.3.4|7",
    }
    request = made["ImagingStudy"]["request"]
    assert request["ifNoneExist"] == f"identifier=urn:dicom:uid|urn:oid:{UIDS[0]}"
    assert "id" not in made["Patient"]["resource"]
    assert made["ImagingStudy"]["resource"]["subject"]["reference"] == made["Patient"]["fullUrl"]


def test_create_without_a_system_puts_to_the_id():
    bare = {**patient(), "identifier": [{"value": "7"}]}
    (made,) = bundle([bare], "transaction", "create")["entry"]
    assert made["request"]["method"] == "PUT"


def test_search_value_is_escaped():
    odd = {**patient(), "identifier": [{"system": "urn:x", "value": "a|b,c &#é"}]}
    (made,) = bundle([odd], "transaction", "create")["entry"]
    assert made["request"]["ifNoneExist"] == "identifier=urn:x|a%5C%7Cb%5C%2Cc%20%26%23%C3%A9"


def test_inputs_stay_and_order_changes_nothing():
    given = [study(), patient()]
    before = copy.deepcopy(given)
    assert json.dumps(bundle(given)) == json.dumps(bundle(reversed(given)))
    assert given == before


def test_id_tells_content_and_type():
    ids = {
        bundle([study(), patient()])["id"],
        bundle([study()])["id"],
        bundle([study(), patient()], "batch")["id"],
    }
    assert len(ids) == 3
    assert bundle([study()])["id"] == "2fbef561-ef43-5e61-b34b-da4cde8686a5"


def test_same_resource_twice_is_one_entry_and_nothing_is_an_empty_bundle():
    assert len(bundle([patient(), patient()])["entry"]) == 1
    assert "entry" not in bundle([])


def test_id_that_is_no_uuid_still_has_a_uuid_urn():
    assert full_url("Patient/77") != full_url("Patient/78")
    assert full_url("Patient/77").startswith("urn:uuid:")


def test_references_are_the_relative_ones():
    assert references(study()) == {f"Patient/{PATIENT}", "Endpoint/not-here"}
    versioned = {"subject": {"reference": "https://fhir.example.org/Patient/1"}}
    assert references(versioned) == set()


def test_entry_shares_what_it_does_not_change():
    held = study()
    assert entry(held, "collection", "put", lambda _: False)["resource"] is held


def links(*resources):
    return [(key(r), references(r)) for r in resources]


def test_group_never_tears_a_study_from_its_patient():
    resources = [patient("7"), patient("8"), *(study(uid, "7") for uid in UIDS[:3]), study(UIDS[3], "8")]  # fmt: skip
    groups = list(group(links(*resources), 3))
    for keys in groups:
        assert len(keys) <= 3
        for of in keys:
            for resource in resources:
                if key(resource) == of and of.startswith("ImagingStudy/"):
                    assert resource["subject"]["reference"] in keys
    assert {of for keys in groups for of in keys} == {key(r) for r in resources}


def test_group_without_limit_is_one_and_sorted():
    (keys,) = group(links(study(), patient()))
    assert keys == [key(patient()), key(study())]


def test_study_larger_than_the_limit_has_a_bundle_of_its_own():
    groups = list(group(links(study(UIDS[0]), study(UIDS[1]), patient()), 1))
    assert [len(keys) for keys in groups] == [2, 2]


def test_resource_that_no_study_names_is_not_lost():
    assert list(group(links(patient("9")), 5)) == [[key(patient("9"))]]


def test_circular_references_end():
    loop = [("A/1", ["B/1"]), ("B/1", ["A/1"])]
    assert list(group(loop, 1)) == [["A/1", "B/1"]]
